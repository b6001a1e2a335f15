"""The R process of a session: evaluate, interrupt, save, restore."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

DRIVER = Path(__file__).with_name("driver.R")
MARK = b"\x1e"
INTERRUPT_SECONDS = 2.0


class RProcess:
    """One R. Commands run one after the other; `on_output` gets the text as R prints it.

    `on_end` gets its exit status, which is negative where a signal ended it.
    """

    def __init__(
        self,
        on_output: Callable[[str], None],
        on_busy: Callable[[bool], None],
        on_end: Callable[[int], None],
    ) -> None:
        self._on_output = on_output
        self._on_busy = on_busy
        self._on_end = on_end
        self._watch: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._number = 0
        self.busy = False

    async def start(self, **variables: str) -> None:
        self._process = await asyncio.create_subprocess_exec(
            "R",
            *("--no-save", "--no-restore", "--slave", "-f", str(DRIVER)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **variables},
            limit=1 << 24,
        )
        self._watch = asyncio.create_task(self._until_end(self._process))

    async def _until_end(self, process: asyncio.subprocess.Process) -> None:
        status = await process.wait()
        if self._number == 0 and process.stdout is not None:
            self._tell_log(await process.stdout.read())
        self._on_end(status)

    def _tell_log(self, printed: bytes) -> None:
        """R ended before it could do anything: nobody reads its words at a console, so the container's log has them."""
        words = printed.decode(errors="replace").strip()
        print(
            f"rsession: R ended as it read its profiles (~/.Rprofile, ~/.Renviron):\n{words}",
            file=sys.stderr,
            flush=True,
        )

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def evaluate(self, code: str) -> str:
        """Runs code; "ok", "error", "interrupted" or "ended"."""
        async with self._turn:
            self._set_busy(True)
            try:
                return await self._do("eval", code, self._on_output)
            finally:
                self._set_busy(False)

    async def names(self) -> list[str]:
        """Names of the variables."""
        found: list[str] = []
        async with self._turn:
            await self._do("names", "", found.append)
        return "".join(found).split()

    async def save(self, path: Path) -> bool:
        """Writes the variables; what runs is interrupted first."""
        if self.busy:
            self.interrupt()
        async with self._turn:
            return await self._do("save", str(path), self._on_output) == "ok"

    async def load(self, path: Path) -> bool:
        async with self._turn:
            return await self._do("load", str(path), self._on_output) == "ok"

    def interrupt(self) -> None:
        if self._process is not None and self.runs:
            os.killpg(self._process.pid, signal.SIGINT)

    def end(self) -> None:
        if self._process is not None and self.runs:
            self._process.kill()

    def _set_busy(self, busy: bool) -> None:
        self.busy = busy
        self._on_busy(busy)

    async def _do(self, kind: str, text: str, on_output: Callable[[str], None]) -> str:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None or not self.runs:
            return "error"
        self._number += 1
        process.stdin.write(f"{self._number} {kind} {text.encode().hex()}\n".encode())
        await process.stdin.drain()
        held = b""
        while piece := await process.stdout.read(1 << 16):
            held += piece
            before, mark, after = held.partition(b"\n" + MARK)
            if mark and b"\n" in after:
                if before:
                    on_output(before.decode(errors="replace"))
                return after.split()[1].decode()
            if not mark and not held.endswith(b"\n"):
                on_output(held.decode(errors="replace"))
                held = b""
        if self._number == 1:
            self._tell_log(held)
        return "ended"
