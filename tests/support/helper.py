"""The privileged helper's server in a thread, for suites that hold what stands behind it to a contract."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from launchpad.domain.instances import Address
from launchpad.helper.guard import Guard
from launchpad.helper.server import application, listen, serve
from launchpad.helper.verbs import helper_verbs
from launchpad.helper_client import HelperClient
from launchpad.parts import cutter_of, images_of
from launchpad.runtime.base import Container, ContainerSpec, Engine, LaunchOrder, Runtime
from launchpad.runtime.helper import helper_cutter, helper_launches, helper_runtime
from launchpad.services.catalogue import catalogue_of
from launchpad.services.composer import Composer
from launchpad.services.kit import Kit
from launchpad.settings import Settings
from launchpad.storage.archives import Archives
from launchpad.storage.base import Homes
from launchpad.storage.choose import choose_snapshots, utc_now
from launchpad.storage.direct_archives import DirectArchives
from launchpad.storage.plain import PlainHomes
from launchpad.storage.snapshots import Snapshots


class SpecifiedLaunches:
    """Makes of an order what a test has put down for its instance: no catalogue knows the contract's containers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.specifications: dict[str, ContainerSpec] = {}

    async def launch(self, order: LaunchOrder) -> Container:
        await self._engine.ensure_network()
        return await self._engine.start(self.specifications[order.instance_id])


class TrustingGuard(Guard):
    """Hands on whatever it is asked for."""

    async def launch(self, order: LaunchOrder) -> Container:
        return await self._launches.launch(order)

    async def cut(self, addresses: Sequence[Address]) -> None:
        await self._cutter.cut(addresses)


class HelpedEngine:
    """An engine as a process without rights reaches it. A start goes the way of every launch."""

    def __init__(self, client: HelperClient, launches: SpecifiedLaunches) -> None:
        self._behind = launches
        self._launches = helper_launches(client)
        self.runtime: Runtime = helper_runtime(client)
        self.cutter = helper_cutter(client)

    def __getattr__(self, name: str) -> object:
        return getattr(self.runtime, name)

    async def start(self, spec: ContainerSpec) -> Container:
        self._behind.specifications[spec.instance_id] = spec
        return await self._launches.launch(
            LaunchOrder(
                instance_id=spec.instance_id,
                owner_id="0" * 16,
                environment=spec.environment,
                username="somebody",
                uid=200_000,
                memory_bytes=spec.memory_bytes,
                cpus=spec.cpus,
                token="0" * 64,
            )
        )


def guard_of(
    settings: Settings,
    engine: Engine,
    homes: Homes,
    kit: Kit | None = None,
    snapshots: Snapshots | None = None,
) -> Guard:
    """As the helper's own, but for the kit and the certificates."""
    catalogue = catalogue_of(settings)
    composer = Composer(settings, catalogue, images_of(settings, engine), engine, homes, None, kit)
    snapshots = snapshots or choose_snapshots(settings, homes)
    return Guard(settings, catalogue, engine, composer, cutter_of(engine), homes, snapshots)


@contextmanager
def helper_thread(
    folder: Path,
    engine: Engine,
    guard: Guard,
    allowed_uids: Collection[int] = (0,),
    archives: Archives | None = None,
) -> Iterator[Path]:
    """Yields the socket's path. The engine is used, and closed, in the thread's own event loop."""
    archives = archives or DirectArchives(PlainHomes(folder / "homes"), folder / "homes", folder / "archives", utc_now)
    path = folder / "helper.sock"
    listening = listen(path)
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        await serve(application(helper_verbs(engine, guard, archives), allowed_uids), listening, stop)
        await engine.aclose()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), name=f"helper {os.getpid()}")
    thread.start()
    try:
        yield path
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()
        assert not thread.is_alive(), "the helper does not end"
