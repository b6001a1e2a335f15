"""Programs that the quick start runs."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections import deque
from collections.abc import Mapping
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2)
TAIL_LINES = 20


class Child:
    """A running program. Its output goes to our terminal, or to `log`; the last lines are kept for error texts."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path | None) -> None:
        self.name = name
        self._process = process
        self._log = log

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        return await self._process.wait()

    async def stop(self, patience_seconds: float) -> None:
        """Asks it to end, and kills it when it does not."""
        if self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), patience_seconds)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def tail(self) -> str:
        """The last lines of its log, for people; empty when it has none of its own."""
        if self._log is None or not self._log.exists():
            return ""
        with self._log.open(encoding="utf-8", errors="replace") as file:
            lines = deque(file, TAIL_LINES)
        return f"Its last log lines ({self._log}):\n{''.join(lines)}" if lines else ""


async def start_child(
    name: str,
    *command: str,
    variables: Mapping[str, str] | None = None,
    log: Path | None = None,
    ends_with_us: bool = True,
) -> Child:
    """Starts a program in a process group of its own, so that Ctrl-C reaches only us and we stop things in order.

    With `ends_with_us` it ends when our process does, even when that is killed.

    Raises:
        FileNotFoundError: there is no such program.
    """
    output = log.open("ab") if log is not None else None
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(variables or {})},
            start_new_session=True,
            preexec_fn=_die_with_parent if ends_with_us else None,
        )
    finally:
        if output is not None:
            output.close()
    return Child(name, process, log)


_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    """In the child, before the program: the kernel sends SIGTERM when our process dies, even by SIGKILL."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
