"""Portals that tests start: `launchpad serve` with its own variables, log and process.

A portal computes for a second until it has loaded everything, and the tests start some hundreds. Each is forked from
one process that has loaded the same and done nothing else. Starts of the whole program are tested in tests/system.
"""

from __future__ import annotations

import asyncio
import faulthandler
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

TESTS = Path(__file__).resolve().parents[1]


class Runs(Protocol):
    """A process, as asyncio has them."""

    pid: int

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...

    def send_signal(self, number: int, /) -> None: ...

    def terminate(self) -> None: ...


class PortalProcess:
    """One portal; ends with the tests' own process at the latest."""

    def __init__(self, variables: Mapping[str, str], log: Path) -> None:
        self._process = _preloaded().Process(target=_serve, args=(dict(variables), str(log)), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    async def wait(self) -> int:
        await asyncio.to_thread(self._process.join)
        assert self._process.exitcode is not None
        return self._process.exitcode

    def send_signal(self, number: int, /) -> None:
        if self._process.is_alive():
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _preloaded() -> ForkServerContext:
    """Starts what portals are forked from, at the first call."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.preloaded_portal"])
    kept = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(TESTS), kept)))
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        if kept is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = kept
    return context


def _serve(variables: Mapping[str, str], log: str) -> None:
    """Becomes `launchpad serve`, in the process that was forked for it."""
    into = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(into, stream)
    os.close(into)
    os.environ.clear()
    os.environ.update(variables)
    faulthandler.enable()  # what does not end tells where it stands
    sys.argv = ["launchpad", "serve"]
    from launchpad.__main__ import main

    main()
