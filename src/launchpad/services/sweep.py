"""The periodic pass over all instances. Idempotent; two at once, or one that dies midway, do no harm."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.announcements import MAINTENANCE, Announcement, maintenance_now
from ..domain.ends import REASON_LENGTH
from ..domain.instances import Instance, State, next_transition
from ..errors import EngineRefused, EngineUnavailable, LaunchpadError
from ..store import (
    announcements,
    audit,
    challenges,
    gate,
    idle_decisions,
    instance_logs,
    instances,
    known_browsers,
    kv,
    logins,
    mail_failures,
    passkeys,
    warnings,
)
from ..store.database import Database
from .admission import AdmissionService
from .audit import SWEEP
from .background import Loop, periodic
from .clock_guard import ClockGuard, Seen
from .grace import GraceService
from .outcomes import Outcome
from .runner import InstanceRunner

log = structlog.get_logger(__name__)

KEEP_CHALLENGES = timedelta(days=2)  # longer than the longest limit on sends, which counts a day

KEEP_LOGS = timedelta(days=30)  # of ended instances: long enough to ask about them, and no archive
KEEP_WARNINGS = timedelta(days=30)  # after the ends that they were about
KEEP_ANNOUNCEMENTS = timedelta(days=1)  # after their end; the audit says that there were
KEEP_BROWSERS = timedelta(days=400)  # as long as browsers keep the cookie
LATE_AFTER_SECONDS = 180.0
LAST_SWEEP = "sweep.last"  # key of the record of when the last pass began that came to its end


class SweepService:
    def __init__(
        self,
        database: Database,
        runner: InstanceRunner,
        admission: AdmissionService,
        clock: ClockGuard,
        grace: GraceService,
        audit_days: int,
        ended_instance_days: int,
        longest_frozen: timedelta | None = None,
        decision_days: int = 90,
    ) -> None:
        self._clock = clock
        self._longest_frozen = longest_frozen
        self._keep_audit = timedelta(days=audit_days)
        self._keep_decisions = timedelta(days=decision_days)
        self._keep_ended = max(timedelta(days=ended_instance_days), KEEP_LOGS)  # a log goes with its row
        self._database = database
        self._runner = runner
        self._admission = admission
        self._grace = grace

    def loops(self, every_seconds: float, now: Callable[[], datetime]) -> list[Loop]:
        """One that sweeps; none where `every_seconds` is 0, and a timer does it."""
        if not every_seconds:
            return []

        async def work() -> None:
            for outcome in await self.sweep(now()):
                log.info("sweep", instance=outcome.instance_id, action=outcome.action, reason=outcome.reason)

        late = max(LATE_AFTER_SECONDS, every_seconds * 3)
        return [
            periodic(
                "sweep",
                work,
                every_seconds=every_seconds,
                late_after_seconds=late,
                first_after_seconds=every_seconds,
                longest_retry_seconds=every_seconds,
            )
        ]

    async def sweep(self, now: datetime) -> list[Outcome]:
        """Ends what has expired or a maintenance ends, puts rows and engine in agreement, lets those start that wait,
        forgets what is old. What is visibly working as its time runs out goes on for a while (`GraceService`).

        Returns what was done and why. What takes time (saving, stopping) goes on in the background;
        `InstanceRunner.wait` waits for it. An engine that does not answer is an outcome of its own, and nothing is
        decided without it. Nothing is done in a process that does not own the work.
        """
        if not self._runner.is_owner:
            return []
        outcomes: list[Outcome] = []
        try:
            outcomes += await self._runner.reconcile_all()
        except (EngineUnavailable, EngineRefused) as error:
            log.warning("sweep.engine_unavailable", detail=error.detail)
            outcomes.append(Outcome("-", "engine unavailable", error.detail))
        async with self._database.reading() as db:
            seen = await self._clock.look(db, now)
        if self._clock.believes(seen):
            outcomes += await self._expire(now)
            outcomes += await self._end_frozen(now)
        else:
            outcomes.append(Outcome("-", "nothing expired", "the server's clock jumped; see “launchpad doctor”"))
        outcomes += await self._admission.admit(now)
        await self._finish(seen, now)
        return outcomes

    async def _expire(self, now: datetime) -> list[Outcome]:
        async with self._database.reading() as db:
            live = await instances.in_states(db, State.STARTING, State.RUNNING)  # admission sees to what queues
            maintenance = maintenance_now(await announcements.not_over(db, now), now)
            if maintenance is not None:
                live += await instances.in_states(db, State.QUEUED)
        await self._grace.look_after([one for one in live if one.state is State.RUNNING])
        outcomes = []
        for instance in live:
            due = next_transition(instance, now)
            if due is None and maintenance is None:
                continue
            try:
                if maintenance is not None:
                    outcomes += await self._end_for(maintenance, instance, now)
                elif due is not None and not await self._grace.goes_on(instance, now):
                    outcomes += await self._end(instance, *due, now)
            except LaunchpadError as error:  # one that fails never stops the rest
                log.warning("sweep.item_failed", instance=instance.id, detail=error.detail)
                outcomes.append(Outcome(instance.id, "unchanged", error.detail))
        return outcomes

    async def _end_frozen(self, now: datetime) -> list[Outcome]:
        """Ends what has stood still for as long as it may."""
        async with self._database.reading() as db:
            frozen = await instances.to_be_frozen(db)
        outcomes = []
        for instance in frozen:
            until = instance.frozen_until(self._longest_frozen)
            if until is None or now < until:
                continue
            reason = f"frozen since {instance.frozen_at:%-d %B %Y at %H:%M} UTC, the longest allowed"
            if await self._runner.end(
                instance, State.EXPIRED, reason, now, actor=SWEEP, only_frozen_since=instance.frozen_at
            ):
                outcomes.append(Outcome(instance.id, str(State.EXPIRED), reason))
        return outcomes

    async def _end(self, instance: Instance, state: State, reason: str, now: datetime) -> list[Outcome]:
        ended = await self._runner.end(instance, state, reason, now, actor=SWEEP, only_expired=True)
        return [Outcome(instance.id, str(state), reason)] if ended else []

    async def _end_for(self, maintenance: Announcement, instance: Instance, now: datetime) -> list[Outcome]:
        reason = f"{MAINTENANCE}: {maintenance.text}"[:REASON_LENGTH]
        ended = await self._runner.end(instance, State.STOPPED, reason, now, actor=SWEEP)
        return [Outcome(instance.id, str(State.STOPPED), reason)] if ended else []

    async def _finish(self, seen: Seen, now: datetime) -> None:
        """Forgets what is old, and records that there was a pass."""
        async with self._database.transaction() as db:
            await self._clock.record(db, seen, now)
            if self._clock.believes(seen):
                await self._prune(db, now)
            await kv.put(db, LAST_SWEEP, now.isoformat(), now)

    async def _prune(self, db: AsyncConnection, now: datetime) -> None:
        await challenges.prune(db, now - KEEP_CHALLENGES)
        await logins.prune(db, now)
        await gate.prune(db, now)
        await passkeys.prune(db, now)
        await audit.prune(db, now - self._keep_audit, now)
        await instance_logs.prune(db, now - KEEP_LOGS)
        await instances.prune(db, now - self._keep_ended)  # their records in the history stay
        await known_browsers.prune(db, now - KEEP_BROWSERS)
        await mail_failures.prune(db, now - self._keep_audit)
        await idle_decisions.prune(db, now - self._keep_decisions)
        await warnings.prune(db, now - KEEP_WARNINGS)
        await announcements.prune(db, now - KEEP_ANNOUNCEMENTS)

    async def last(self) -> datetime | None:
        """When the last pass began that came to its end, by whichever process; None: there was none yet."""
        async with self._database.reading() as db:
            found = await kv.get(db, LAST_SWEEP)
        return None if found is None else datetime.fromisoformat(found)

    async def clock_held(self) -> tuple[timedelta, float] | None:
        """How far the server's clock jumped, and for how many seconds nothing expires yet; None: it is believed."""
        async with self._database.reading() as db:
            return await self._clock.held(db)
