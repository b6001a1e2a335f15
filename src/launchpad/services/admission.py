"""Lets launches start: at once where they may, else by the queue, as soon as what they wait for is free.

What is decided stands in `domain/admission.py`, and in which order in `domain/fair_share.py`. Whoever frees capacity
sets a signal that both are given, and the feed of changes sets it too, since another process may have freed something;
nobody here is called back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.admission import START_COUNTS_FOR, Decision, Verdict, on_launch
from ..domain.instances import Instance, Stage, State
from ..domain.lab_capacity import largest_for
from ..domain.limits import Capacity, Limits, Use, quota_problems
from ..domain.room import KnownEnd, Reservation, Room
from ..domain.sizes import describe_bytes, describe_cpus
from ..domain.users import User
from ..errors import Conflict, EngineUnavailable, QuotaExceeded
from ..store import instances, users
from ..store.changes import EVERYTHING, Change
from ..store.database import Database
from .audit import SWEEP
from .background import Beat, Loop, continuous
from .end_recorder import EndRecorder
from .offers import OfferService
from .outcomes import Outcome
from .queue_mails import QueueMails
from .queue_plan import Plan, QueuePlanner
from .runner import InstanceRunner
from .signals import Signal

# A start that hangs stops to count after a while (`START_COUNTS_FOR`), and nothing tells that this has come.
LOOK_AGAIN_SECONDS = 5.0
GATHER_SECONDS = 0.05  # what happens at the same time, as when a class clicks, is looked at once
LATE_AFTER_SECONDS = 60.0
ENGINE_PATIENCE_SECONDS = 15.0  # a click just after a start, while a busy engine has not said yet what its host has
CONCERNED = {"instances", "users", "kv", EVERYTHING.table}  # tables whose changes can let somebody start


@dataclass(frozen=True)
class Server:
    """What does not depend on what is live: the capacity, and how many may start at the same time."""

    capacity: Capacity
    starts_at_once: int


class AdmissionService:
    """`now` is a function here for the loop, which runs for ever; what is asked for gets it passed in."""

    def __init__(
        self,
        database: Database,
        offers: OfferService,
        planner: QueuePlanner,
        mails: QueueMails,
        recorder: EndRecorder,
        runner: InstanceRunner,
        freed: Signal,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._offers = offers
        self._planner = planner
        self._outgoing = mails
        self._recorder = recorder
        self._runner = runner
        self._freed = freed
        self._now = now

    async def server(self) -> Server:
        """Raises EngineUnavailable where the engine has not answered once yet, nor does now."""
        capacity = await self._offers.capacity(patience_seconds=ENGINE_PATIENCE_SECONDS)
        return Server(capacity, await self._offers.starts_at_once())

    async def on_launch(
        self, db: AsyncConnection, owner: User, limits: Limits, server: Server, now: datetime
    ) -> Stage | None:
        """What a launch waits for, within the transaction that records it; None: it starts at once.

        Raises:
            QuotaExceeded: it goes over the owner's quota, or beyond what the server, or their lab, has at all.
        """
        room = await self._planner.room_now(db, await self._empty_room(db, server, now))
        if not room.can_ever_hold(limits, owner.lab):
            raise QuotaExceeded(_too_large(room, limits, owner.lab))
        allowed = (await self._offers.limits_in(db, server.capacity)).instances_per_user
        over = quota_problems(owner.quota, allowed, await instances.reserved(db, owner.id), limits)
        if over:
            text = "; ".join(f"{field}: {problem}" for field, problem in over.items())
            raise QuotaExceeded(f"That is more than you may use at once. {text[:1].upper()}{text[1:]}.", fields=over)
        return on_launch(limits, room, await instances.queue(db), owner.lab)

    async def on_extension(self, db: AsyncConnection, owner: User, instance: Instance) -> None:
        """Raises QuotaExceeded where the owner may no longer have what they have live: the quota was lowered since."""
        allowed = (await self._offers.limits_in(db, None)).instances_per_user
        limits, live = instance.limits, await instances.reserved(db, owner.id)
        others = Use(live.memory_bytes - limits.memory_bytes, live.cpus - limits.cpus, live.instances - 1)
        over = quota_problems(owner.quota, allowed, others, limits)
        if over:
            text = "; ".join(f"{field}: {problem}" for field, problem in over.items())
            raise QuotaExceeded(f"Your quota no longer allows this to be extended. {text[:1].upper()}{text[1:]}.")

    async def on_more_memory(
        self, db: AsyncConnection, owner: User, instance: Instance, memory_bytes: int, server: Server, now: datetime
    ) -> datetime | None:
        """Whether a running instance may be given so much, within the transaction that records it.

        Returns:
            Until when it has to end, as it passes others that wait for longer; None: it passes nobody.

        Raises:
            QuotaExceeded: it goes over the owner's quota, or their lab's maximum.
            Conflict: the server does not have it now, or others have queued for it.
        """
        limits = replace(instance.limits, memory_bytes=memory_bytes)
        allowed = (await self._offers.limits_in(db, server.capacity)).instances_per_user
        others = (await instances.reserved(db, owner.id)).minus(instance.limits)
        if problem := quota_problems(owner.quota, allowed, others, limits).get("memory"):
            raise QuotaExceeded(f"That is more than you may use at once. {problem[:1].upper()}{problem[1:]}.")
        room = await self._planner.room_and_ends(db, await self._empty_room(db, server, now), now)
        without = room.without_one(KnownEnd(instance.ends_at, instance.limits, owner.lab))
        if not without.lab_allows(limits, owner.lab):
            raise QuotaExceeded(f"Your lab “{owner.lab}” may not use that much memory at once. Ask your administrator.")
        if not without.has_room(limits, owner.lab):
            free = max(0, without.capacity.memory_bytes - without.reserved.memory_bytes)
            raise Conflict(
                f"The server does not have that much memory free now: this instance can have at most "
                f"{describe_bytes(free)}. Save your work; a larger launch waits in the queue for its turn."
            )
        waiting = [one for one in await instances.queue(db) if one.stage is Stage.WAITING]
        if not waiting:
            return instance.passed_until
        first = waiting[0]
        lab = next((one.lab for one in (await users.by_ids(db, {first.owner_id})).values()), None)
        then = without.with_start(limits, owner.lab, instance.ends_at)
        starts_at = Reservation(room, first.limits, lab, now).starts_at
        after = Reservation(then, first.limits, lab, now).starts_at
        takes_its_turn = room.fits(first.limits, lab) and not then.fits(first.limits, lab)
        if takes_its_turn or starts_at is None or after is None or after > starts_at:
            raise Conflict("Others have queued for that memory before. Choose less, or save your work.")
        bounds = [at for at in (instance.passed_until, starts_at if instance.ends_at <= starts_at else None) if at]
        return min(bounds, default=None)

    def loop(self) -> Loop:
        return continuous("admission", self.run, late_after_seconds=LATE_AFTER_SECONDS)

    async def run(self, beat: Beat) -> None:
        """Until it is cancelled: lets those start that wait, whenever something may have become free."""
        unsubscribe = self._database.changes.subscribe(self._on_changes)
        try:
            while True:
                await self.admit(self._now())
                beat()
                await self._freed.wait(LOOK_AGAIN_SECONDS)
                await asyncio.sleep(GATHER_SECONDS)
        finally:
            unsubscribe()

    def _on_changes(self, changes: Sequence[Change]) -> None:
        if any(change.table in CONCERNED for change in changes):
            self._freed.set()

    async def admit(self, now: datetime) -> list[Outcome]:
        """Starts those that queue and may start now, in fair order; ends what never will, and what nobody wants any
        more.

        Everything else is told its place, what it waits for, and until when probably. Nothing is decided while the
        engine has not answered once, nor in a process that does not own the work.
        """
        if not self._runner.is_owner:
            return []
        async with self._database.reading() as db:
            if not await instances.queue_ids(db):
                return []
        try:
            server = await self.server()
        except EngineUnavailable:
            return []
        async with self._database.reading() as db:
            if not (await self._plan(db, server, now)).changes_anything:
                return []  # without holding up those who write
        async with self._database.transaction() as db:
            plan = await self._plan(db, server, now)
            for decision in plan.decisions:
                await self._commit(db, decision, plan, now)
            await plan.note(db)
        self._outgoing.wake()
        return self._carry_out(plan.decisions)

    async def _empty_room(self, db: AsyncConnection, server: Server, now: datetime) -> Room:
        """Of which nothing is reserved yet."""
        starting = await instances.count_starting(db, now - START_COUNTS_FOR)
        return self._planner.empty_room(server.capacity, starting, server.starts_at_once)

    async def _plan(self, db: AsyncConnection, server: Server, now: datetime) -> Plan:
        allowed = (await self._offers.limits_in(db, server.capacity)).instances_per_user
        return await self._planner.plan(db, await self._empty_room(db, server, now), allowed, now)

    async def _commit(self, db: AsyncConnection, decision: Decision, plan: Plan, now: datetime) -> None:
        instance, owner = decision.instance, plan.owners[decision.instance.owner_id]
        if decision.verdict is Verdict.END:
            await self._end(db, decision, now)
            if owner.is_active:
                await self._outgoing.dropped(db, decision, owner, now)
        elif decision.verdict is Verdict.START:
            await instances.move(
                db,
                instance.id,
                State.QUEUED,
                State.STARTING,
                stage=Stage.HOME,
                admitted_at=now,
                expires_at=now + timedelta(days=instance.limits.days),  # the time waited is not taken off
                queue_rank=None,
                estimated_start_at=None,
                passed_until=decision.passed_until,
            )
            await self._outgoing.starts(db, instance, owner, now)

    async def _end(self, db: AsyncConnection, decision: Decision, now: datetime) -> None:
        instance, reason = decision.instance, decision.reason
        if decision.ends_as is State.EXPIRED:
            await self._recorder.ask(db, instance, State.EXPIRED, reason, now, actor=SWEEP)
        else:
            await self._recorder.finish(db, instance, State.FAILED, reason, now)
            await self._recorder.by_itself(db, instance, State.FAILED, reason, now)

    def _carry_out(self, decisions: Sequence[Decision]) -> list[Outcome]:
        outcomes = []
        for decision in decisions:
            instance: Instance = decision.instance
            if decision.verdict is Verdict.END:
                outcomes.append(Outcome(instance.id, str(decision.ends_as), decision.reason))
            elif decision.verdict is Verdict.START:
                self._runner.start(instance.id)
                outcomes.append(Outcome(instance.id, "started", "memory and cores are available now"))
        return outcomes


def _too_large(room: Room, limits: Limits, lab: str | None) -> str:
    server = room.capacity
    most, whose = server, "This server can provide"
    if server.memory_bytes >= limits.memory_bytes and server.cpus >= limits.cpus:
        most, whose = largest_for(server, room.labs, lab), "With what labs are guaranteed and may use, you can have"
    return f"{whose} at most {describe_bytes(most.memory_bytes)} and {describe_cpus(most.cpus)}; choose a smaller size."
