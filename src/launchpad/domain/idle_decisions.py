"""What the idle policy has decided of an instance, as it is kept for its owner and for administrators. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from .ends import moment_of_day
from .policy import Decision, Verdict, Why

EVIDENCE_LENGTH = 500
AGAIN_AFTER = timedelta(hours=6)  # what keeps an instance for long is written down again after so long


@dataclass(frozen=True)
class IdleDecision:
    """
    Attributes:
        verdict: what was done: kept, stopped or frozen.
        rule: the rule that applied, and whom it names, in words.
        evidence: what it rests on, in the user's words, with its moments in UTC.
        idle_since: since when neither a person nor work was seen; None: it worked, or nothing was known.
    """

    instance_id: str
    owner_id: str
    environment: str
    at: datetime
    verdict: Verdict
    why: Why
    rule: str
    evidence: str
    idle_since: datetime | None = None
    id: int = 0


def is_worth_noting(
    decision: Decision,
    idle_time: timedelta,
    last_person_at: datetime | None,
    before: IdleDecision | None,
    now: datetime,
) -> bool:
    """Whether it is to be recorded that an instance goes on: only where nobody has been there for so long that it would
    not, but for what the decision names; and the same not again and again.

    Args:
        idle_time: of the rule that applies.
        before: the decision of the same instance that was recorded last.
    """
    if decision.why in (Why.NO_RULE, Why.IDLE) or last_person_at is None or now - last_person_at < idle_time:
        return False
    if before is None or before.why is not decision.why or before.at < last_person_at:
        return True
    return now - before.at >= AGAIN_AFTER


def reason_of(idle_since: datetime) -> str:
    """Why it was ended or frozen, in its owner's words."""
    return f"idle since {moment_of_day(idle_since)}: no person and no work"


def evidence_of(
    decision: Decision,
    last_person_at: datetime | None,
    last_work_at: datetime | None,
    watched_since: datetime | None,
) -> str:
    """In words, with the moments that it rests on."""
    parts = [decision.evidence]
    if last_person_at is not None:
        parts.append(f"a person was last seen on {moment_of_day(last_person_at)}")
    if decision.why is not Why.WORKING:
        parts.append(
            f"work was last seen on {moment_of_day(last_work_at)}" if last_work_at is not None else "no work was seen"
        )
    if watched_since is not None:
        parts.append(f"watched without a gap since {moment_of_day(watched_since)}")
    return "; ".join(parts)[:EVIDENCE_LENGTH]
