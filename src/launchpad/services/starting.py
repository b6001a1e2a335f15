"""The steps of a start, from its committed intent to an instance that can be used, or to its recorded failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import structlog

from ..domain.causes import Cause
from ..domain.environments import Environment
from ..domain.instances import LIVE, Instance, Stage, State
from ..domain.users import User
from ..errors import Conflict, ContainerEnded, EngineUnavailable, LaunchpadError
from ..runtime.base import Container, Runtime
from ..storage.base import Homes
from ..store import instances, users
from ..store.database import Database
from .endings import Endings
from .images import ImageService
from .launching import Launcher
from .signals import Signal
from .task_table import TaskTable

log = structlog.get_logger(__name__)


class StartProcedure:
    """Each step may be done twice without harm: whoever takes over begins anew.

    Args:
        freed: set when a start is over, since another may begin then.
    """

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        homes: Homes,
        images: ImageService,
        launcher: Launcher,
        catalogue: Mapping[str, Environment],
        endings: Endings,
        freed: Signal,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._homes = homes
        self._images = images
        self._launcher = launcher
        self._catalogue = catalogue
        self._endings = endings
        self._freed = freed
        self._now = now

    async def run(self, instance_id: str, tasks: TaskTable) -> None:
        """Starts what is to be started; anything else is left as it is.

        Args:
            tasks: where the engine's own part of a start is finished that is given up in the middle.
        """
        async with self._database.reading() as db:
            instance = await instances.by_id(db, instance_id)
            owner = await users.by_id(db, instance.owner_id) if instance else None
            beside = await instances.of_owner(db, owner.id, states=LIVE - {State.QUEUED}) if owner else []
        if instance is None or owner is None or instance.state is not State.STARTING:
            return
        try:
            container = await self._make(instance, owner, beside, tasks)
        except LaunchpadError as error:
            log.warning("launch.failed", instance=instance_id, error=error.code, detail=error.detail)
            await self.fail(instance_id, *await self._endings.why_failed(error, instance, owner.username))
            return
        await self._is_running(instance_id, container)

    async def _make(self, instance: Instance, owner: User, beside: list[Instance], tasks: TaskTable) -> Container:
        environment = self._catalogue.get(instance.environment)
        if environment is None:
            raise EngineUnavailable("this environment was taken out of the catalogue")
        await self._stage(instance.id, Stage.HOME)
        # One home, one limit: an instance that runs already keeps the room that it was promised.
        most = max(one.limits.storage_bytes for one in (instance, *beside))
        await self._homes.prepare(owner.username, owner.uid, most)
        await self._stage(instance.id, Stage.IMAGE)
        image = await self._images.resolve(environment)
        await self._stage(instance.id, Stage.CONTAINER, image=image.reference, stand_in=image.stand_in)
        container = await self._begin(instance, owner, tasks)
        if container.address is None:  # it has ended already; the engine says how a moment later
            raise ContainerEnded(f"{environment.title} ended while it started.")
        await self._stage(instance.id, Stage.STARTING)
        await self._launcher.wait_until_usable(instance, environment, container.address)
        return container

    async def _begin(self, instance: Instance, owner: User, tasks: TaskTable) -> Container:
        """Asks the engine. Given up in the middle, what the engine makes all the same is removed once it is there."""
        asked = tasks.beside(self._launcher.launch(instance, owner), f"launch {instance.id}")
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            if not asked.cancelled():
                tasks.beside(self._remove_when_made(instance.id, asked), f"remove {instance.id}")
            raise

    async def _remove_when_made(self, instance_id: str, asked: asyncio.Task[Container]) -> None:
        with suppress(LaunchpadError):
            await asked
        async with self._database.reading() as db:
            instance = await instances.by_id(db, instance_id)
        if instance is None or instance.state not in (State.STARTING, State.RUNNING):
            with suppress(LaunchpadError):  # the next sweep removes it
                await self._runtime.remove(instance_id)

    async def _is_running(self, instance_id: str, container: Container) -> None:
        now_there: Instance | None = None
        address = container.address
        if address is None:  # `_make` has seen to it
            raise ContainerEnded("It ended while it started.")
        async with self._database.transaction() as db:
            moved = await instances.move(
                db,
                instance_id,
                State.STARTING,
                State.RUNNING,
                stage=Stage.READY,
                started_at=self._now(),
                host=address.host,
                port=address.port,
            )
            if not moved:
                now_there = await instances.by_id(db, instance_id)
        if not moved and (now_there is None or now_there.state not in (State.STARTING, State.RUNNING)):
            # Another process ended it meanwhile, and may have looked for the container before there was one.
            with suppress(LaunchpadError):  # the next sweep removes it
                await self._runtime.remove(instance_id)
        self._freed.set()

    async def _stage(self, instance_id: str, stage: Stage, **values: Any) -> None:
        """Raises Conflict when it is no start any more: somebody has ended it."""
        async with self._database.transaction() as db:
            if not await instances.advance(db, instance_id, stage, **values):
                raise Conflict("It is being stopped.")

    async def fail(self, instance_id: str, reason: str, cause: Cause | None = None) -> None:
        """Ends a start; anything but a start is left as it is."""
        async with self._database.reading() as db:
            instance = await instances.by_id(db, instance_id)
        if instance is None or instance.state is not State.STARTING:
            return
        with suppress(LaunchpadError):  # a container left behind now is removed by the next sweep
            await self._runtime.remove(instance_id)
        await self._endings.as_failed(instance, reason, cause)
        self._freed.set()
