"""Lets launches start: at once where they may, else by the queue, as soon as what they wait for is free.

What is decided stands in `domain/admission.py`. Whoever frees capacity sets a signal that both are given, and the feed
of changes sets it too, since another process may have freed something; nobody here is called back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.admission import START_COUNTS_FOR, Decision, OwnerRoom, Room, Verdict, decide, on_launch
from ..domain.instances import Instance, Stage, State
from ..domain.limits import Capacity, Limits, Use, quota_problems
from ..domain.sizes import describe_bytes, describe_cpus
from ..domain.users import User
from ..errors import EngineUnavailable, QuotaExceeded
from ..store import instances, users
from ..store.changes import EVERYTHING, Change
from ..store.database import Database
from .background import Beat, Loop, continuous
from .end_recorder import EndRecorder
from .offers import OfferService
from .outcomes import Outcome
from .runner import InstanceRunner
from .signals import Signal

# A start that hangs stops to count after a while (`START_COUNTS_FOR`), and nothing tells that this has come.
LOOK_AGAIN_SECONDS = 5.0
LATE_AFTER_SECONDS = 60.0
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
        recorder: EndRecorder,
        runner: InstanceRunner,
        freed: Signal,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._offers = offers
        self._recorder = recorder
        self._runner = runner
        self._freed = freed
        self._now = now

    async def server(self) -> Server:
        """Raises EngineUnavailable where the engine has not answered once yet."""
        return Server(await self._offers.capacity(), await self._offers.starts_at_once())

    async def on_launch(
        self, db: AsyncConnection, owner: User, limits: Limits, server: Server, now: datetime
    ) -> Stage | None:
        """What a launch waits for, within the transaction that records it; None: it starts at once.

        Raises:
            QuotaExceeded: it goes over the owner's quota, or beyond what the server has at all.
        """
        room = await self._room(db, server, now)
        if not room.can_ever_hold(limits):
            raise QuotaExceeded(
                f"This server can provide at most {describe_bytes(server.capacity.memory_bytes)} and "
                f"{describe_cpus(server.capacity.cpus)}; choose a smaller size."
            )
        allowed = (await self._offers.limits_in(db, server.capacity)).instances_per_user
        over = quota_problems(owner.quota, allowed, await instances.reserved(db, owner.id), limits)
        if over:
            text = "; ".join(f"{field}: {problem}" for field, problem in over.items())
            raise QuotaExceeded(f"That is more than you may use at once. {text[:1].upper()}{text[1:]}.", fields=over)
        return on_launch(limits, room, await instances.in_states(db, State.QUEUED))

    async def on_extension(self, db: AsyncConnection, owner: User, instance: Instance) -> None:
        """Raises QuotaExceeded where the owner may no longer have what they have live: the quota was lowered since."""
        allowed = (await self._offers.limits_in(db, None)).instances_per_user
        limits, live = instance.limits, await instances.reserved(db, owner.id)
        others = Use(live.memory_bytes - limits.memory_bytes, live.cpus - limits.cpus, live.instances - 1)
        over = quota_problems(owner.quota, allowed, others, limits)
        if over:
            text = "; ".join(f"{field}: {problem}" for field, problem in over.items())
            raise QuotaExceeded(f"Your quota no longer allows this to be extended. {text[:1].upper()}{text[1:]}.")

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
        finally:
            unsubscribe()

    def _on_changes(self, changes: Sequence[Change]) -> None:
        if any(change.table in CONCERNED for change in changes):
            self._freed.set()

    async def admit(self, now: datetime) -> list[Outcome]:
        """Starts those that queue and may start now, the longest waiting first; ends what never will.

        Everything else is told what it waits for. Nothing is decided while the engine has not answered once, nor in a
        process that does not own the work.
        """
        if not self._runner.is_owner:
            return []
        async with self._database.reading() as db:
            if not await instances.in_states(db, State.QUEUED):
                return []
        try:
            server = await self.server()
        except EngineUnavailable:
            return []
        async with self._database.reading() as db:
            if not _changes_anything(await self._decide(db, server, now)):
                return []  # without holding up those who write
        async with self._database.transaction() as db:
            decisions = await self._decide(db, server, now)
            for decision in decisions:
                await self._commit(db, decision, now)
            stages = {decision.stage for decision in decisions if decision.verdict is Verdict.WAIT}
            for stage in stages:
                await instances.set_queue_stage(db, stage)
        return self._carry_out(decisions)

    async def _room(self, db: AsyncConnection, server: Server, now: datetime) -> Room:
        return Room(
            capacity=server.capacity,
            reserved=await instances.reserved(db),
            starting=await instances.count_starting(db, now - START_COUNTS_FOR),
            starts_at_once=server.starts_at_once,
        )

    async def _decide(self, db: AsyncConnection, server: Server, now: datetime) -> list[Decision]:
        queue = await instances.in_states(db, State.QUEUED)
        found = await users.by_ids(db, {one.owner_id for one in queue})
        started = await instances.reserved_by_owner(db, set(found))
        allowed = (await self._offers.limits_in(db, server.capacity)).instances_per_user
        owners = {one.id: OwnerRoom(one.quota, allowed, started[one.id], one.is_active) for one in found.values()}
        return decide(queue, await self._room(db, server, now), owners)

    async def _commit(self, db: AsyncConnection, decision: Decision, now: datetime) -> None:
        instance = decision.instance
        if decision.verdict is Verdict.END:
            await self._recorder.finish(db, instance, State.FAILED, decision.reason, now)
            await self._recorder.by_itself(db, instance, State.FAILED, decision.reason, now)
        elif decision.verdict is Verdict.START:
            await instances.move(
                db,
                instance.id,
                State.QUEUED,
                State.STARTING,
                stage=Stage.HOME,
                admitted_at=now,
                expires_at=now + timedelta(days=instance.limits.days),  # the time waited is not taken off
                carrier=self._runner.id,
            )

    def _carry_out(self, decisions: Sequence[Decision]) -> list[Outcome]:
        outcomes = []
        for decision in decisions:
            instance: Instance = decision.instance
            if decision.verdict is Verdict.END:
                outcomes.append(Outcome(instance.id, str(State.FAILED), decision.reason))
            elif decision.verdict is Verdict.START:
                self._runner.start(instance.id)
                outcomes.append(Outcome(instance.id, "started", "memory and cores are available now"))
        return outcomes


def _changes_anything(decisions: Sequence[Decision]) -> bool:
    return any(one.verdict is not Verdict.WAIT or one.stage is not one.instance.stage for one in decisions)
