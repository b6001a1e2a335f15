"""Carries out what was decided: starts and ends containers, and brings rows and engine together again.

Every intent is a row in the database (`starting`, `stopping`) that names the process carrying it out. When that
process dies, another one sees it at once and takes over; each step may be done twice without harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog

from ..domain.causes import Cause
from ..domain.ends import Gap, with_first_cause
from ..domain.environments import Environment
from ..domain.instances import LIVE, Instance, Stage, State
from ..errors import ContainerEnded, EngineRefused, EngineUnavailable, LaunchpadError
from ..runtime.base import Container, Runtime
from ..storage.base import Homes
from ..store import instances, users
from ..store.database import Database
from ..store.lease import OwnerLease
from .changes import Changes
from .endings import Endings
from .images import ImageService, ResolvedImage
from .launching import Launcher
from .outcomes import Outcome

log = structlog.get_logger(__name__)

Now = Callable[[], datetime]
Work = Callable[[], Coroutine[Any, Any, None]]

AGAIN_AFTER_SECONDS = 5.0  # a pause before what went wrong on our side is taken up again


def utc_now() -> datetime:
    return datetime.now(UTC)


class InstanceRunner:
    """`now` is a function here, since carrying out takes time and the end of it has to be recorded."""

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        homes: Homes,
        images: ImageService,
        launcher: Launcher,
        catalogue: Mapping[str, Environment],
        lease: OwnerLease,
        endings: Endings,
        now: Now = utc_now,
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._homes = homes
        self._images = images
        self._launcher = launcher
        self._catalogue = catalogue
        self._lease = lease
        self._endings = endings
        self._now = now
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.changes = Changes()
        self.after_end: Callable[[], Coroutine[Any, Any, object]] | None = None

    @property
    def id(self) -> str:
        return self._lease.id

    @property
    def is_owner(self) -> bool:
        return self._lease.is_held

    async def image_for(self, environment: Environment) -> ResolvedImage:
        """Raises ImageMissing or EngineUnavailable."""
        return await self._images.resolve(environment)

    def start(self, instance_id: str) -> None:
        """Carries out a launch whose intent is committed, in the background."""
        self._spawn(instance_id, lambda: self._carry_start(instance_id))

    async def end(
        self,
        instance: Instance,
        as_state: State,
        reason: str,
        now: datetime,
        *,
        by: str | None = None,
        only_expired: bool = False,
    ) -> bool:
        """Commits the end of a live instance and carries it out in the background; False when it was ending already.

        `by` is whoever ends it, as the audit names them. With `only_expired` also False when it has time left by now:
        it was extended, or began to run, since it was looked at.
        """
        if instance.state is State.QUEUED:
            ends = {"reason": reason, "ended_by": by, "ended_at": now}
            async with self._database.transaction() as db:
                moved = await instances.move(db, instance.id, State.QUEUED, as_state, **ends)
            self.changes.tell(instance.id)
            if moved:
                return True
        return await self._end_started(instance.id, as_state, reason, by, now if only_expired else None)

    async def _end_started(
        self, instance_id: str, as_state: State, reason: str, by: str | None, expired_at: datetime | None
    ) -> bool:
        async with self._database.transaction() as db:
            row = await instances.by_id(db, instance_id)
            if row is None or row.state not in (State.STARTING, State.RUNNING):
                return False
            if expired_at is not None and not row.is_expired(expired_at):
                return False
            await instances.move(
                db,
                instance_id,
                row.state,
                State.STOPPING,
                ending_as=as_state,
                reason=with_first_cause(reason, row),
                ended_by=by,
                stage=Stage.SAVING,
                carrier=self.id,
            )
        self.changes.tell(instance_id)
        self._spawn(instance_id, lambda: self._carry_end(instance_id), instead=True)
        return True

    async def wait(self, *instance_ids: str) -> None:
        """Waits until everything under way in this process, or of these instances, is done."""
        while tasks := [task for one, task in self._tasks.items() if one in instance_ids or not instance_ids]:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def drop(self) -> None:
        """Drops what is under way; the rows keep the intents, and another process may take them over from now on."""
        tasks = [task for task in self._tasks.values() if task.cancel()]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def aclose(self) -> None:
        await self.drop()
        await self._launcher.aclose()

    async def on_capacity_freed(self) -> None:
        """Lets those start that wait, since something ended."""
        if self.after_end is not None:
            await self.after_end()

    def _spawn(self, instance_id: str, work: Work, *, instead: bool = False) -> None:
        if not self.is_owner:
            return  # the intent is recorded; the process that owns the work carries it out
        before = self._tasks.get(instance_id)
        if before is not None and not before.done():
            if not instead:
                return
            before.cancel()

        async def run() -> None:
            if before is not None:
                await asyncio.wait({before})
            await work()

        task = asyncio.create_task(run(), name=f"carry {instance_id}")
        self._tasks[instance_id] = task

        def forget(done: asyncio.Task[None]) -> None:
            if self._tasks.get(instance_id) is done:
                del self._tasks[instance_id]
            if not done.cancelled() and (error := done.exception()) is not None:
                log.error("runner.fault", instance=instance_id, exc_info=error)
                self._spawn(instance_id, lambda: self._after_fault(instance_id))

        task.add_done_callback(forget)

    async def _after_fault(self, instance_id: str) -> None:
        """A start ends as failed, an end is tried again; when that goes wrong too, this comes back."""
        await asyncio.sleep(AGAIN_AFTER_SECONDS)
        await self._fail(instance_id, "something went wrong on our side; it was recorded")
        await self._carry_end(instance_id)

    async def _carry_start(self, instance_id: str) -> None:
        async with self._database.reading() as db:
            instance = await instances.by_id(db, instance_id)
            owner = await users.by_id(db, instance.owner_id) if instance else None
            beside = await instances.of_owner(db, owner.id, states=LIVE - {State.QUEUED}) if owner else []
        if instance is None or owner is None or instance.state is not State.STARTING:
            return
        environment = self._catalogue.get(instance.environment)
        try:
            if environment is None:
                raise EngineUnavailable("this environment was taken out of the catalogue")
            await self._stage(instance_id, Stage.HOME)
            # One home, one limit: an instance that runs already keeps the room that it was promised.
            most = max(one.limits.storage_bytes for one in (instance, *beside))
            await self._homes.prepare(owner.username, owner.uid, most)
            await self._stage(instance_id, Stage.IMAGE)
            image = await self._images.resolve(environment)
            await self._stage(instance_id, Stage.CONTAINER, image=image.reference, stand_in=image.stand_in)
            container = await self._launcher.launch(instance, owner)
            if container.address is None:  # it has ended already; the engine says how a moment later
                raise ContainerEnded(f"{environment.title} ended while it started.")
            await self._stage(instance_id, Stage.STARTING)
            await self._launcher.wait_until_usable(instance, environment, container.address)
        except LaunchpadError as error:
            log.warning("launch.failed", instance=instance_id, error=error.code, detail=error.detail)
            await self._fail(instance_id, *await self._endings.why_failed(error, instance, owner.username))
            return
        now = self._now()
        async with self._database.transaction() as db:
            moved = await instances.move(
                db,
                instance_id,
                State.STARTING,
                State.RUNNING,
                stage=Stage.READY,
                started_at=now,
                host=container.address.host,
                port=container.address.port,
                carrier=None,
            )
            now_there = None if moved else await instances.by_id(db, instance_id)
        if not moved and (now_there is None or now_there.state not in (State.STARTING, State.RUNNING)):
            # Another process ended it meanwhile, and may have looked for the container before there was one.
            await self._runtime.remove(instance_id)
        self.changes.tell(instance_id)

    async def _stage(self, instance_id: str, stage: Stage, **values: Any) -> None:
        async with self._database.transaction() as db:
            await instances.note(db, instance_id, stage=stage, **values)
        self.changes.tell(instance_id)

    async def _fail(self, instance_id: str, reason: str, cause: Cause | None = None) -> None:
        """Ends a start; anything but a start is left as it is."""
        async with self._database.reading() as db:
            instance = await instances.by_id(db, instance_id)
        if instance is None or instance.state is not State.STARTING:
            return
        with suppress(LaunchpadError):  # a container left behind now is removed by the next sweep
            await self._runtime.remove(instance_id)
        await self._endings.as_failed(instance, reason, cause)
        self.changes.tell(instance_id)
        await self.on_capacity_freed()

    async def _carry_end(self, instance_id: str) -> None:
        async with self._database.reading() as db:
            instance = await instances.by_id(db, instance_id)
        if instance is None or instance.state is not State.STOPPING:
            return
        environment = self._catalogue.get(instance.environment)
        grace_seconds = environment.stop_grace_seconds if environment else 10
        try:
            await self._runtime.stop(instance_id, grace_seconds)
            await self._endings.keep_log(instance_id)
            await self._runtime.remove(instance_id)
        except (EngineUnavailable, EngineRefused) as error:
            log.warning("stop.postponed", instance=instance_id, detail=error.detail)
            async with self._database.transaction() as db:  # the intent stays; whoever sweeps next takes it up again
                await instances.note(db, instance_id, carrier=None)
            return
        ends = {"reason": instance.reason or "stopped", "ended_at": self._now()}
        async with self._database.transaction() as db:
            await instances.move(db, instance_id, State.STOPPING, instance.ending_as or State.STOPPED, **ends)
        self.changes.tell(instance_id)
        await self.on_capacity_freed()

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

    async def take_up(self, instance_id: str) -> None:
        """Carries out what another process has recorded."""
        async with self._database.reading() as db:
            instance = await instances.by_id(db, instance_id)
        if instance is not None and self.is_owner:
            if instance.state is State.STARTING:
                await self._reconcile(instance, None)
            elif instance.state is State.STOPPING and instance.carrier != self.id:
                self._spawn(instance_id, lambda: self._carry_end(instance_id), instead=True)

    async def reconcile_all(self, *, engine_was_away: bool = False) -> list[Outcome]:
        """Compares every live row with the engine, and removes containers of instances that have ended.

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
        strays = [containers[one] for one in set(containers) - {instance.id for instance in live}]
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
            async with self._database.reading() as db:
                row = await instances.by_id(db, container.instance_id)
            if row is None:
                environment = self._catalogue.get(container.environment)
                await self._runtime.stop(container.instance_id, environment.stop_grace_seconds if environment else 10)
                await self._runtime.remove(container.instance_id)
                ended.append(container.instance_id)
        return ended

    async def note_out_of_memory(self, instance_id: str) -> None:
        """Something in an instance was killed for memory: its owner is told, and the end, if it comes, is explained."""
        if await self._endings.note_out_of_memory(instance_id):
            self.changes.tell(instance_id)

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

    async def _reconcile_stray(self, container: Container) -> Outcome | None:
        """A container without a live row: removed when its instance has ended; left alone when nobody knows it."""
        async with self._database.reading() as db:
            row = await instances.by_id(db, container.instance_id)
        if row is None:
            log.warning("reconcile.unknown_container", instance=container.instance_id, state=container.state)
            return Outcome(container.instance_id, "ignored", "a container of this deployment that no record names")
        if row.is_live:  # launched since the list was made
            return None
        await self._runtime.remove(container.instance_id)
        return Outcome(container.instance_id, "removed", "its instance had ended")

    async def _reconcile(self, instance: Instance, container: Container | None, gap: Gap = Gap.NONE) -> Outcome | None:
        if instance.id in self._tasks or not self.is_owner:
            return None  # somebody is at it
        if instance.state is State.RUNNING:
            return await self._reconcile_running(instance, container, gap)
        if instance.state not in (State.STARTING, State.STOPPING):
            return None
        async with self._database.transaction() as db:
            await instances.note(db, instance.id, carrier=self.id)
        carry = self._carry_start if instance.state is State.STARTING else self._carry_end
        self._spawn(instance.id, lambda: carry(instance.id))
        what = "start" if instance.state is State.STARTING else "stop"
        return Outcome(instance.id, f"{what} taken over", "the process that carried it out has ended")

    async def _reconcile_running(self, instance: Instance, container: Container | None, gap: Gap) -> Outcome | None:
        if container is None or not container.state.is_up:
            # What was listed may be older than the row: it may have begun to run in between.
            container = await self._runtime.find(instance.id)
        if container is not None and container.state.is_up:
            if container.address == instance.address or container.address is None:
                return None
            async with self._database.transaction() as db:
                await instances.note(db, instance.id, host=container.address.host, port=container.address.port)
            return Outcome(instance.id, "address renewed", f"it is reached at {container.address} now")
        ended = await self._endings.by_itself(instance, container, self.id, gap)
        if ended is None:
            return None  # somebody else ended it meanwhile
        self.changes.tell(instance.id)
        self._spawn(instance.id, lambda: self._carry_end(instance.id))
        state, reason = ended
        return Outcome(instance.id, f"recorded as {state}", reason)
