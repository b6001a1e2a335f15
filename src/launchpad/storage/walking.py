"""Counts what a home takes up where its file system does not: by a walk, as the home's user, that comes last of all.

Root never walks a home. It opens it and starts a process, which shuts itself into it (chroot), becomes its user without
any right of root's, and has what nobody else wants of processor and disk (`porter.counter`).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from ..errors import HomeUnavailable
from . import directories
from .base import HomeUse

log = structlog.get_logger(__name__)

WALK_SECONDS = 900.0  # a home that takes longer is counted so far
MOST_ENTRIES = 20_000_000
MARGIN_SECONDS = 60.0  # to start, and for a call to the disk that hangs
LAST_WORDS = 2000
# As `moving.PROGRAM`: it begins as root, so nothing of the environment, and our own folder last.
PROGRAM = """
import sys
sys.path.append(sys.argv[1])
from porter.counter import main
main(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
"""


@dataclass(frozen=True)
class Walked:
    """`whole` False: there is more, as it took too long or some of it could not be seen."""

    bytes: int
    entries: int
    whole: bool


class Walks:
    """Walks through homes below a root, one at a time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._one = asyncio.Lock()

    async def measured(self, path: Path, use: HomeUse) -> HomeUse:
        """What is known of a home, with what a walk finds where nobody has counted it; raises HomeUnavailable."""
        if use.used_bytes is not None:
            return use
        async with self._one:
            home = await asyncio.to_thread(self._opened, path)
            if home is None:
                return use
            try:
                found = await count(home)
            finally:
                os.close(home)
        return replace(use, used_bytes=found.bytes, is_floor=not found.whole)

    def _opened(self, path: Path) -> int | None:
        root = directories.open_root(self._root)
        try:
            return directories.open_home(root, path, None)
        finally:
            os.close(root)


async def count(home: int, *, seconds: float = WALK_SECONDS, most: int = MOST_ENTRIES) -> Walked:
    """What an opened home takes up. The caller keeps it open meanwhile, and begins one at a time.

    Args:
        seconds, most: after so long, or so many entries, it is enough.

    Raises:
        HomeUnavailable: it is root's, or somebody's whom this process cannot become; or it could not be counted.
    """
    uid = os.fstat(home).st_uid
    own = os.geteuid()
    if uid == 0 or own not in (0, uid):
        raise HomeUnavailable("Your home folder cannot be measured: it belongs to somebody else.")
    waited_for, waiting = os.pipe()
    process = None
    try:
        try:
            process = await _begun(home, uid, seconds, most, waited_for)
        finally:
            os.close(waited_for)
        async with asyncio.timeout(seconds + MARGIN_SECONDS):
            out, err = await process.communicate()
    except TimeoutError as error:
        raise HomeUnavailable("Your home folder could not be measured: its disk does not answer.") from error
    finally:
        # The helper has no right to end what is another user's (CAP_KILL), so that it ends by itself.
        os.close(waiting)
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                process.kill()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), MARGIN_SECONDS)
    try:
        said = json.loads(out)
        return Walked(int(said["bytes"]), int(said["entries"]), bool(said["whole"]))
    except (ValueError, KeyError, TypeError) as error:
        log.error("home.not_measured", words=err.decode(errors="replace")[-LAST_WORDS:])
        raise HomeUnavailable("Your home folder could not be measured.") from error


async def _begun(home: int, uid: int, seconds: float, most: int, waited_for: int) -> asyncio.subprocess.Process:
    """Args: waited_for: a pipe; it goes on as long as somebody has its other end."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", "-c", PROGRAM, str(Path(__file__).parent)),
        *map(str, (home, uid, seconds, most)),
        pass_fds=[home],
        stdin=waited_for,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"LC_ALL": "C.UTF-8"},
        start_new_session=True,  # Ctrl-C reaches us, and we end it
    )
