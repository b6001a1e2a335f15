"""The steps of an end whose intent is committed: stop with time to save, keep the log, remove, record."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from ..domain.environments import Environment
from ..domain.instances import State
from ..errors import EngineRefused, EngineUnavailable
from ..runtime.base import Runtime
from ..store import instances
from ..store.database import Database
from .endings import Endings
from .signals import Signal

log = structlog.get_logger(__name__)

GRACE_SECONDS = 10  # of an environment that the catalogue does not have any more


class StopProcedure:
    """Each step may be done twice without harm.

    Args:
        freed: set when an end is over, since what it held is free then.
    """

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        catalogue: Mapping[str, Environment],
        endings: Endings,
        freed: Signal,
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._catalogue = catalogue
        self._endings = endings
        self._freed = freed

    async def run(self, instance_id: str) -> None:
        """Stops what is to be stopped; anything else is left as it is."""
        async with self._database.reading() as db:
            instance = await instances.by_id(db, instance_id)
        if instance is None or instance.state is not State.STOPPING:
            return
        try:
            await self._runtime.stop(instance_id, self.grace_seconds(instance.environment))
            await self._endings.keep_log(instance_id)
            await self._runtime.remove(instance_id)
        except (EngineUnavailable, EngineRefused) as error:
            log.warning("stop.postponed", instance=instance_id, detail=error.detail)
            return  # the intent stays; the next sweep takes it up again
        await self._endings.stopped(instance_id)
        self._freed.set()

    def grace_seconds(self, environment: str) -> int:
        """How long an application of that environment gets to save."""
        found = self._catalogue.get(environment)
        return found.stop_grace_seconds if found else GRACE_SECONDS
