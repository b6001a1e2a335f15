"""The idle policy: which rules are on, whether what they say can be done, and what was done lately."""

from __future__ import annotations

from datetime import datetime, timedelta

from ...domain.policy import IdleAction, Verdict
from ...runtime.base import Runtime
from ...services.idle_policy import IdlePolicyService
from ...settings import Settings
from ...store import idle_decisions
from ...store.database import Database
from .findings import Finding, Level

LATELY = timedelta(days=1)


async def idle(
    subject: str,
    database: Database,
    settings: Settings,
    runtime: Runtime,
    policy: IdlePolicyService,
    now: datetime,
) -> list[Finding]:
    """Raises EngineUnavailable: it does not say whether it can freeze."""
    async with database.reading() as db:
        rules = await policy.policy_in(db)
        lately = await idle_decisions.count_since(db, now - LATELY)
    if not rules.is_on:
        return [Finding(Level.OK, subject, "No idle rule is on: instances run until they expire.")]
    if IdleAction.FREEZE in rules.actions:
        freezer = await runtime.freezer()
        why = freezer.why_not if settings.freezing.enabled else "freezing.enabled is off"
        if not (settings.freezing.enabled and freezer.can_freeze):
            text = f"A rule freezes idle instances, which this server cannot do: {why}. They keep running."
            return [Finding(Level.WARN, subject, text, "Choose “stop” for that rule (launchpad policy show).")]
    number = 1 + len(rules.rules)
    done = ", ".join(
        f"{lately.get(verdict, 0)} {word}"
        for verdict, word in ((Verdict.STOP, "stopped"), (Verdict.FREEZE, "frozen"), (Verdict.KEEP, "kept"))
    )
    text = f"{number} rule{'' if number == 1 else 's'}; {done} in the last 24 hours."
    return [Finding(Level.OK, subject, text)]
