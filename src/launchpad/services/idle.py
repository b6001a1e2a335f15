"""Holds instances to the idle policy: watches them, says when they end of it, and ends or freezes what is due.

The process that owns the work decides and acts. The others know the same, from the same rows and what is known of
activity there: since when each instance has been watched without a gap (`idle_watches`), and from when on anything is
done at all (a record of the last pass).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.activity import Activity
from ..domain.idle_decisions import IdleDecision, evidence_of, is_worth_noting, reason_of
from ..domain.instances import Instance, State
from ..domain.policy import Decision, IdleAction, IdlePolicy, IdleRule, Scope, Verdict, Why, decide, watched
from ..domain.users import User
from ..domain.warnings import IdleEnd
from ..errors import EngineUnavailable, LaunchpadError
from ..settings.idle import IdleSettings
from ..store import activity_latest, idle_decisions, idle_watches, instances, kv, users
from ..store.database import Database
from ..store.idle_watches import Watch
from .activity import KnowsActivity
from .audit import SYSTEM
from .background import Loop, periodic
from .clock_guard import ClockGuard
from .freezing import FreezingService
from .idle_policy import IdlePolicyService
from .runner import InstanceRunner

log = structlog.get_logger(__name__)

PASSED = "idle.passed"  # key of the record of the last pass
# What a person does in another process is written down within this time: only then is an idle time over.
NOTED_WITHIN = timedelta(seconds=25)
SHORTEST_GAP_SECONDS = 180.0
LATE_AFTER_SECONDS = 180.0


@dataclass(frozen=True)
class _Held:
    """An instance as of the last pass, the rule that it is held to, and since when it has been watched for it."""

    instance: Instance
    scope: Scope
    rule: IdleRule
    watched_since: datetime | None

    @property
    def rule_in_words(self) -> str:
        return f"{self.rule.in_words} ({self.scope.in_words})"


@dataclass(frozen=True)
class _Passed:
    """When the last pass was, and from when on that process does anything."""

    at: datetime
    not_before: datetime


class IdleService:
    """
    Args:
        activity: what goes on in instances.
        clock: whether the server's clock may be believed.
        sample_seconds: between two looks at what goes on.
    """

    def __init__(
        self,
        database: Database,
        settings: IdleSettings,
        policy: IdlePolicyService,
        activity: KnowsActivity,
        runner: InstanceRunner,
        freezing: FreezingService,
        clock: ClockGuard,
        sample_seconds: float,
    ) -> None:
        self._database = database
        self._settings = settings
        self._policy = policy
        self._activity = activity
        self._runner = runner
        self._freezing = freezing
        self._clock = clock
        self._sample_seconds = sample_seconds
        self._gap = longest_gap(sample_seconds)
        self._held: dict[str, _Held] = {}
        self._passed: _Passed | None = None
        self.looked_at: datetime | None = None  # the last pass of this process
        self._owned_since: datetime | None = None
        self._seen_at: dict[str, datetime] = {}  # the newest look at each instance that was taken into account
        self._noted: dict[str, IdleDecision] = {}  # the decision of each instance that was recorded last

    # -- what is known -------------------------------------------------------------------------------------------------

    def decision(self, instance: Instance, now: datetime) -> Decision | None:
        """What the policy makes of a running instance now; None: nothing is known of it yet, or it does not apply."""
        held = self._held.get(instance.id)
        return self._decide(held, instance, now) if held is not None and _applies(instance) else None

    def end_of(self, instance: Instance, now: datetime | None = None) -> IdleEnd | None:
        """When an instance ends, or is frozen, unless it is used or works before; None: not for being idle.

        Args:
            now: None: as of the last pass.
        """
        at = now or self.looked_at
        found = self.decision(instance, at) if at is not None else None
        if found is None or found.verdict is Verdict.KEEP or found.at is None or found.idle_since is None:
            return None
        return IdleEnd(found.at, found.idle_since, freezes=found.verdict is Verdict.FREEZE)

    def idle_ends(self) -> Mapping[str, IdleEnd]:
        """Of all running instances, as of the last pass."""
        ends = {one: self.end_of(held.instance) for one, held in self._held.items()}
        return {one: end for one, end in ends.items() if end is not None}

    def rule_in_words(self, instance_id: str) -> str:
        """The rule that a running instance is held to, and whom it names."""
        held = self._held.get(instance_id)
        return held.rule_in_words if held is not None else ""

    def took(self, instance: Instance) -> None:
        """An instance has just been changed in this process: it is known at once."""
        if (held := self._held.get(instance.id)) is not None:
            self._held[instance.id] = replace(held, instance=instance)

    async def decided_since(self, at: datetime) -> dict[Verdict, int]:
        """How many decisions were recorded since then, by what was done."""
        async with self._database.reading() as db:
            return await idle_decisions.count_since(db, at)

    def _decide(self, held: _Held, instance: Instance, now: datetime, person_at: datetime | None = None) -> Decision:
        """
        Args:
            person_at: when a person was there, as far as others have written it down.
        """
        seen = self._activity.latest(instance.id)
        since = held.watched_since if seen is not None and self._is_fresh(seen, now) else None
        calm = [at + self._settings.settle for at in (since, instance.started_at) if at is not None]
        if self._passed is not None:
            calm.append(self._passed.not_before)
        persons = [at for at in (seen.last_person_at if seen else None, person_at) if at is not None]
        return decide(
            held.rule,
            last_person_at=max(persons, default=None),
            last_work_at=seen.last_work_at if seen is not None else None,
            is_working=seen is not None and seen.work.is_working,
            evidence=seen.work.evidence if seen is not None else "",
            watched_since=since,
            kept_until=instance.kept_until,
            not_before=max(calm, default=None),
            now=now,
        )

    def _is_fresh(self, seen: Activity, now: datetime) -> bool:
        return abs(now - seen.sample.sampled_at) <= self._gap

    # -- the loop ------------------------------------------------------------------------------------------------------

    def loop(self, now: Callable[[], datetime]) -> Loop:
        """Decides in the process that owns the work, and reads in the others."""

        async def work() -> None:
            await (self.tend(now()) if self._runner.is_owner else self.read(now()))

        return periodic(
            "idle",
            work,
            every_seconds=self._sample_seconds,
            late_after_seconds=max(LATE_AFTER_SECONDS, 4 * self._sample_seconds),
            longest_retry_seconds=self._sample_seconds,
            owner_only=False,
        )

    async def read(self, now: datetime) -> None:
        """Takes over what the process that decides knows."""
        self._owned_since = None
        self._seen_at.clear()
        self._noted.clear()
        async with self._database.reading() as db:
            running, owners, policy = await self._all_in(db)
            watches = await idle_watches.all_of(db)
            self._passed = _passed_of(await kv.get(db, PASSED))
        if self._passed is None or abs(now - self._passed.at) > self._gap:
            watches = {}  # nobody watches
        self._held = {one.id: _held(one, owners, policy, watches) for one in running}
        self.looked_at = now

    async def tend(self, now: datetime) -> list[str]:
        """One pass of the owner: watches, and stops or freezes what is due; returns what it did that to."""
        async with self._database.reading() as db:
            believed = self._clock.believes(await self._clock.look(db, now))
            running, owners, policy = await self._all_in(db)
            before = await idle_watches.all_of(db)
            passed = _passed_of(await kv.get(db, PASSED))
            if self._owned_since is None:
                self._noted = await idle_decisions.latest_of(db, [one.id for one in running])
        if self._owned_since is None or not believed:
            self._owned_since = now
        passed_at = passed.at if passed is not None else None
        self._passed = _Passed(now, self._owned_since + self._settings.settle)
        self.looked_at = now
        watches = {
            one.id: watch
            for one in running
            if believed
            and (watch := self._watch(one, _rule(one, owners, policy)[1], before.get(one.id), passed_at, now))
        }
        self._seen_at = {one: at for one, at in self._seen_at.items() if one in watches}
        self._held = {one.id: _held(one, owners, policy, watches) for one in running}
        self._noted = {one: noted for one, noted in self._noted.items() if one in self._held}
        await self._write(before, watches, now)
        kept: dict[str, IdleDecision] = {}
        acted = [one.id for one in running if await self._one(self._held[one.id], kept, now)]
        self._runner.ends_committed([one for one in acted if self._held[one].rule.action is IdleAction.STOP])
        # One that is thawed before the next pass is not said to have an end that is past.
        self._held |= {one: replace(self._held[one], watched_since=None) for one in acted}
        if kept:  # of thousands in one pass, where nothing is known of any
            async with self._database.transaction() as db:
                await idle_decisions.add(db, *kept.values())
            self._noted |= kept
        return acted

    async def _all_in(self, db: AsyncConnection) -> tuple[list[Instance], Mapping[str, User], IdlePolicy]:
        running = await instances.in_states(db, State.RUNNING)
        owners = await users.by_ids(db, {one.owner_id for one in running})
        return running, owners, await self._policy.policy_in(db)

    def _watch(
        self, instance: Instance, rule: IdleRule, before: Watch | None, passed_at: datetime | None, now: datetime
    ) -> Watch | None:
        """None: it is not to be watched, or nothing is known of what it does now."""
        seen = self._activity.latest(instance.id)
        if not rule.is_on or not _applies(instance) or seen is None or not self._is_fresh(seen, now):
            return None
        sampled_at = seen.sample.sampled_at
        earlier = before.since if before is not None and before.rule == rule else None
        since = watched(earlier, self._seen_at.get(instance.id, passed_at), sampled_at, self._gap)
        self._seen_at[instance.id] = sampled_at
        return Watch(since, rule)

    async def _write(self, before: Mapping[str, Watch], watches: Mapping[str, Watch], now: datetime) -> None:
        """What has changed, and that there was a pass. Nothing while no rule is on."""
        if not before and not watches:
            return
        new = {one: watch for one, watch in watches.items() if before.get(one) != watch}
        async with self._database.transaction() as db:
            await idle_watches.forget(db, before.keys() - watches.keys())
            await idle_watches.put(db, new)
            if self._passed is not None:
                await kv.put(db, PASSED, _written(self._passed), now)

    # -- what is done --------------------------------------------------------------------------------------------------

    async def _one(self, held: _Held, kept: dict[str, IdleDecision], now: datetime) -> bool:
        """Whether one of many was stopped or frozen; its failure stops no other.

        Args:
            kept: gets what is to be recorded of one that goes on.
        """
        found = self.decision(held.instance, now)
        if found is None:
            return False
        try:
            if not found.is_due(now - NOTED_WITHIN):
                self._note(held, found, kept, now)
                return False
            if found.verdict is Verdict.FREEZE:
                return await self._freeze(held, found, kept, now)
            return await self._stop(held, found, now)
        except LaunchpadError as error:
            log.warning("idle.item_failed", instance=held.instance.id, detail=error.detail)
            return False

    async def _stop(self, held: _Held, found: Decision, now: datetime) -> bool:
        async with self._database.transaction() as db:
            there = await instances.by_id(db, held.instance.id)
            if there is None or not await self._is_still_due(db, held, there, found, now):
                return False
            return await self._runner.end_in(db, there, State.STOPPED, _reason(found), SYSTEM, now)

    async def _freeze(self, held: _Held, found: Decision, kept: dict[str, IdleDecision], now: datetime) -> bool:
        try:
            can = await self._freezing.capability()
        except EngineUnavailable:
            return False
        if not can.can_freeze:
            why = f"instances cannot be frozen on this server: {can.why_not}"
            self._note(held, Decision(Verdict.KEEP, Why.CANNOT, why, None, found.idle_since), kept, now)
            return False

        async def is_still_due(db: AsyncConnection, there: Instance) -> bool:
            return await self._is_still_due(db, held, there, found, now)

        return await self._freezing.freeze(held.instance.id, now, _reason(found), only_if=is_still_due)

    async def _is_still_due(
        self, db: AsyncConnection, held: _Held, there: Instance, found: Decision, now: datetime
    ) -> bool:
        """Within the transaction that acts: whether nothing has happened since; then the decision is recorded."""
        owners = await users.by_ids(db, {there.owner_id})
        if not _applies(there) or _rule(there, owners, await self._policy.policy_in(db)) != (held.scope, held.rule):
            return False
        watch = await idle_watches.of(db, there.id)
        if watch is None or watch.since != held.watched_since:
            return False  # it was thawed, or another process watches it
        again = self._decide(held, there, now, await activity_latest.last_person_at(db, there.id))
        if again != found:
            return False
        await idle_decisions.add(db, self._record(held, found, now))
        return True

    def _note(self, held: _Held, found: Decision, kept: dict[str, IdleDecision], now: datetime) -> None:
        """Why an instance goes on in which nobody has been for so long is to be recorded, where that is worth it."""
        seen = self._activity.latest(held.instance.id)
        person_at = seen.last_person_at if seen is not None else held.instance.started_at
        noted = self._noted.get(held.instance.id)
        if is_worth_noting(found, held.rule.idle_time, person_at, noted, now):
            goes_on = Decision(Verdict.KEEP, found.why, found.evidence, None, found.idle_since)
            kept[held.instance.id] = self._record(held, goes_on, now)

    def _record(self, held: _Held, found: Decision, now: datetime) -> IdleDecision:
        instance, seen = held.instance, self._activity.latest(held.instance.id)
        person_at, work_at = (seen.last_person_at, seen.last_work_at) if seen is not None else (None, None)
        return IdleDecision(
            instance_id=instance.id,
            owner_id=instance.owner_id,
            environment=instance.environment,
            at=now,
            verdict=found.verdict,
            why=found.why,
            rule=held.rule_in_words,
            evidence=evidence_of(found, person_at, work_at, held.watched_since),
            idle_since=found.idle_since,
        )


def longest_gap(sample_seconds: float) -> timedelta:
    """Between two looks at an instance: after a longer one it is watched anew."""
    return timedelta(seconds=max(SHORTEST_GAP_SECONDS, 4 * sample_seconds))


def _applies(instance: Instance) -> bool:
    """Whether it runs, neither stands still nor is about to, and has time left of its own."""
    return instance.state is State.RUNNING and not instance.is_to_be_frozen and not instance.has_grace


def _rule(instance: Instance, owners: Mapping[str, User], policy: IdlePolicy) -> tuple[Scope, IdleRule]:
    owner = owners.get(instance.owner_id)
    return policy.rule_for(instance.environment, owner.lab if owner else None, owner.email if owner else "")


def _held(instance: Instance, owners: Mapping[str, User], policy: IdlePolicy, watches: Mapping[str, Watch]) -> _Held:
    scope, rule = _rule(instance, owners, policy)
    watch = watches.get(instance.id)
    return _Held(instance, scope, rule, watch.since if watch is not None and watch.rule == rule else None)


def _reason(found: Decision) -> str:
    if found.idle_since is None:
        raise ValueError("what is not idle is not ended for it")
    return reason_of(found.idle_since)


def _passed_of(value: dict[str, str] | None) -> _Passed | None:
    if value is None:
        return None
    return _Passed(datetime.fromisoformat(value["at"]), datetime.fromisoformat(value["not_before"]))


def _written(passed: _Passed) -> dict[str, str]:
    return {"at": passed.at.isoformat(), "not_before": passed.not_before.isoformat()}
