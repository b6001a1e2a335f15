"""What instances print: the tail of a live one, and what is kept of one that has ended."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

import structlog

from ..domain.instances import Instance, State
from ..domain.logs import KEPT_LINES, cleaned
from ..errors import LaunchpadError
from ..runtime.base import Containers
from ..store import instance_logs
from ..store.database import Database

log = structlog.get_logger(__name__)

SecretsOf = Callable[[str], Collection[str]]


class InstanceLogs:
    """Nothing leaves here uncleaned.

    Args:
        secrets_of: what of ours may stand in the output of an instance, by its id: it is masked.
    """

    def __init__(self, database: Database, runtime: Containers, secrets_of: SecretsOf) -> None:
        self._database = database
        self._runtime = runtime
        self._secrets_of = secrets_of

    async def tail(self, instance_id: str) -> str:
        """The last lines of a container that is there; empty when there is none.

        Raises:
            EngineUnavailable, EngineRefused: they cannot be had now.
        """
        return cleaned(await self._runtime.log_tail(instance_id, KEPT_LINES), self._secrets_of(instance_id))

    async def of(self, instance: Instance) -> str:
        """The current tail of a live instance, what was kept of an ended one; empty where there is nothing.

        Raises:
            EngineUnavailable, EngineRefused: that of a live one cannot be had now.
        """
        if instance.is_live:
            return "" if instance.state is State.QUEUED else await self.tail(instance.id)
        async with self._database.reading() as db:
            return await instance_logs.of_instance(db, instance.id)

    async def keep(self, instance_id: str, now: datetime) -> str:
        """Keeps the tail of a container that is about to be removed; what cannot be read holds nothing up."""
        try:
            text = await self.tail(instance_id)
        except LaunchpadError as error:
            log.warning("instance_log.not_kept", instance=instance_id, detail=error.detail)
            return ""
        if text:
            async with self._database.transaction() as db:
                await instance_logs.put(db, instance_id, text, now)
        return text
