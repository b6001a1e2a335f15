"""Freezes instances and thaws them: a frozen one stands still with all that it holds in memory.

What is wanted stands in the row, and the engine follows: `freeze_asked_at` is committed first, then the container is
paused, then `frozen_at` is committed; a thaw clears both first, and then the container goes on. So whoever dies between
two steps leaves a row that says what is to be done, and the process that owns the work does it: in its loop for what it
knows, and at every sweep for all (`InstanceRunner`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.environments import Environment
from ..domain.instances import Instance, State
from ..errors import Conflict, EngineRefused, EngineUnavailable, LaunchpadError
from ..runtime.base import ContainerState, Freezer, Runtime
from ..settings.freezing import FreezingSettings
from ..store import audit, idle_watches, instances
from ..store.changes import EVERYTHING, Change
from ..store.database import Database
from ..store.lease import OwnerLease
from .audit import SYSTEM, Actor
from .background import Beat, Loop, continuous
from .end_recorder import names
from .signals import Signal

log = structlog.get_logger(__name__)

# From the decision to the pause. The gate keeps its permissions until the end of a second, so what an open page asks by
# itself is not on its way any more when the container stands still.
DRAIN = timedelta(seconds=1.5)
LOOK_SECONDS = 0.4  # how often it is looked whether somebody sends something to one that stands still
IDLE_SECONDS = 5.0  # likewise for what nobody tells, where none does
SETTLE_SECONDS = 1.0  # after the pause: answers to the application's own last words may still come
AT_ONCE = 8
# The kernel does not always catch a group in which processes come and go quickly (version 1); the next time it may.
PAUSE_TRIES = 20
LATE_AFTER_SECONDS = 60.0
CAPABILITY_SECONDS = 30.0  # how long what the engine can is taken as known

# Asked within the transaction that would freeze one, of its row there.
StillWanted = Callable[[AsyncConnection, Instance], Awaitable[bool]]

BY_OWNER, BY_ADMIN = "by its owner", "by an administrator"
A_VISIT, A_MESSAGE = "visited", "something was typed into an open page"


@dataclass
class _Watched:
    """What is known in this process of one that stands still.

    Attributes:
        since: when it was first seen so, of the monotonic clock.
        least: the least that waited for it unread; None: not looked at yet.
        has_grown: more waited at the last look, too.
    """

    since: float
    least: int | None = None
    has_grown: bool = False

    def look(self, unread: int, now: float) -> bool:
        """Whether somebody has sent something: more is there than was, at two looks in a row."""
        if now - self.since < SETTLE_SECONDS:
            return False
        if self.least is None or unread <= self.least:
            self.least, self.has_grown = unread, False
            return False
        grew_before, self.has_grown = self.has_grown, True
        return grew_before


@dataclass
class _Known:
    """What the owner of the work remembers between two passes."""

    standing: set[str] = field(default_factory=set)  # ids of containers that stand still, or may
    is_complete: bool = False
    watched: dict[str, _Watched] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)  # pauses that the engine has refused, by id


async def awaken(db: AsyncConnection, instance_id: str) -> bool:
    """Records that an instance is to be awake, and has its whole idle time from now on, however short it stood still.

    Returns:
        False: nothing was to freeze it.
    """
    changed = await instances.thaw(db, instance_id)
    if changed:
        await idle_watches.forget(db, [instance_id])
    return changed


class FreezingService:
    """`now` is a function here for the loop, which runs for ever; what is asked for gets it passed in."""

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        lease: OwnerLease,
        settings: FreezingSettings,
        catalogue: Mapping[str, Environment],
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._lease = lease
        self._settings = settings
        self._catalogue = catalogue
        self._now = now
        self._wake = Signal()
        self._known = _Known()
        self._resuming: dict[str, asyncio.Task[None]] = {}
        self._pushing: dict[str, asyncio.Task[None]] = {}
        self._capability: tuple[float, Freezer] | None = None

    @property
    def longest(self) -> timedelta | None:
        """How long an instance may stand still; None: until its own end."""
        return timedelta(hours=self._settings.longest_hours) if self._settings.longest_hours else None

    async def capability(self) -> Freezer:
        """Whether instances can be frozen here, and why not.

        Raises:
            EngineUnavailable: the engine does not say.
        """
        if not self._settings.enabled:
            return Freezer(False, "freezing is off in the settings (freezing.enabled)")
        if self._capability is None or monotonic() - self._capability[0] > CAPABILITY_SECONDS:
            self._capability = (monotonic(), await self._runtime.freezer())
        return self._capability[1]

    # -- what is asked for -------------------------------------------------------------------------------------------

    async def freeze(
        self,
        instance_id: str,
        now: datetime,
        reason: str,
        *,
        actor: Actor = SYSTEM,
        only_if: StillWanted | None = None,
    ) -> bool:
        """Commits that a running instance is to stand still, with its audit entry; it does a moment later.

        Args:
            reason: why, in its owner's words.
            only_if: asked within the transaction, where it may write, too; False leaves it running.

        Returns:
            False: it is frozen already, or is to be, or is left running.

        Raises:
            Conflict: it does not run, or nothing can be frozen on this server.
            EngineUnavailable: the engine does not say whether it can.
        """
        can = await self.capability()
        if not can.can_freeze:
            raise Conflict(f"Instances cannot be frozen on this server: {can.why_not}.")
        async with self._database.transaction() as db:
            there = await instances.by_id(db, instance_id)
            if there is None or there.state is not State.RUNNING:
                raise Conflict("Only an instance that runs can be frozen.")
            if only_if is not None and not await only_if(db, there):
                return False
            if not await instances.ask_freeze(db, instance_id, now, reason):
                return False
            await self._record(db, there, "instance.frozen", reason, actor, now)
        self._wake.set()
        return True

    async def thaw(self, instance_id: str, now: datetime, *, actor: Actor = SYSTEM, reason: str = "") -> bool:
        """Commits that an instance goes on, and waits until it does where this process owns the work.

        In another process the owner hears of it, and what is sent to the instance meanwhile waits for it.

        Returns:
            False: nothing was to freeze it.

        Raises:
            EngineUnavailable, EngineRefused: it does not go on yet; it will be tried again.
        """
        async with self._database.transaction() as db:
            there = await instances.by_id(db, instance_id)
            changed = await awaken(db, instance_id)
            if there is not None and changed:
                await self._record(db, there, "instance.thawed", reason, actor, now)
        if self._lease.is_held and (changed or instance_id in self._resuming):
            await self._resume(instance_id)
        return changed

    async def _record(
        self, db: AsyncConnection, there: Instance, action: str, reason: str, actor: Actor, now: datetime
    ) -> None:
        details = {**await names(db, there), **({"reason": reason} if reason else {})}
        await audit.add(
            db,
            at=now,
            actor=actor.name,
            client=actor.client,
            action=action,
            subject=there.id,
            details=details,
            owner_id=actor.on(there.owner_id),
        )

    async def _resume(self, instance_id: str) -> None:
        """Once for all who ask at the same time, and to its end whoever gives up waiting."""
        task = self._resuming.get(instance_id)
        if task is None:
            self._known.standing.add(instance_id)
            task = asyncio.create_task(self._resume_now(instance_id), name=f"thaw {instance_id}")
            self._resuming[instance_id] = task
            task.add_done_callback(lambda done: self._resumed(instance_id, done))
        await asyncio.shield(task)

    async def _resume_now(self, instance_id: str) -> None:
        await self._runtime.resume(instance_id)
        self._known.standing.discard(instance_id)
        self._known.watched.pop(instance_id, None)

    def _resumed(self, instance_id: str, done: asyncio.Task[None]) -> None:
        self._resuming.pop(instance_id, None)
        if not done.cancelled() and (error := done.exception()) is not None:
            log.warning("freezing.not_resumed", instance=instance_id, error=repr(error))
            self._wake.set()

    # -- the owner's loop --------------------------------------------------------------------------------------------

    def loop(self) -> Loop:
        return continuous("freezing", self.run, late_after_seconds=LATE_AFTER_SECONDS)

    async def run(self, beat: Beat) -> None:
        """Until it is cancelled: brings rows and containers together, and looks whether somebody is there."""
        self._known = _Known()
        unsubscribe = self._database.changes.subscribe(self._on_changes)
        try:
            while True:
                busy = await self.tend(self._now())
                beat()
                await self._wake.wait(LOOK_SECONDS if busy else IDLE_SECONDS)
        finally:
            unsubscribe()
            for task in self._pushing.values():
                task.cancel()

    def _on_changes(self, changes: Sequence[Change]) -> None:
        if any(change.table in ("instances", EVERYTHING.table) for change in changes):
            self._wake.set()

    async def tend(self, now: datetime) -> bool:
        """One pass; whether the next one is due soon."""
        async with self._database.reading() as db:
            rows = {one.id: one for one in await instances.to_be_frozen(db)}
        if not self._known.is_complete:
            await self._find_standing()
        gone = self._known.standing - rows.keys()
        due = [one for one in rows.values() if not one.is_frozen and abs(now - _asked_at(one)) >= DRAIN]
        few = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(
            *(self._one(few, one.id, self._freeze(one, now)) for one in due),
            *(self._one(few, instance_id, self._thaw_if_running(instance_id)) for instance_id in gone),
        )
        await self._watch([one for one in rows.values() if one.is_frozen], now)
        awaited = any(not one.is_frozen for one in rows.values()) or self._known.standing - rows.keys()
        return bool(awaited or self._known.watched)

    async def _find_standing(self) -> None:
        """What stood still when this process began to own the work."""
        found = await self._runtime.list_containers()
        self._known.standing |= {one.instance_id for one in found if one.state is ContainerState.PAUSED}
        self._known.is_complete = True

    async def _one(self, few: asyncio.Semaphore, instance_id: str, work: Coroutine[Any, Any, object]) -> None:
        """One of many: its failure stops no other, and it is tried again."""
        async with few:
            try:
                await work
            except LaunchpadError as error:
                log.warning("freezing.item_failed", instance=instance_id, detail=error.detail)

    async def _freeze(self, there: Instance, now: datetime) -> None:
        """Pauses it, unless that is not wanted any more. Each step may be done twice without harm."""
        self._known.standing.add(there.id)
        try:
            await self._runtime.pause(there.id)
        except EngineRefused:
            await self._not_paused(there)
            raise
        self._known.tries.pop(there.id, None)
        held = await self._held(there)
        async with self._database.transaction() as db:
            is_wanted = await instances.set_frozen(db, there.id, _asked_at(there), now, held)
        if not is_wanted:
            await self._resume(there.id)
            return
        self._known.watched[there.id] = _Watched(monotonic())
        if not (await self.capability()).why_memory_stays:
            self._push_out(there)

    async def _not_paused(self, there: Instance) -> None:
        """Gives up what the engine refuses again and again, and what has ended; the record says that it is awake."""
        tries = self._known.tries.get(there.id, 0) + 1
        self._known.tries[there.id] = tries
        container = await self._runtime.find(there.id)
        if tries < PAUSE_TRIES and container is not None and container.state.is_up:
            return
        del self._known.tries[there.id]
        async with self._database.transaction() as db:
            await awaken(db, there.id)

    async def _held(self, there: Instance) -> int | None:
        """What counts of its memory; None: its size."""
        if self._settings.memory == "size":
            return None
        usage = await self._runtime.usage(there.id)
        return None if usage is None else min(usage.memory_bytes, there.limits.memory_bytes)

    def _push_out(self, there: Instance) -> None:
        task = asyncio.create_task(self._push_out_now(there), name=f"push out {there.id}")
        self._pushing[there.id] = task
        task.add_done_callback(lambda _: self._pushing.pop(there.id, None))

    async def _push_out_now(self, there: Instance) -> None:
        try:
            await self._runtime.push_out(there.id)
            held = await self._held(there)
        except LaunchpadError as error:
            log.warning("freezing.not_pushed_out", instance=there.id, detail=error.detail)
            return
        async with self._database.transaction() as db:
            row = await instances.by_id(db, there.id)
            if row is not None and row.frozen_at is not None and row.freeze_asked_at == there.freeze_asked_at:
                await instances.set_frozen(db, there.id, _asked_at(there), row.frozen_at, held)

    async def _thaw_if_running(self, instance_id: str) -> None:
        """Of what stands still and is not to: one that is being ended is woken by its end."""
        async with self._database.reading() as db:
            there = await instances.by_id(db, instance_id)
        if there is None or there.state is not State.RUNNING or there.is_to_be_frozen:
            self._known.standing.discard(instance_id)
            return
        try:
            await self._resume(instance_id)
        except EngineRefused:  # it has ended
            self._known.standing.discard(instance_id)
            raise

    async def _watch(self, frozen: Sequence[Instance], now: datetime) -> None:
        """Thaws those to which an open page has sent something over a connection that nobody asks the gate about."""
        self._known.standing |= {one.id for one in frozen}
        by_id = {one.id: one for one in frozen if self._messages_thaw(one)}
        watched = self._known.watched
        for gone in watched.keys() - by_id.keys():
            del watched[gone]
        for instance_id in by_id:
            watched.setdefault(instance_id, _Watched(monotonic()))
        if not by_id:
            return
        try:
            unread = await self._runtime.unread_bytes(tuple(by_id))
        except (EngineUnavailable, EngineRefused) as error:
            log.info("freezing.not_watched", detail=error.detail)
            return
        for instance_id, number in unread.items():
            if instance_id in watched and watched[instance_id].look(number, monotonic()):
                await self._one(asyncio.Semaphore(1), instance_id, self.thaw(instance_id, now, reason=A_MESSAGE))

    def _messages_thaw(self, instance: Instance) -> bool:
        environment = self._catalogue.get(instance.environment)
        return environment is None or environment.messages_thaw


def _asked_at(instance: Instance) -> datetime:
    if instance.freeze_asked_at is None:
        raise ValueError("it is not to be frozen")
    return instance.freeze_asked_at
