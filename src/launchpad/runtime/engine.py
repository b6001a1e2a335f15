"""Docker Engine, through its API. Facts about its behaviour were tried with 20.10."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote
from weakref import WeakValueDictionary

import structlog

from ..domain.naming import container_name
from ..errors import EngineAnswer, EngineRefused, EngineUnavailable, GpuUnavailable, ImageMissing
from ..settings import EgressSettings, EngineSettings
from .base import (
    LABEL_DEPLOYMENT,
    LABEL_INSTANCE,
    NO_GPU,
    NORMAL_CPU_WEIGHT,
    Container,
    ContainerSpec,
    ContainerState,
    NetworkFacts,
    RuntimeEvent,
)
from .egress import EgressRules
from .engine_client import ANSWER_SECONDS, EngineClient, refused
from .engine_containers import EngineContainers
from .engine_images import EngineImages
from .engine_languages import ImageLanguages
from .engine_network import EngineNetwork
from .engine_spec import container_of, create_body, log_text, number_of_ports, path_of, process_of
from .engine_versions import hangs_when_many_end

log = structlog.get_logger(__name__)

MAKE_SECONDS = 120.0  # to create, and again to start; a busy engine takes its time over many at once
REMOVE_SECONDS = 60.0
# Where ends are kept apart, the next may begin after so long although the one before has not ended yet. One that saves
# takes its own time, so that many that are stopped together end apart by themselves.
REMOVALS_APART_SECONDS = 2.0
STOPS_APART_SECONDS = 0.1
STOP_MARGIN_SECONDS = 15.0
NORMAL_SHARES, LEAST_SHARES = 1024, 2  # of processor time: the engine's default, and the least that the kernel takes
NAME_TRIES = 5  # each takes away what has the instance's name and does not run
PORT_TRIES = 50  # each passes over one port that a foreign process holds, in about 0.1 s
_PORT_TAKEN = ("address already in use", "port is already allocated")
_PORTS_USED_UP = ("all ports are allocated",)
# Without NVIDIA's container toolkit; with it, and the driver or that GPU missing.
_NO_GPU = ("select device driver", "nvidia")
_EVENTS = {"start": "started", "kill": "signalled", "die": "ended", "oom": "out-of-memory"}
# Of storage drivers that cannot limit a container's layer, or not on this file system.
_NO_LAYER_LIMIT = ("storage-opt", "storage opt", "quota", "unknown option size")
_ENDING_SIGNALS = {"2", "3", "9", "15", "SIGINT", "SIGQUIT", "SIGKILL", "SIGTERM"}
_NO_COMMAND = ("executable file not found", "no such file or directory", "permission denied")


class _PortsUsedUp(EngineRefused):
    """None of the ports asked for is free."""


class EngineRuntime(EngineContainers, EngineImages):
    """One Docker Engine. See `base.Engine` for what each method promises.

    Args:
        settings: where the engine is, the network, the range of ports.
        egress: what instances may reach; None: the defaults.
        deployment_id: stands in every container's label; what has another one is never touched.
        answer_seconds: patience with the engine for calls that wait for nothing but it.

    Raises:
        SettingsError: `settings.host` is no address of an engine.
    """

    def __init__(
        self,
        settings: EngineSettings,
        deployment_id: str,
        egress: EgressSettings | None = None,
        *,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._settings = settings
        client = EngineClient(settings.host, answer_seconds=answer_seconds)
        EngineContainers.__init__(self, client, deployment_id)
        EngineImages.__init__(self, client)
        rules = EgressRules(egress or EgressSettings(), deployment_id)
        self._network = EngineNetwork(self._client, settings.network, deployment_id, rules)
        self._starting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._ending = asyncio.Lock()
        self._limits_layers: bool | None = None  # None: not tried yet

    async def aclose(self) -> None:
        await self._client.aclose()

    async def image_languages(self, reference: str) -> Mapping[str, str]:
        return await ImageLanguages(self._client, self.deployment_id).of(reference)

    async def ensure_network(self) -> None:
        await self._network.ensure()

    async def mend_network(self) -> None:
        await self._network.mend()

    async def network(self) -> NetworkFacts:
        return await self._network.facts()

    async def remove_network(self) -> None:
        """Takes the instances' network and its rules off this server; raises EngineRefused while it is used."""
        await self._network.remove()

    # -- starting ----------------------------------------------------------------------------------------------------

    async def start(self, spec: ContainerSpec) -> Container:
        """As promised; a container is left behind only when the engine goes away amid it, for the sweep to remove."""
        async with self._starting.setdefault(spec.instance_id, asyncio.Lock()):
            *first, whole = self._settings.port_choices
            for ports in first:
                with suppress(_PortsUsedUp):
                    return await self._start(spec, ports)
            return await self._start(spec, whole)

    async def _start(self, spec: ContainerSpec, ports: str) -> Container:
        for _ in range(NAME_TRIES):
            made = await self._create(spec, ports)
            if made is None:
                there = await self.find(spec.instance_id)
                if there is not None and there.state.is_up:
                    return there
                await self.remove(spec.instance_id)
                continue
            runs = False
            try:
                started = await self._run(made, spec, ports)
                runs = started is not None
            finally:  # also when the caller is cancelled
                if not runs:
                    await self._take_back(made)
            if started is not None:
                return started
            self._network.forget()
            await self._network.ensure()
        raise EngineRefused("The container engine could not create the instance; its name is still in use.")

    async def _create(self, spec: ContainerSpec, ports: str) -> str | None:
        """The new container's id; None when the name is taken."""
        image_path = await self._path_in(spec.image) if spec.first_in_path else ""
        limits_layer = self._limits_layers is not False
        body = create_body(spec, self._settings, self.deployment_id, image_path, ports, limits_layer=limits_layer)
        name = container_name(self.deployment_id, spec.instance_id)
        asked = asyncio.ensure_future(
            self._client.json("containers/create", "POST", params={"name": name}, data=body, seconds=MAKE_SECONDS)
        )
        try:
            return str((await asyncio.shield(asked))["Id"])
        except asyncio.CancelledError:
            # The engine goes on making it although nobody listens any more.
            with suppress(EngineAnswer, EngineUnavailable):
                await self._take_back(str((await asked)["Id"]))
            raise
        except EngineAnswer as error:
            if error.engine_status == 409:
                return None
            if limits_layer and any(words in error.message.lower() for words in _NO_LAYER_LIMIT):
                # Said at the first start, and kept in mind: doctor says so, and what is written is watched instead.
                log.info("engine.layers_not_limited", message=error.message)
                self._limits_layers = False
                return await self._create(spec, ports)
            if error.engine_status == 404 and "image" in error.message.lower():
                log.warning("engine.no_image", image=spec.image, message=error.message)
                raise ImageMissing(
                    f"The image {spec.image} is not on this server. Your administrator can fetch it with "
                    "“launchpad images pull” or “launchpad images build”."
                ) from error
            raise refused(error, "create the instance") from error

    async def _path_in(self, image: str) -> str:
        """The PATH that an image sets; empty where it sets none, or is not there, which its start says."""
        try:
            found = await self._client.json(f"images/{quote(image, safe='/:@')}/json")
        except EngineAnswer:
            return ""
        return path_of(found["Config"].get("Env") or ())

    async def _run(self, made: str, spec: ContainerSpec, ports: str) -> Container | None:
        """Starts it on a port that is free; None when its network is gone or there are several of that name."""
        for _ in range(min(PORT_TRIES, number_of_ports(ports))):
            try:
                await self._client.call(f"containers/{made}/start", "POST", seconds=MAKE_SECONDS)
                inspected = await self._client.json(f"containers/{made}/json")
                return self._remember(inspected).container if process_of(inspected) else container_of(inspected)
            except EngineAnswer as error:
                message = error.message.lower()
                if any(words in message for words in _PORT_TAKEN):
                    continue  # the engine's allocator goes on to the next port
                if any(words in message for words in _PORTS_USED_UP):
                    log.warning("engine.ports_used_up", port_range=ports)
                    break
                if "network" in message and (error.engine_status == 404 or "ambiguous" in message):
                    log.warning("engine.network_gone", message=error.message)
                    return None
                if spec.gpus and any(words in message for words in _NO_GPU):
                    log.error("engine.no_gpu", gpus=spec.gpus, message=error.message)
                    raise GpuUnavailable(NO_GPU) from error
                if "exec:" in message and any(words in message for words in _NO_COMMAND):
                    log.warning("engine.no_command", image=spec.image, message=error.message)
                    raise EngineRefused(
                        f"The image {spec.image} does not have the program that it is to start with, or it may not be "
                        "run. Your administrator can correct the image or its entry in the settings."
                    ) from error
                raise refused(error, "start the instance") from error
        raise _PortsUsedUp(
            "No port is free for the instance. Your administrator can widen engine.port_range.", retry_after_seconds=60
        )

    async def _take_back(self, made: str) -> None:
        try:
            await self._delete(made)
        except (EngineRefused, EngineUnavailable) as error:
            log.warning("engine.left_behind", container=made, detail=error.detail)

    # -- what happens ------------------------------------------------------------------------------------------------

    async def log_tail(self, instance_id: str, lines: int = 100) -> str:
        name = container_name(self.deployment_id, instance_id)
        params = {"stdout": "true", "stderr": "true", "tail": str(lines)}
        try:
            return log_text(await self._client.call(f"containers/{name}/logs", "GET", params=params))
        except EngineAnswer as error:
            if error.engine_status in (404, 409):  # gone, or being removed
                return ""
            raise refused(error, "read the instance's log") from error

    def events(self, since: float | None = None) -> AsyncIterator[RuntimeEvent]:
        # The engine keeps its last events, so what happens until the connection stands is not missed.
        return self._events(since=f"{time.time() if since is None else since:.6f}")

    async def _events(self, since: str) -> AsyncIterator[RuntimeEvent]:
        label = f"{LABEL_DEPLOYMENT}={self.deployment_id}"
        filters = {"type": ["container"], "event": list(_EVENTS), "label": [label]}
        params = {"since": since, "filters": json.dumps(filters)}
        try:
            async for event in self._client.lines("events", params=params, first_seconds=ANSWER_SECONDS):
                attributes = event.get("Actor", {}).get("Attributes", {})
                instance_id = attributes.get(LABEL_INSTANCE)
                kind = _EVENTS.get(str(event.get("Action", "")))
                if kind == "signalled" and str(attributes.get("signal")) not in _ENDING_SIGNALS:
                    continue
                if instance_id and kind:
                    yield RuntimeEvent(instance_id, kind)
        except EngineAnswer as error:
            raise refused(error, "report what happens") from error

    # -- ending ------------------------------------------------------------------------------------------------------

    async def stop(self, instance_id: str, grace_seconds: int) -> None:
        inspected = await self._inspect(container_name(self.deployment_id, instance_id))
        if inspected is None or not inspected["State"]["Running"]:
            return
        if inspected["State"].get("Paused"):
            await self._set_going(inspected["Id"], "unpause")  # so that it can save
        params, seconds = {"t": grace_seconds}, grace_seconds + STOP_MARGIN_SECONDS
        try:
            await self._apart(
                self._client.call(f"containers/{inspected['Id']}/stop", "POST", params=params, seconds=seconds),
                STOPS_APART_SECONDS,
            )
        except EngineAnswer as error:
            if error.engine_status != 404:
                raise refused(error, "stop the instance") from error

    async def pause(self, instance_id: str) -> None:
        if await self._state_now(instance_id) is not ContainerState.PAUSED:
            await self._set_going(container_name(self.deployment_id, instance_id), "pause")

    async def resume(self, instance_id: str) -> None:
        if await self._state_now(instance_id) is not ContainerState.RUNNING:
            await self._set_going(container_name(self.deployment_id, instance_id), "unpause")

    async def update(self, instance_id: str, memory_bytes: int | None = None, cpu_weight: int | None = None) -> None:
        body: dict[str, int] = {}
        if memory_bytes is not None:
            if memory_bytes > (await self.host()).memory_bytes:
                raise EngineRefused("This server does not have that much memory.")
            body |= {"Memory": memory_bytes, "MemorySwap": memory_bytes}
        if cpu_weight is not None:
            body["CpuShares"] = max(LEAST_SHARES, round(cpu_weight * NORMAL_SHARES / NORMAL_CPU_WEIGHT))
        await self._state_now(instance_id)
        if not body:
            return
        name = container_name(self.deployment_id, instance_id)
        try:
            await self._client.call(f"containers/{name}/update", "POST", data=body)
        except EngineAnswer as error:
            raise refused(error, "change the instance's limits") from error

    async def _state_now(self, instance_id: str) -> ContainerState:
        """Raises EngineRefused where it is not up."""
        there = await self.find(instance_id)
        if there is None or not there.state.is_up:
            raise EngineRefused("This instance is not running.")
        return there.state

    async def _set_going(self, container: str, verb: str) -> None:
        try:
            await self._client.call(f"containers/{container}/{verb}", "POST")
        except EngineAnswer as error:
            raise refused(error, f"{verb} the instance") from error

    async def remove(self, instance_id: str) -> None:
        inspected = await self._inspect(container_name(self.deployment_id, instance_id))
        if inspected is not None:
            await self._delete(inspected["Id"])

    async def _delete(self, container_id: str) -> None:
        """With the volumes that its image wanted; mounted directories stay."""
        params = {"force": "true", "v": "true"}
        try:
            await self._apart(
                self._client.call(f"containers/{container_id}", "DELETE", params=params, seconds=REMOVE_SECONDS),
                REMOVALS_APART_SECONDS,
            )
        except EngineAnswer as error:
            if error.engine_status == 409:  # somebody else is removing it: its name is free when that is done
                await self._until_removed(container_id)
            elif error.engine_status != 404:
                raise refused(error, "remove the instance") from error

    async def _apart(self, call: Coroutine[Any, Any, bytes], apart_seconds: float) -> None:
        """Carries out a call that ends a container; apart from others on an engine that hangs where two end at once."""
        if not hangs_when_many_end(self._client.engine_version):
            await call
            return
        ending = None
        try:
            async with self._ending:
                ending = asyncio.ensure_future(call)
                await asyncio.wait((ending,), timeout=apart_seconds)
            await ending
        finally:  # also when the caller is cancelled
            if ending is None:
                call.close()
            else:
                ending.cancel()

    async def _until_removed(self, container_id: str) -> None:
        try:
            await self._client.call(
                f"containers/{container_id}/wait", "POST", params={"condition": "removed"}, seconds=REMOVE_SECONDS
            )
        except EngineAnswer as error:
            if error.engine_status != 404:
                raise refused(error, "remove the instance") from error
