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
from launchpad.helper.verbs import Verbs
from launchpad.ops.certificates import site_certificates
from launchpad.runtime.base import ContainerSpec, HostFacts, Runtime
from launchpad.services.catalogue import catalogue_of
from launchpad.services.images import ImageService
from launchpad.settings import Settings
from launchpad.storage.base import Homes


class TrustingGuard(Guard):
    """Starts whatever it is sent: the runtimes' contract has containers that no catalogue knows."""

    async def checked(self, sent: ContainerSpec, host: HostFacts) -> ContainerSpec:
        return sent

    def addresses(self, sent: Sequence[Address]) -> Sequence[Address]:
        return sent


def guard_of(settings: Settings, runtime: Runtime, *, trusting: bool = False) -> Guard:
    kind = TrustingGuard if trusting else Guard
    return kind(settings, catalogue_of(settings), ImageService(runtime, settings.images, site_certificates), None)


@contextmanager
def helper_thread(
    folder: Path, runtime: Runtime, homes: Homes, guard: Guard, allowed_uids: Collection[int] = (0,)
) -> Iterator[Path]:
    """Yields the socket's path. The runtime is used, and closed, in the thread's own event loop."""
    path = folder / "helper.sock"
    listening = listen(path)
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        await serve(application(Verbs(runtime, homes, guard), allowed_uids), listening, stop)
        await runtime.aclose()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), name=f"helper {os.getpid()}")
    thread.start()
    try:
        yield path
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()
        assert not thread.is_alive(), "the helper does not end"
