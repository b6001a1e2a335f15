"""What cards and pages show of the idle policy: when an instance ends of it, what keeps it, and what was decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from ...domain.environments import Environment
from ...domain.idle_decisions import IdleDecision
from ...domain.instances import Instance, State
from ...domain.policy import Decision, Scope, Verdict, Why
from ...domain.sizes import describe_minutes
from ...domain.users import User
from ...domain.warnings import IdleEnd
from .words import left_in_words

SOON = timedelta(hours=1)
HOURS_OFFERED = (2, 8, 24, 72, 168)
WORDS = {Verdict.KEEP: "Kept running", Verdict.STOP: "Stopped", Verdict.FREEZE: "Frozen"}


class KnowsIdle(Protocol):
    """What is asked of the service that holds instances to the policy; it answers from memory."""

    def decision(self, instance: Instance, now: datetime) -> Decision | None: ...

    def end_of(self, instance: Instance, now: datetime | None = None) -> IdleEnd | None: ...


def scope_in_words(scope: Scope, catalogue: Mapping[str, Environment]) -> str:
    """As `Scope.in_words`, with the environment's title for its name."""
    environment = catalogue.get(scope.environment or "")
    return (scope if environment is None else replace(scope, environment=environment.title)).in_words


@dataclass(frozen=True)
class KeepChoice:
    """For how long its owner may keep it; `until` is where that leads."""

    hours: str
    label: str
    until: datetime


@dataclass(frozen=True)
class IdleCard:
    """
    Attributes:
        ends_at: when it is stopped or frozen unless it is used before; None: not as things are.
        verb: what is done then.
        left: how long until then, in words; empty where that is not soon.
        kept_until: until when its owner keeps it running, where that puts its end off.
        keep: for how long it may be kept; none where no rule applies to it, or nothing may be kept.
    """

    ends_at: datetime | None = None
    verb: str = "stops"
    left: str = ""
    kept_until: datetime | None = None
    keep: tuple[KeepChoice, ...] = ()


@dataclass(frozen=True)
class DecisionRow:
    """A decision as a line of a list."""

    id: int
    at: datetime
    verdict: str
    rule: str
    evidence: str
    instance_id: str
    title: str = ""
    owner_email: str = ""
    owner_id: str = ""


def idle_card(instance: Instance, idle: KnowsIdle, most_hours: int, now: datetime) -> IdleCard | None:
    """None where no rule applies to it, and of one that does not run or stands still.

    Args:
        most_hours: for how long an owner may keep an instance; 0: not at all.
    """
    if instance.state is not State.RUNNING or instance.is_to_be_frozen:
        return None
    decision = idle.decision(instance, now)
    if decision is None or decision.why is Why.NO_RULE:
        return None
    end = idle.end_of(instance, now)
    kept = instance.kept_until if instance.kept_until is not None and instance.kept_until > now else None
    soon = end is not None and _is_soon(end, now) and end.ends_at < instance.ends_at
    minute = now.replace(second=0, microsecond=0)
    return IdleCard(
        ends_at=end.ends_at if end is not None else None,
        verb="is frozen" if end is not None and end.freezes else "stops",
        left=left_in_words(end.ends_at, now) if end is not None and soon else "",
        kept_until=kept,
        keep=keep_choices(instance, most_hours, minute),
    )


def _is_soon(end: IdleEnd, now: datetime) -> bool:
    """Within the hour; of a short rule in the second half of its time, so that nobody is told while they work."""
    return end.ends_at - now < min(SOON, (end.ends_at - end.idle_since) / 2)


def keep_choices(instance: Instance, most_hours: int, now: datetime) -> tuple[KeepChoice, ...]:
    """One for each end that they lead to, the longest last."""
    choices: dict[datetime, KeepChoice] = {}
    for hours in sorted({*(one for one in HOURS_OFFERED if one < most_hours), most_hours} - {0}):
        until = min(now + timedelta(hours=hours), instance.expires_at)
        if until > now:
            label = describe_minutes(hours * 60) if until < instance.expires_at else "Until it expires"
            choices.setdefault(until, KeepChoice(str(hours), label, until))
    return tuple(choices.values())


def decision_rows(
    decisions: Sequence[IdleDecision],
    catalogue: Mapping[str, Environment] | None = None,
    owners: Mapping[str, User] | None = None,
) -> list[DecisionRow]:
    """As a list shows them.

    Args:
        catalogue, owners: where instances of several people are in it.
    """
    rows = []
    for one in decisions:
        environment = (catalogue or {}).get(one.environment)
        owner = (owners or {}).get(one.owner_id)
        rows.append(
            DecisionRow(
                id=one.id,
                at=one.at,
                verdict=WORDS[one.verdict],
                rule=one.rule,
                evidence=one.evidence,
                instance_id=one.instance_id,
                title=environment.title if environment is not None else one.environment,
                owner_email=owner.email if owner is not None else "",
                owner_id=one.owner_id,
            )
        )
    return rows
