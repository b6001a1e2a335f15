"""Docker Engine, through its API. Facts about its behaviour were tried with 20.10."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any

import structlog
from aiodocker.exceptions import DockerError

from ..domain.naming import container_name
from ..errors import EngineRefused, EngineUnavailable, ImageMissing, NetworkUnavailable
from ..settings import EngineSettings
from .base import (
    LABEL_DEPLOYMENT,
    LABEL_INSTANCE,
    Container,
    ContainerSpec,
    ContainerState,
    HostFacts,
    RuntimeEvent,
    Usage,
)
from .engine_client import EngineClient, refused
from .engine_images import EngineImages
from .engine_spec import container_of, create_body

log = structlog.get_logger(__name__)

ICC_OPTION = "com.docker.network.bridge.enable_icc"
START_TRIES = 20  # each passes over one port that a foreign process holds
START_SECONDS, STOP_MARGIN_SECONDS, REMOVE_SECONDS = 120, 15, 60
_PORT_WORDS = ("address already in use", "port is already allocated")
_POOL_WORDS = ("address pool", "non-overlapping ipv4")
_EVENTS = {"start": "started", "die": "ended", "oom": "out-of-memory"}


class EngineRuntime(EngineImages):
    """One Docker Engine. See `base.Runtime` for what each method promises."""

    def __init__(self, settings: EngineSettings, deployment_id: str) -> None:
        self._settings = settings
        self._deployment_id = deployment_id
        self._network_known = False
        self._network_lock = asyncio.Lock()
        super().__init__(EngineClient(settings.host))

    async def aclose(self) -> None:
        await self._client.aclose()

    async def host(self) -> HostFacts:
        info = await self._ask("info")
        return HostFacts(
            cpus=int(info["NCPU"]), memory_bytes=int(info["MemTotal"]), engine_version=str(info["ServerVersion"])
        )

    # -- network -----------------------------------------------------------------------------------------------------

    async def ensure_network(self) -> None:
        if self._network_known:
            return
        async with self._network_lock:
            if not self._network_known:
                await self._make_network()
                self._network_known = True

    async def _make_network(self) -> None:
        name = self._settings.network
        networks = [one for one in await self._ask("networks") if one["Name"] == name]
        if not networks:
            body = {
                "Name": name,
                "Driver": "bridge",
                "CheckDuplicate": True,
                "Options": {ICC_OPTION: "false"},
                "Labels": {LABEL_DEPLOYMENT: self._deployment_id},
            }
            try:
                made = await self._client.json("networks/create", "POST", data=body)
            except DockerError as error:
                if error.status == 409:  # another process was quicker
                    return
                if any(words in error.message.lower() for words in _POOL_WORDS):
                    log.exception("engine.pools_exhausted", message=error.message)
                    raise NetworkUnavailable(
                        "The engine has no network addresses left for the instances' network. Remove networks that "
                        "nobody uses, or give the engine larger default-address-pools."
                    ) from error
                raise NetworkUnavailable("The instances' network could not be made; see the log.") from error
            await self._leave_one_network(name, str(made["Id"]))
        elif networks[0].get("Options", {}).get(ICC_OPTION) != "false":
            raise NetworkUnavailable(
                f"The engine's network “{name}” lets containers reach each other. Remove it, so that it is made "
                "anew, or name another one in engine.network."
            )

    async def _leave_one_network(self, name: str, made: str) -> None:
        """Several processes can make networks of one name at once; all but the first one take theirs back."""
        same = sorted((one["Created"], one["Id"]) for one in await self._ask("networks") if one["Name"] == name)
        if same and same[0][1] != made:
            await self._client.call(f"networks/{made}", "DELETE")

    # -- containers --------------------------------------------------------------------------------------------------

    async def start(self, spec: ContainerSpec) -> Container:
        name = container_name(self._deployment_id, spec.instance_id)
        body = create_body(spec, self._settings, self._deployment_id)
        for _ in range(START_TRIES):
            if not await self._create(name, body, spec.image):
                there = await self.find(spec.instance_id)
                if there is not None and there.state is ContainerState.RUNNING:
                    return there
                await self.remove(spec.instance_id)
                continue
            try:
                await self._client_start(name)
                started = await self.find(spec.instance_id)
            except (DockerError, EngineUnavailable) as error:
                await self._remove_quietly(spec.instance_id)
                if isinstance(error, EngineUnavailable):
                    raise
                if any(words in error.message.lower() for words in _PORT_WORDS):
                    continue  # the engine's allocator goes on to the next port
                if error.status == 404 and "network" in error.message.lower():
                    self._network_known = False
                    await self.ensure_network()
                    continue
                raise refused(error, "start the instance") from error
            except asyncio.CancelledError:
                await asyncio.shield(self._remove_quietly(spec.instance_id))
                raise
            if started is not None:
                return started
        raise EngineRefused(
            "No port is free for the instance. Your administrator can widen engine.port_range.", retry_after_seconds=60
        )

    async def _create(self, name: str, body: Mapping[str, Any], image: str) -> bool:
        """False when the name is taken."""
        try:
            await self._client.json("containers/create", "POST", data=dict(body), params={"name": name})
        except DockerError as error:
            if error.status == 409:
                return False
            if error.status == 404:
                log.warning("engine.no_image", image=image, message=error.message)
                raise ImageMissing(
                    f"The image {image} is not on this server. Your administrator can fetch it with "
                    "“launchpad images pull” or “launchpad images build”."
                ) from error
            raise refused(error, "create the instance") from error
        return True

    async def _client_start(self, name: str) -> None:
        await self._client.call(f"containers/{name}/start", "POST", seconds=START_SECONDS)

    async def find(self, instance_id: str) -> Container | None:
        name = container_name(self._deployment_id, instance_id)
        try:
            return container_of(await self._client.json(f"containers/{name}/json"))
        except DockerError as error:
            if error.status == 404:
                return None
            raise refused(error, "say how the instance is") from error

    async def list_containers(self) -> list[Container]:
        filters = json.dumps({"label": [f"{LABEL_DEPLOYMENT}={self._deployment_id}"]})
        listed = await self._ask("containers/json", all="true", filters=filters)
        found = []
        for one in listed:
            try:
                found.append(container_of(await self._client.json(f"containers/{one['Id']}/json")))
            except DockerError as error:
                if error.status != 404:  # gone since the list was made
                    raise refused(error, "list the instances") from error
        return found

    async def stop(self, instance_id: str, grace_seconds: int) -> None:
        name = container_name(self._deployment_id, instance_id)
        seconds = grace_seconds + STOP_MARGIN_SECONDS
        try:
            await self._client.call(f"containers/{name}/stop", "POST", params={"t": grace_seconds}, seconds=seconds)
        except DockerError as error:
            if error.status not in (304, 404):
                raise refused(error, "stop the instance") from error

    async def remove(self, instance_id: str) -> None:
        name = container_name(self._deployment_id, instance_id)
        params = {"force": "true", "v": "true"}
        try:
            await self._client.call(f"containers/{name}", "DELETE", params=params, seconds=REMOVE_SECONDS)
        except DockerError as error:
            if error.status == 409:  # it is being removed already
                return
            if error.status != 404:
                raise refused(error, "remove the instance") from error

    async def _remove_quietly(self, instance_id: str) -> None:
        try:
            await self.remove(instance_id)
        except (EngineRefused, EngineUnavailable) as error:
            log.warning("engine.left_behind", instance=instance_id, detail=error.detail)

    async def usage(self, instance_id: str) -> Usage | None:
        name = container_name(self._deployment_id, instance_id)
        try:
            stats = await self._client.json(f"containers/{name}/stats", params={"stream": "false", "one-shot": "true"})
        except DockerError as error:
            if error.status in (404, 409):
                return None
            raise refused(error, "measure the instance") from error
        memory = stats.get("memory_stats") or {}
        if "usage" not in memory:
            return None
        details = memory.get("stats") or {}
        # cgroup v2 says inactive_file, v1 total_inactive_file: page cache that is given up at need.
        cache = details.get("inactive_file", details.get("total_inactive_file", 0))
        return Usage(
            memory_bytes=max(0, int(memory["usage"]) - int(cache)),
            cpu_seconds=int(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9,
            pids=int((stats.get("pids_stats") or {}).get("current", 0)),
        )

    async def log_tail(self, instance_id: str, lines: int = 100) -> str:
        name = container_name(self._deployment_id, instance_id)
        params = {"stdout": "true", "stderr": "true", "tail": str(lines)}
        try:
            return _without_frames(await self._client.call(f"containers/{name}/logs", "GET", params=params))
        except DockerError as error:
            if error.status == 404:
                return ""
            raise refused(error, "read the instance's log") from error

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        filters = {
            "type": ["container"],
            "event": list(_EVENTS),
            "label": [f"{LABEL_DEPLOYMENT}={self._deployment_id}"],
        }
        try:
            async for event in self._client.lines("events", params={"filters": json.dumps(filters)}):
                instance_id = event.get("Actor", {}).get("Attributes", {}).get(LABEL_INSTANCE)
                kind = _EVENTS.get(str(event.get("Action", "")))
                if instance_id and kind:
                    yield RuntimeEvent(instance_id, kind)
        except DockerError as error:
            raise refused(error, "tell what happens") from error

    async def _ask(self, path: str, **params: str) -> Any:
        try:
            return await self._client.json(path, params=params or None)
        except DockerError as error:
            raise refused(error, "answer") from error


def _without_frames(data: bytes) -> str:
    """The text of a log without the 8-byte headers that tell output from error output."""
    parts = []
    while len(data) >= 8:
        (length,) = struct.unpack(">I", data[4:8])
        parts.append(data[8 : 8 + length])
        data = data[8 + length :]
    return b"".join(parts).decode(errors="replace")
