"""The engine's containers as they are: which there are, in which state, and what they use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from ..domain.memory import MemoryDeath
from ..domain.naming import container_name
from ..domain.usage import ContainerActivity
from ..errors import EngineAnswer
from . import freezer
from .activity_reader import ActivityReader, Measured
from .base import (
    LABEL_DEPLOYMENT,
    LABEL_INSTANCE,
    Caps,
    Container,
    ContainerState,
    Freezer,
    HostFacts,
    MemoryWatch,
    Usage,
)
from .control_groups import ControlGroup, ControlGroups
from .engine_client import EngineClient, refused
from .engine_spec import container_of, host_of, listed_container, process_of, state_of
from .memory_tender import MemoryTender, Tended

log = structlog.get_logger(__name__)

INSPECTS_AT_ONCE = 16
SIZES_SECONDS = 300.0  # many small files take their time


T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class _Known:
    """A container that is up, inspected once. `group`: None where its control group is not seen from here."""

    id: str
    container: Container
    group: ControlGroup | None
    pid: int


class EngineContainers:
    """The half of the runtime that looks at containers.

    A container that is up is inspected once, and its control group remembered, until it ends.

    Args:
        deployment_id: stands in every container's label; what has another one does not exist here.
        groups: the control groups of the engine's machine.
    """

    def __init__(self, client: EngineClient, deployment_id: str, groups: ControlGroups | None = None) -> None:
        self._client = client
        self.deployment_id = deployment_id
        self._groups = groups or ControlGroups()
        self._activity = ActivityReader(self._groups)
        self._reading_activity = asyncio.Lock()  # each look begins where the one before ended
        self._memory = MemoryTender(self._groups)
        self._tending_memory = asyncio.Lock()
        self._has_told_refused = False
        self._known: dict[str, _Known] = {}  # by the containers' ids
        self._ids: dict[str, str] = {}  # of those, by the instances'

    async def find(self, instance_id: str) -> Container | None:
        inspected = await self._inspect(container_name(self.deployment_id, instance_id))
        return None if inspected is None else container_of(inspected)

    async def list_containers(self) -> list[Container]:
        listed = await self._list()
        up = [one for one in listed if state_of(str(one["State"])).is_up]
        self._forget_all_but({str(one["Id"]) for one in up})
        known = await self._known_of(up)
        # The list itself knows neither exit codes nor who ran out of memory.
        others = await self._inspect_all([str(one["Id"]) for one in listed if one["Id"] not in known])
        found = [listed_container(one, known[one["Id"]].container) for one in up if one["Id"] in known]
        return found + [container_of(one) for one in others if one is not None]

    async def usage_all(self) -> Mapping[str, Usage]:
        return await asyncio.to_thread(self._measured, tuple((await self._all_up()).values()))

    async def activity_all(self) -> Mapping[str, ContainerActivity]:
        listed = await self._list("running", "paused")
        paused = {str(one["Id"]) for one in listed if state_of(str(one["State"])) is ContainerState.PAUSED}
        up = await self._all_up(listed)
        measured = [
            Measured(one.id, one.container.instance_id, one.pid, one.group, one.id in paused)
            for one in up.values()
            if one.group is not None
        ]
        async with self._reading_activity:
            return await _to_its_end(self._activity.read_all, measured)

    async def tend_memory(self) -> Mapping[str, tuple[MemoryDeath, ...]]:
        up = (await self._all_up()).values()
        tended = [Tended(one.id, one.container.instance_id, one.pid, one.group) for one in up if one.group is not None]
        async with self._tending_memory:
            found = await _to_its_end(self._memory.tend, tended)
            self._forget_all_but(self._known.keys() - self._memory.restarted)
        if self._memory.ordered.refused and not self._has_told_refused:
            self._has_told_refused = True
            log.warning("engine.programs_not_ordered", number=self._memory.ordered.refused)
        return found

    async def memory_watch(self) -> MemoryWatch:
        await self.tend_memory()
        return self._memory.watch()

    async def _all_up(self, listed: Sequence[Mapping[str, Any]] | None = None) -> dict[str, _Known]:
        if listed is None:
            listed = await self._list("running", "paused")
        self._forget_all_but({str(one["Id"]) for one in listed})
        return await self._known_of(listed)

    async def usage(self, instance_id: str) -> Usage | None:
        known = self._known.get(self._ids.get(instance_id, ""))
        if known is not None and known.group is not None:
            usage = await asyncio.to_thread(self._groups.usage, known.group)
            if usage is not None:
                return usage
        group = await self._group_now(instance_id)
        return None if group is None else await asyncio.to_thread(self._groups.usage, group)

    async def caps(self, instance_id: str) -> Caps | None:
        group = await self._group_now(instance_id)
        return None if group is None else await asyncio.to_thread(self._groups.caps, group)

    async def host(self) -> HostFacts:
        try:
            return host_of(await self._client.json("info"))
        except EngineAnswer as error:
            raise refused(error, "describe its host") from error

    async def freezer(self) -> Freezer:
        return freezer.freezer_of(await self.host())

    async def push_out(self, instance_id: str) -> None:
        group = await self._group_of(instance_id)
        if group is not None:
            await asyncio.to_thread(freezer.push_out, group)

    async def unread_bytes(self, instance_ids: Sequence[str]) -> Mapping[str, int]:
        groups = {one: group for one in instance_ids if (group := await self._group_of(one)) is not None}
        found = await asyncio.to_thread(lambda: {one: freezer.unread_bytes(group) for one, group in groups.items()})
        return {one: number for one, number in found.items() if number is not None}

    async def written_all(self) -> Mapping[str, int]:
        listed = await self._list("running", "paused", with_sizes=True)
        return {str(one["Labels"][LABEL_INSTANCE]): int(one.get("SizeRw") or 0) for one in listed}

    async def _list(self, *states: str, with_sizes: bool = False) -> list[dict[str, Any]]:
        """In whatever state, or in one of these. For their sizes the engine looks at all that they have written."""
        filters = {"label": [f"{LABEL_DEPLOYMENT}={self.deployment_id}"]} | ({"status": list(states)} if states else {})
        params = {"all": "true", "filters": json.dumps(filters)} | ({"size": "true"} if with_sizes else {})
        seconds = SIZES_SECONDS if with_sizes else None
        try:
            found: list[dict[str, Any]] = await self._client.json("containers/json", params=params, seconds=seconds)
        except EngineAnswer as error:
            raise refused(error, "list the instances") from error
        return found

    async def _inspect(self, container: str) -> dict[str, Any] | None:
        """What the engine says of a container of ours; None when there is none, or it is somebody else's."""
        try:
            found: dict[str, Any] = await self._client.json(f"containers/{container}/json")
        except EngineAnswer as error:
            if error.engine_status == 404:
                return None
            raise refused(error, "inspect the instance") from error
        labels = found["Config"].get("Labels") or {}
        return found if labels.get(LABEL_DEPLOYMENT) == self.deployment_id else None

    async def _inspect_all(self, container_ids: Sequence[str]) -> list[dict[str, Any] | None]:
        few = asyncio.Semaphore(INSPECTS_AT_ONCE)

        async def one(container_id: str) -> dict[str, Any] | None:
            async with few:
                return await self._inspect(container_id)

        return await asyncio.gather(*map(one, container_ids))

    # -- what is known of those that are up ----------------------------------------------------------------------------

    def _remember(self, inspected: Mapping[str, Any]) -> _Known:
        """Notes a container that is up, as the engine has just said."""
        container, container_id = container_of(inspected), str(inspected["Id"])
        group = self._groups.find(process_of(inspected), container_id)
        if group is None:
            log.info(
                "engine.not_measured", instance=container.instance_id, reason="its control group is not to be found"
            )
        known = _Known(container_id, container, group, process_of(inspected))
        self._known[container_id] = known
        self._ids[container.instance_id] = container_id
        return known

    def _forget_all_but(self, container_ids: set[str]) -> None:
        for gone in self._known.keys() - container_ids:
            instance_id = self._known.pop(gone).container.instance_id
            if self._ids.get(instance_id) == gone:
                del self._ids[instance_id]

    async def _known_of(self, listed: Sequence[Mapping[str, Any]]) -> dict[str, _Known]:
        """Of containers that are listed as up, by their ids; one that has ended since is left out."""
        new = [str(one["Id"]) for one in listed if one["Id"] not in self._known]
        for inspected in await self._inspect_all(new):
            if inspected is not None and process_of(inspected):
                self._remember(inspected)
        return {one["Id"]: self._known[one["Id"]] for one in listed if one["Id"] in self._known}

    async def _group_of(self, instance_id: str) -> ControlGroup | None:
        """As it is known, if it is."""
        known = self._known.get(self._ids.get(instance_id, ""))
        if known is not None and known.group is not None and known.group.memory.exists():
            return known.group
        return await self._group_now(instance_id)

    async def _group_now(self, instance_id: str) -> ControlGroup | None:
        """Of the instance's container as it is now, asked of the engine; None when none is up."""
        inspected = await self._inspect(container_name(self.deployment_id, instance_id))
        if inspected is None or not process_of(inspected):
            return None
        known = self._known.get(str(inspected["Id"]))
        return known.group if known is not None and known.group is not None else self._remember(inspected).group

    def _measured(self, known: Sequence[_Known]) -> dict[str, Usage]:
        groups = {one.container.instance_id: one.group for one in known if one.group is not None}
        found = {instance_id: self._groups.usage(group) for instance_id, group in groups.items()}
        return {instance_id: usage for instance_id, usage in found.items() if usage is not None}


async def _to_its_end(work: Callable[[S], T], given: S) -> T:
    """In a thread. Who is cancelled waits for its end all the same: what it works on is not for two at once."""
    thread = asyncio.ensure_future(asyncio.to_thread(work, given))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        await asyncio.wait((thread,))
        raise
