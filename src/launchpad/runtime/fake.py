"""A runtime without containers, for looking around and for tests. It keeps the contract, faults included.

Each instance is a small HTTP server on the loopback interface that answers every request with its own id, so that
health checks, the gate and nginx have something real to talk to.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from weakref import WeakSet

from ..domain.instances import Address
from ..errors import EngineRefused, EngineUnavailable, GpuUnavailable, ImageMissing
from .base import (
    NO_GPU,
    NORMAL_CPU_WEIGHT,
    Caps,
    Container,
    ContainerActivity,
    ContainerSpec,
    ContainerState,
    HostFacts,
    NetworkFacts,
    RuntimeEvent,
    Usage,
)
from .fake_freezer import FakeFreezer
from .fake_images import FakeImages
from .fake_memory import FakeMemory

GB = 1024**3
EVENTS_KEPT = 256  # as the engine does
KILLED = 137  # 128 + SIGKILL, as the engine reports it


@dataclass
class _Running:
    spec: ContainerSpec
    container: Container
    server: asyncio.Server
    connections: set[asyncio.StreamWriter] = field(default_factory=set)
    goes: asyncio.Event = field(default_factory=asyncio.Event)  # not while it stands still
    cpu_weight: int = NORMAL_CPU_WEIGHT


class FakeRuntime(FakeFreezer, FakeMemory, FakeImages):
    """See `base.Engine` and `base.ConnectionCutter`. The fault injectors are plain methods: `go_down`, `hold_starts`, …

    Args:
        missing_images: references that this engine does not have; it has every other one.

    Attributes:
        missing_images, …: see `FakeImages`.
        facts: what `host` answers.
        network_facts: what `network` answers; mended, nothing is missing in it.
        stubborn_gaps: mending does not help, as with another firewall's rules.
        has_gpus: whether this engine can give containers GPUs; it cannot.
        printed: what instances have printed, by their ids.
        activities: what goes on in instances, by their ids; in others nothing does.
    """

    def __init__(
        self,
        deployment_id: str,
        *,
        cpus: int = 8,
        memory_bytes: int = 32 * GB,
        missing_images: frozenset[str] = frozenset(),
    ) -> None:
        FakeFreezer.__init__(self)
        FakeMemory.__init__(self)
        FakeImages.__init__(self, missing_images)
        self._deployment_id = deployment_id
        self.facts = HostFacts(
            cpus,
            memory_bytes,
            "fake",
            cgroup_version="2",
            cgroup_driver="systemd",
            can_limit_memory=True,
            can_limit_swap=True,
            can_limit_cpus=True,
            can_limit_pids=True,
            outlives_restart=True,
            security=("seccomp",),
        )
        self.network_facts = NetworkFacts(exists=False, shielded=True)
        self.stubborn_gaps = False
        self.has_gpus = False
        self.printed: dict[str, str] = {}
        self.activities: dict[str, ContainerActivity] = {}
        self._running: dict[str, _Running] = {}
        self._listeners: WeakSet[asyncio.Queue[RuntimeEvent | None]] = WeakSet()
        self._told: deque[tuple[float, RuntimeEvent]] = deque(maxlen=EVENTS_KEPT)
        self._down = False
        self._starts_may_go_on = asyncio.Event()
        self._starts_may_go_on.set()

    # -- faults ------------------------------------------------------------------------------------------------------

    def go_down(self) -> None:
        """From now on the engine does not answer; what runs goes on."""
        self._down = True
        for listener in self._listeners:
            listener.put_nowait(None)

    def come_back(self) -> None:
        self._down = False

    def hold_starts(self) -> None:
        """Starts hang, as on a busy engine, until `release_starts`."""
        self._starts_may_go_on.clear()

    def release_starts(self) -> None:
        self._starts_may_go_on.set()

    async def kill(self, instance_id: str, *, exit_code: int = KILLED, out_of_memory: bool = False) -> None:
        """The container ends although nobody stopped it."""
        await self._end(instance_id, exit_code, out_of_memory)

    async def kill_from_outside(self, instance_id: str) -> None:
        """As `docker kill` does."""
        self._tell(RuntimeEvent(instance_id, "signalled"))
        await self._end(instance_id, KILLED, out_of_memory=False)

    async def remove_from_outside(self, instance_id: str) -> None:
        """As `docker rm -f` does."""
        await self.kill_from_outside(instance_id)
        self._running.pop(instance_id, None)

    def run_out_of_memory(self, instance_id: str) -> None:
        """Something in it is killed for memory, and the rest goes on."""
        self._tell(RuntimeEvent(instance_id, "out-of-memory"))

    # -- the contract ------------------------------------------------------------------------------------------------

    async def host(self) -> HostFacts:
        self._check()
        return self.facts

    async def ensure_network(self) -> None:
        self._check()
        self.network_facts = replace(self.network_facts, exists=True, gaps=())

    async def mend_network(self) -> None:
        self._check()
        if self.stubborn_gaps:
            return
        self.network_facts = replace(self.network_facts, gaps=())

    async def network(self) -> NetworkFacts:
        self._check()
        return self.network_facts

    async def start(self, spec: ContainerSpec) -> Container:
        self._check()
        await self._starts_may_go_on.wait()
        self._check()
        there = self._running.get(spec.instance_id)
        if there is not None and there.container.state.is_up:
            return there.container
        if not await self.image_exists(spec.image):
            raise ImageMissing(f"The image {spec.image} is not on this server.")
        for mount in spec.mounts:
            if not await asyncio.to_thread(mount.source.exists):
                raise EngineRefused("The container engine could not create the instance.")
        if spec.gpus and not self.has_gpus:
            raise GpuUnavailable(NO_GPU)
        connections: set[asyncio.StreamWriter] = set()
        goes = asyncio.Event()
        goes.set()
        server = await asyncio.start_server(_answer_with(spec.instance_id, connections, goes), "127.0.0.1", 0)
        there = self._running.get(spec.instance_id)
        if there is not None and there.container.state.is_up:  # somebody else was quicker
            server.close()
            return there.container
        port = int(server.sockets[0].getsockname()[1])
        container = Container(
            instance_id=spec.instance_id,
            owner_id=spec.owner_id,
            environment=spec.environment,
            state=ContainerState.RUNNING,
            address=Address("127.0.0.1", port),
            started_at=datetime.now(UTC),
        )
        self._running[spec.instance_id] = _Running(spec, container, server, connections, goes)
        self._tell(RuntimeEvent(spec.instance_id, "started"))
        return container

    async def find(self, instance_id: str) -> Container | None:
        self._check()
        there = self._running.get(instance_id)
        return there.container if there else None

    async def list_containers(self) -> list[Container]:
        self._check()
        return [one.container for one in self._running.values()]

    async def stop(self, instance_id: str, grace_seconds: int) -> None:
        self._check()
        self._signal(instance_id)
        await self._end(instance_id, 0, out_of_memory=False)

    async def remove(self, instance_id: str) -> None:
        self._check()
        self._signal(instance_id)
        await self._end(instance_id, KILLED, out_of_memory=False)
        self._running.pop(instance_id, None)

    async def update(self, instance_id: str, memory_bytes: int | None = None, cpu_weight: int | None = None) -> None:
        self._check()
        there = self._running.get(instance_id)
        if there is None or not there.container.state.is_up:
            raise EngineRefused("This instance is not running.")
        if memory_bytes is not None:
            if memory_bytes > self.facts.memory_bytes:
                raise EngineRefused("This server does not have that much memory.")
            there.spec = replace(there.spec, memory_bytes=memory_bytes)
        if cpu_weight is not None:
            there.cpu_weight = cpu_weight

    def _standing(self, instance_id: str) -> _Running | None:
        there = self._running.get(instance_id)
        return there if there is not None and there.container.state.is_up else None

    async def usage(self, instance_id: str) -> Usage | None:
        return (await self.usage_all()).get(instance_id)

    async def usage_all(self) -> Mapping[str, Usage]:
        self._check()
        up = {key: one.spec.memory_bytes for key, one in self._running.items() if one.container.state.is_up}
        return {key: Usage(self.memory_used.get(key, size // 4), 1.0, 3, size // 2) for key, size in up.items()}

    async def activity_all(self) -> Mapping[str, ContainerActivity]:
        used = await self.usage_all()
        paused = {key for key, one in self._running.items() if one.container.state is ContainerState.PAUSED}
        return {
            key: replace(
                self.activities.get(key, ContainerActivity(usage, usage.memory_bytes)), is_paused=key in paused
            )
            for key, usage in used.items()
        }

    async def caps(self, instance_id: str) -> Caps | None:
        self._check()
        there = self._running.get(instance_id)
        if there is None or not there.container.state.is_up:
            return None
        spec = there.spec
        return Caps(spec.memory_bytes, 0, spec.cpus, spec.pids_limit, cpu_weight=there.cpu_weight)

    async def cut(self, addresses: Sequence[Address]) -> None:
        for one in self._running.values():
            if one.container.address in addresses:
                for connection in tuple(one.connections):
                    connection.close()

    async def can_cut(self) -> bool:
        return True

    async def log_tail(self, instance_id: str, lines: int = 100) -> str:
        self._check()
        if instance_id not in self._running:
            return ""
        printed = self.printed.get(instance_id, "a fake instance prints nothing\n").splitlines(keepends=True)
        return "".join(printed[-lines:]) if lines else ""

    def events(self, since: float | None = None) -> AsyncIterator[RuntimeEvent]:
        listener: asyncio.Queue[RuntimeEvent | None] = asyncio.Queue()
        for at, event in self._told:
            if since is not None and at >= since:
                listener.put_nowait(event)
        self._listeners.add(listener)  # from now on, not from the first look on
        return self._events(listener)

    async def _events(self, listener: asyncio.Queue[RuntimeEvent | None]) -> AsyncIterator[RuntimeEvent]:
        self._check()
        while (event := await listener.get()) is not None:
            yield event
        raise EngineUnavailable("The container engine went away.")

    async def aclose(self) -> None:
        for instance_id in list(self._running):
            await self._end(instance_id, 0, out_of_memory=False)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._down:
            raise EngineUnavailable("The container engine does not answer. Please try again in a minute.")

    def _signal(self, instance_id: str) -> None:
        """The engine is told to end what runs."""
        there = self._running.get(instance_id)
        if there is not None and there.container.state.is_up:
            self._tell(RuntimeEvent(instance_id, "signalled"))

    async def _end(self, instance_id: str, exit_code: int, out_of_memory: bool) -> None:
        there = self._running.get(instance_id)
        if there is None or not there.container.state.is_up:
            return
        there.server.close()
        for connection in tuple(there.connections):
            connection.close()
        there.container = replace(
            there.container,
            state=ContainerState.EXITED,
            address=None,
            exit_code=exit_code,
            out_of_memory=out_of_memory,
        )
        if out_of_memory:
            self._tell(RuntimeEvent(instance_id, "out-of-memory"))
        self._tell(RuntimeEvent(instance_id, "ended"))

    def _tell(self, event: RuntimeEvent) -> None:
        self._told.append((time.time(), event))
        for listener in self._listeners:
            listener.put_nowait(event)


def _answer_with(
    text: str, connections: set[asyncio.StreamWriter], goes: asyncio.Event
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
    """A connection handler that answers any request with `text`; `connections` are those that are open."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await reader.readuntil(b"\r\n\r\n")
                await goes.wait()
                body = text.encode()
                length = f"Content-Length: {len(body)}"
                head = ("HTTP/1.1 200 OK", "Content-Type: text/plain", length, "Connection: close")
                writer.write("\r\n".join((*head, "", "")).encode() + body)
                await writer.drain()
        finally:
            connections.discard(writer)
            writer.close()

    return answer
