"""What the API says and takes of idle rules, of what they make of an instance, and of what was decided."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from ..domain.idle_decisions import IdleDecision
from ..domain.policy import LONGEST_MINUTES, SHORTEST_MINUTES, IdleAction, IdlePolicy, IdleRule, Verdict, Why
from ..domain.policy_codec import policy_of, policy_table
from ..domain.users import User
from ..errors import InvalidInput
from .schemas import Body

Minutes = Field(240, ge=SHORTEST_MINUTES, le=LONGEST_MINUTES, description="Without a person and without work.")


class RuleBody(Body):
    action: IdleAction = Field(description="`stop`, `freeze`, or `none`: nothing is done.")
    idle_minutes: int = Minutes

    def rule(self) -> IdleRule:
        return IdleRule(self.action, self.idle_minutes)


class ScopedRuleBody(RuleBody):
    """A rule for an environment, a lab (or a person), or both; the most specific that fits applies."""

    environment: str | None = Field(None, max_length=100)
    lab: str | None = Field(None, max_length=100)
    user: str | None = Field(None, max_length=254, description="An e-mail address.")


class PoliciesBody(Body):
    """Replaces all rules."""

    everyone: RuleBody
    rules: list[ScopedRuleBody] = Field([], max_length=10_000)

    def policy(self) -> IdlePolicy:
        """Raises InvalidInput where two rules are about the same."""
        policy = policy_of(self.model_dump())
        if len(policy.rules) != len(self.rules):
            raise InvalidInput("These rules cannot be set.", fields={"rules": "two of them are about the same"})
        return policy


class RuleView(BaseModel):
    action: IdleAction
    idle_minutes: int


class ScopedRuleView(RuleView):
    environment: str | None
    lab: str | None
    user: str | None


class PoliciesView(BaseModel):
    """Of several rules that fit, one for a user applies before one for a lab, that before one for an environment."""

    everyone: RuleView
    rules: list[ScopedRuleView]

    @classmethod
    def of(cls, policy: IdlePolicy) -> PoliciesView:
        return cls.model_validate(policy_table(policy))


class KeepBody(Body):
    hours: float = Field(ge=0, le=8784, description="From now on; 0: no longer.")


class DecisionView(BaseModel):
    """What the idle policy decided. `verdict` is what was done, `why` what decided, `evidence` what it rests on."""

    id: int
    at: datetime
    instance_id: str
    environment: str
    verdict: Verdict
    why: Why
    rule: str
    evidence: str
    idle_since: datetime | None

    @classmethod
    def of(cls, one: IdleDecision) -> DecisionView:
        return cls(
            id=one.id,
            at=one.at,
            instance_id=one.instance_id,
            environment=one.environment,
            verdict=one.verdict,
            why=one.why,
            rule=one.rule,
            evidence=one.evidence,
            idle_since=one.idle_since,
        )


class AdminDecisionView(DecisionView):
    owner_id: str
    owner: str = Field(description="The owner's e-mail address.")

    @classmethod
    def of_owner(cls, one: IdleDecision, owner: User | None) -> AdminDecisionView:
        whose = {"owner_id": one.owner_id, "owner": owner.email if owner is not None else ""}
        return cls(**DecisionView.of(one).model_dump(), **whose)
