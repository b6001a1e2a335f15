"""The tables `[idle]` and `[[idle_rules]]` of the settings: what becomes of instances that nobody uses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from pydantic import Field

from ..domain.policy import LONGEST_MINUTES, SHORTEST_MINUTES, IdleAction, IdlePolicy, IdleRule, Scope
from ..domain.policy_codec import scope_of, scope_problems
from .values import Section

ActionName = Literal["none", "stop", "freeze"]


class IdleSettings(Section):
    """What becomes of an instance without a person and without work, and how carefully that is decided."""

    action: ActionName = Field(
        "none",
        description="What is done to an idle instance of everyone without a rule of their own: `stop`, `freeze`, or "
        "`none`. The console changes it.",
    )
    idle_minutes: int = Field(
        240,
        ge=SHORTEST_MINUTES,
        le=LONGEST_MINUTES,
        description="After so long without a person and without work. The console changes it.",
    )
    settle_minutes: int = Field(
        10,
        ge=0,
        le=1440,
        description="Nothing is stopped or frozen for being idle before an instance has run for so long since its "
        "start or thaw, and before the portal has watched for so long since its own start, an outage or a jump of "
        "the clock.",
    )
    keep_hours: int = Field(
        72,
        ge=0,
        le=8784,
        description="How many hours at most an owner may keep an idle instance running. 0: not at all.",
    )
    decision_days: int = Field(90, ge=1, description="How long it is kept what was decided, and why.")

    @property
    def settle(self) -> timedelta:
        return timedelta(minutes=self.settle_minutes)


class IdleRuleSettings(Section):
    """Another rule for an environment, a lab or a person; of several that fit the most specific applies."""

    environment: str | None = Field(None, description="The environment's name. Empty: any.")
    lab: str | None = Field(None, max_length=100, description="The lab's name. Empty: any, and people without a lab.")
    user: str | None = Field(None, description="A person's e-mail address. Empty: anybody.")
    action: ActionName = Field("none", description="`stop`, `freeze`, or `none`, which exempts whom the rule names.")
    idle_minutes: int = Field(
        240, ge=SHORTEST_MINUTES, le=LONGEST_MINUTES, description="After so long without a person and without work."
    )

    @property
    def scope(self) -> Scope:
        return scope_of(self.environment, self.lab, self.user)

    @property
    def rule(self) -> IdleRule:
        return IdleRule(IdleAction(self.action), self.idle_minutes)


def idle_policy(idle: IdleSettings, rules: Sequence[IdleRuleSettings]) -> IdlePolicy:
    """What the settings say."""
    everyone = IdleRule(IdleAction(idle.action), idle.idle_minutes)
    return IdlePolicy(everyone, {one.scope: one.rule for one in rules})


def check_idle_rules(rules: Sequence[IdleRuleSettings], environments: Sequence[str]) -> None:
    """Raises ValueError for a rule about nobody in particular, one that names what there is not, and for two of one."""
    seen = set()
    for one in rules:
        if one.scope == Scope():
            raise ValueError("idle_rules: name an environment, a lab or a user; the rule for everyone is [idle]")
        for field, text in scope_problems(one.scope, environments).items():
            raise ValueError(f"idle_rules: {field}: {text}")
        if one.scope in seen:
            raise ValueError(f"idle_rules has two rules for {one.scope.in_words}")
        seen.add(one.scope)
