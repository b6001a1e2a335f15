"""Carries out what was decided: starts and ends containers, and brings rows and engine together again.

Every intent is a row in the database (`starting`, `stopping`). Whoever commits one hands it over here, or the feed of
changes does; what nobody carries, since a process has died, is taken over. Each step may be done twice without harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.ends import Gap
from ..domain.environments import Environment
from ..domain.instances import Instance, State
from ..errors import EngineUnavailable, LaunchpadError
from ..runtime.base import Container, ContainerState, Runtime
from ..store import instance_history, instances
from ..store.database import Database
from ..store.lease import OwnerLease
from .audit import SYSTEM, Actor
from .end_recorder import EndRecorder
from .endings import Endings
from .freezing import awaken
from .images import ImageService, ResolvedImage
from .launching import Launcher
from .outcomes import Outcome
from .signals import Signal
from .starting import StartProcedure
from .stopping import StopProcedure
from .task_table import Kind, TaskTable

log = structlog.get_logger(__name__)

AGAIN_AFTER_SECONDS = 5.0  # a pause before what went wrong on our side is taken up again
MANY = 10_000  # more than anybody has


def utc_now() -> datetime:
    return datetime.now(UTC)


class InstanceRunner:
    """Hands each instance to the steps of its start or its end, one at a time in this process."""

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        images: ImageService,
        launcher: Launcher,
        lease: OwnerLease,
        endings: Endings,
        recorder: EndRecorder,
        start: StartProcedure,
        stop: StopProcedure,
        freed: Signal,
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._images = images
        self._launcher = launcher
        self._lease = lease
        self._endings = endings
        self._recorder = recorder
        self._start = start
        self._stop = stop
        self._freed = freed
        self._tasks = TaskTable(_after_fault_of(start, stop))

    @property
    def is_owner(self) -> bool:
        """Whether this process carries out what is recorded."""
        return self._lease.is_held

    async def image_for(self, environment: Environment) -> ResolvedImage:
        """Raises ImageMissing or EngineUnavailable."""
        return await self._images.resolve(environment)

    # -- intents -----------------------------------------------------------------------------------------------------

    def start(self, instance_id: str) -> None:
        """Carries out a launch whose intent is committed, in the background; another process' work is left to it."""
        if self.is_owner:
            self._tasks.run(instance_id, Kind.START, lambda: self._start.run(instance_id, self._tasks))

    def _carry_end(self, instance_id: str) -> None:
        if self.is_owner:
            self._tasks.run(instance_id, Kind.END, lambda: self._stop.run(instance_id))

    async def end(
        self,
        instance: Instance,
        as_state: State,
        reason: str,
        now: datetime,
        *,
        actor: Actor = SYSTEM,
        only_expired: bool = False,
        only_frozen_since: datetime | None = None,
    ) -> bool:
        """Commits the end of a live instance, with its audit entry, and carries it out in the background.

        Args:
            actor: who ends it.
            only_expired: it is left alone when it has time left by now: it was extended, or began to run, since it was
                looked at.
            only_frozen_since: it is left alone unless it has stood still since then.

        Returns:
            False: it was ending already, has ended, or is left alone.
        """
        async with self._database.transaction() as db:
            there = await instances.by_id(db, instance.id)
            if there is None or (only_expired and not there.is_expired(now)):
                return False
            if only_frozen_since is not None and there.frozen_at != only_frozen_since:
                return False
            asked = await self._ask(db, there, as_state, reason, now, actor)
        if asked:
            self.ends_committed([instance.id])
        return asked

    async def end_all_of(
        self, db: AsyncConnection, owner_id: str, reason: str, actor: Actor, now: datetime
    ) -> list[str]:
        """Decides the end of everything live of an owner, within the caller's transaction.

        Returns:
            What ends; once it is committed, `ends_committed` carries it out.
        """
        live = await instances.of_owner(db, owner_id, limit=MANY)
        return [one.id for one in live if await self._ask(db, one, State.STOPPED, reason, now, actor)]

    async def end_in(
        self, db: AsyncConnection, there: Instance, as_state: State, reason: str, actor: Actor, now: datetime
    ) -> bool:
        """Decides the end of a live instance within the caller's transaction, in which `there` was read.

        Returns:
            Whether it ends; once that is committed, `ends_committed` carries it out.
        """
        return await self._ask(db, there, as_state, reason, now, actor)

    async def _ask(
        self, db: AsyncConnection, there: Instance, as_state: State, reason: str, now: datetime, actor: Actor
    ) -> bool:
        return await self._recorder.ask(db, there, as_state, reason, now, actor=actor)

    def ends_committed(self, instance_ids: Iterable[str]) -> None:
        """Carries out ends that have been decided and committed, in the background."""
        for instance_id in instance_ids:
            self._carry_end(instance_id)
        self._freed.set()  # what queued is gone from the queue, and those behind it may fit

    async def take_up(self, instance_id: str) -> None:
        """Carries out what another process has recorded."""
        if not self.is_owner or self._tasks.kind_of(instance_id) is Kind.END:
            return
        async with self._database.reading() as db:
            there = await instances.by_id(db, instance_id)
        if there is not None and there.state is State.STOPPING:
            self._carry_end(there.id)
        elif there is not None and there.state is State.STARTING:
            self.start(there.id)

    async def wait(self, *instance_ids: str) -> None:
        """Waits until everything under way in this process, or of these instances, is done."""
        await self._tasks.wait(*instance_ids)

    async def drop(self) -> None:
        """Drops what is under way; the rows keep the intents, and another process may take them over from now on."""
        await self._tasks.cancel()

    async def aclose(self) -> None:
        await self.drop()
        await self._launcher.aclose()

    # -- bringing rows and engine together ---------------------------------------------------------------------------

    async def reconcile_one(self, instance_id: str) -> Outcome | None:
        """Compares one row with the engine; what differs is put right.

        Raises:
            EngineUnavailable: nothing can be said, and nothing was changed.
        """
        async with self._database.reading() as db:
            instance = await instances.by_id(db, instance_id)
        if instance is None or not self.is_owner:
            return None
        return await self._reconcile(instance, await self._runtime.find(instance_id))

    async def reconcile_all(self, *, engine_was_away: bool = False) -> list[Outcome]:
        """Compares every live row with the engine, and removes containers of instances that have ended.

        The engine is asked for its list once; only what differs from its row is asked for on its own.

        Args:
            engine_was_away: the connection to it was lost since it was last asked, which explains ends in between.

        Raises:
            EngineUnavailable: nothing can be said, and nothing was changed.
        """
        if not self.is_owner:
            return []
        containers = {container.instance_id: container for container in await self._runtime.list_containers()}
        gap = await self._endings.gap(engine_was_away)
        async with self._database.reading() as db:
            live = await instances.in_states(db, State.STARTING, State.RUNNING, State.STOPPING)
        known = {instance.id for instance in live}
        strays = [container for container in containers.values() if container.instance_id not in known]
        outcomes = [
            await self._one("-", self._runtime.mend_network()),  # a firewall loaded anew knows nothing of our rules
            *[await self._one(one.id, self._reconcile(one, containers.get(one.id), gap)) for one in live],
        ]
        outcomes += [await self._one(stray.instance_id, self._reconcile_stray(stray)) for stray in strays]
        await self._endings.compared()
        return [outcome for outcome in outcomes if outcome is not None]

    async def end_unknown(self) -> list[str]:
        """Ends containers of this deployment that no record names, with their time to save; returns the instances.

        A sweep leaves them alone. After a restore they are what was launched since the backup.
        """
        ended = []
        for container in await self._runtime.list_containers():
            if await self._was_known(container.instance_id):
                continue
            await self._runtime.stop(container.instance_id, self._stop.grace_seconds(container.environment))
            await self._runtime.remove(container.instance_id)
            ended.append(container.instance_id)
        return ended

    async def note_out_of_memory(self, instance_id: str) -> None:
        """Something in an instance was killed for memory: its owner is told, and the end, if it comes, is explained."""
        await self._endings.note_out_of_memory(instance_id)

    async def explain_out_of_memory(self) -> None:
        """Finds out which programs those were; raises EngineUnavailable."""
        await self._endings.explain_out_of_memory()

    def note_signal(self, instance_id: str) -> None:
        """The engine was told to end its container; where it was not we who told it, that explains the end."""
        self._endings.note_signal(instance_id)

    async def _one(self, instance_id: str, work: Coroutine[Any, Any, Outcome | None]) -> Outcome | None:
        """One item of many: unless the engine is away altogether, its failure is an outcome and stops no other."""
        try:
            return await work
        except EngineUnavailable:
            raise
        except LaunchpadError as error:
            log.warning("reconcile.item_failed", instance=instance_id, detail=error.detail)
            return Outcome(instance_id, "unchanged", error.detail)

    async def _was_known(self, instance_id: str) -> bool:
        async with self._database.reading() as db:
            return (
                await instances.by_id(db, instance_id) is not None
                or await instance_history.by_id(db, instance_id) is not None
            )

    async def _reconcile_stray(self, container: Container) -> Outcome | None:
        """A container without a live row: removed when its instance has ended; left alone when nobody knows it."""
        async with self._database.reading() as db:
            row = await instances.by_id(db, container.instance_id)
        if row is not None and row.is_live:  # launched since the list was made
            return None
        if row is None and not await self._was_known(container.instance_id):
            log.warning("reconcile.unknown_container", instance=container.instance_id, state=container.state)
            return Outcome(container.instance_id, "ignored", "a container of this deployment that no record names")
        await self._runtime.remove(container.instance_id)
        return Outcome(container.instance_id, "removed", "its instance had ended")

    async def _reconcile(self, instance: Instance, container: Container | None, gap: Gap = Gap.NONE) -> Outcome | None:
        if instance.id in self._tasks or not self.is_owner:
            return None  # somebody is at it
        if instance.state is State.RUNNING:
            return await self._reconcile_running(instance, container, gap)
        if instance.state is State.QUEUED or not instance.is_live:
            return None
        # Nobody is at it: the process that was has ended, or the engine refused it before.
        async with self._database.reading() as db:
            there = await instances.by_id(db, instance.id)
        if there is None or there.state is not instance.state:
            return None  # it has gone on since it was listed
        if instance.state is State.STARTING:
            self.start(instance.id)
            return Outcome(instance.id, "start taken over", "the process that carried it out has ended")
        self._carry_end(instance.id)
        return Outcome(instance.id, "stop taken over", "the process that carried it out has ended")

    async def _reconcile_running(self, instance: Instance, container: Container | None, gap: Gap) -> Outcome | None:
        if container is None or not container.state.is_up:
            # What was listed may be older than the row: it may have begun to run in between. And only this look says
            # how it ended.
            container = await self._runtime.find(instance.id)
        if container is not None and container.state.is_up:
            if outcome := await self._reconcile_frozen(instance, container):
                return outcome
            if container.address == instance.address or container.address is None:
                return None
            async with self._database.transaction() as db:
                await instances.note(db, instance.id, host=container.address.host, port=container.address.port)
            return Outcome(instance.id, "address renewed", f"it is reached at {container.address} now")
        ended = await self._endings.by_itself(instance, container, gap)
        if ended is None:
            return None  # somebody else ended it meanwhile
        self.ends_committed([instance.id])
        state, reason = ended
        return Outcome(instance.id, f"recorded as {state}", reason)

    async def _reconcile_frozen(self, instance: Instance, container: Container) -> Outcome | None:
        """Whether it stands still is what the row says; one that somebody else has made go on is awake in the row, too.

        What was to be frozen and is not yet is left to `FreezingService`.
        """
        stands_still = container.state is ContainerState.PAUSED
        if stands_still and not instance.is_to_be_frozen:
            async with self._database.reading() as db:
                there = await instances.by_id(db, instance.id)
            if there is None or there.state is not State.RUNNING or there.is_to_be_frozen:
                return None
            await self._runtime.resume(instance.id)
            return Outcome(instance.id, "thawed", "its container stood still, and its record says that it runs")
        if not stands_still and instance.is_frozen:
            found = await self._runtime.find(instance.id)
            if found is None or found.state is not ContainerState.RUNNING:
                return None
            async with self._database.transaction() as db:
                changed = await awaken(db, instance.id)
            return Outcome(instance.id, "recorded as awake", "its container runs") if changed else None
        return None


def _after_fault_of(start: StartProcedure, stop: StopProcedure) -> Callable[[str], Coroutine[Any, Any, None]]:
    async def after_fault(instance_id: str) -> None:
        """A start ends as failed, an end is tried again; when that goes wrong too, this comes back."""
        await asyncio.sleep(AGAIN_AFTER_SECONDS)
        await start.fail(instance_id, "something went wrong on our side; it was recorded")
        await stop.run(instance_id)

    return after_fault
