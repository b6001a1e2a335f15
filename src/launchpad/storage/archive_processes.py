"""Starts the processes of `archiver`, for root, lets them work together, and ends them together."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from ..errors import ArchiveDamaged, Conflict, HomeUnavailable, LaunchpadError, NoRoom

log = structlog.get_logger(__name__)

# As `file_workers.PROGRAM`: it begins as root, so nothing of the environment, and our own folder last.
PROGRAM = """
import sys
sys.path.append(sys.argv[1])
from launchpad.storage.archiver.run import main
main(sys.argv[2], sys.argv[3])
"""
END_SECONDS = 30.0
BROKEN = "broken"  # of who lost another: that one's reason is the reason
LINE_BYTES = 2**20
Report = Callable[[int, int], None]  # entries and bytes so far
_KNOWN: dict[str, type[LaunchpadError]] = {
    "damaged": ArchiveDamaged,
    "no-room": NoRoom,
    Conflict.code: Conflict,
}


class Crew:
    """A context: who leaves it has no process left.

    Args:
        report: is told how far the one is that leads.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._waited_for, self._waiting = os.pipe()
        self._processes: list[asyncio.subprocess.Process] = []
        self._answers: list[asyncio.Task[dict[str, Any]]] = []
        self._pipes: list[int] = []
        self._lead: asyncio.Task[dict[str, Any]] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        # The helper has no right to end what is another user's (CAP_KILL): they end when nobody waits for them.
        self._close(self._waiting, self._waited_for, *self._pipes)
        for process in self._processes:
            if process.returncode is None:
                with suppress(ProcessLookupError, PermissionError):
                    process.kill()
        for answer in self._answers:
            answer.cancel()
        for process in self._processes:
            try:
                async with asyncio.timeout(END_SECONDS):
                    await process.wait()
            except TimeoutError:
                log.error("archiver.does_not_end", pid=process.pid)

    def pipe(self) -> tuple[int, int]:
        """Both ends; each is closed here when a process has been handed it."""
        ends = os.pipe()
        self._pipes += ends
        return ends

    async def begin(self, role: str, *, leads: bool = False, **wanted: Any) -> None:
        """Starts one. Whole numbers that are descriptors are said by `handed`.

        Args:
            wanted: as `archiver.run` has it for the role; `handed`: which of these are descriptors.
        """
        handed: Sequence[int] = [wanted[name] for name in wanted.pop("handed")]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", "-c", PROGRAM, str(Path(__file__).parents[2]), role, json.dumps(wanted)),
            pass_fds=handed,
            stdin=self._waited_for,
            stdout=asyncio.subprocess.PIPE,
            stderr=None,  # into our log
            env={"LC_ALL": "C.UTF-8"},
            cwd="/",
            start_new_session=True,  # Ctrl-C reaches us, and we end them
            limit=LINE_BYTES,
        )
        self._processes.append(process)
        task = asyncio.create_task(self._follow(process, role, leads=leads))
        self._answers.append(task)
        if leads:
            self._lead = task
        self._close(*(one for one in handed if one in self._pipes))

    async def finish(self) -> dict[str, Any]:
        """Waits for all of them. Returns what the one that leads has said last.

        Raises:
            LaunchpadError: why one of them could not do its part.
        """
        said = await asyncio.gather(*self._answers)
        errors = sorted((one for one in said if "error" in one), key=lambda one: one["error"] == BROKEN)
        if errors:
            kind = _KNOWN.get(errors[0]["error"], HomeUnavailable)
            detail = errors[0]["detail"] if errors[0]["error"] != BROKEN else NOT_DONE
            raise kind(detail)
        if self._lead is None:
            raise HomeUnavailable(NOT_DONE)
        return self._lead.result()

    async def _follow(self, process: asyncio.subprocess.Process, role: str, *, leads: bool) -> dict[str, Any]:
        last: dict[str, Any] = {}
        if process.stdout is not None:
            async for line in process.stdout:
                last = json.loads(line)
                if leads and "files" in last:
                    self._report(last["files"], last["bytes"])
        code = await process.wait()
        if "error" not in last and (code or not last.get("done")):
            log.error("archiver.failed", role=role, code=code)
            return {"error": BROKEN, "detail": NOT_DONE}
        return last

    def _close(self, *ends: int) -> None:
        for end in ends:
            with suppress(OSError):
                os.close(end)
            if end in self._pipes:
                self._pipes.remove(end)


NOT_DONE = "The work on this home folder was not completed. The server's log says more."


def library_folder() -> str:
    """Where the processes find zstandard.

    Raises:
        HomeUnavailable: it is not installed.
    """
    found = importlib.util.find_spec("zstandard")
    if found is None or found.origin is None:
        raise HomeUnavailable("Archives need the Python package zstandard, which is part of every installation.")
    return str(Path(found.origin).parents[1])
