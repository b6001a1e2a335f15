"""Starts the processes that work with users' files (`fileworker`), for root: no more than the server can bear."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from ..errors import FilesBusy, HomeUnavailable
from ..settings import FilesSettings
from . import directories
from .porter.jail import NOBODY

log = structlog.get_logger(__name__)

# Without anything of the environment or of site-packages, since it begins as root. Our own folder comes last, so that
# nothing in it takes the place of the standard library's.
PROGRAM = """
import sys
sys.path.append(sys.argv[1])
from launchpad.storage.fileworker.run import main
main(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
"""
BUSY = "Too many files are being worked with on this server right now. Please try again in a moment."
BUSY_YOURSELF = "You have too many uploads and downloads at the same time. Wait until one of them is finished."
RETRY_SECONDS = 3
END_SECONDS = 5.0


class FileWorkers:
    """Args:
    root: of the homes.
    """

    def __init__(self, root: Path, settings: FilesSettings) -> None:
        self._root = root
        self._settings = settings
        self._of_user: Counter[int] = Counter()
        self._watching: set[asyncio.Task[None]] = set()
        self._running: set[asyncio.subprocess.Process] = set()

    async def start(self, username: str, uid: int, connection: socket.socket) -> None:
        """A worker of this home, as its owner, on the connection; it ends when the other end is closed.

        Raises:
            HomeUnavailable: there is no such home yet, or it is not this user's.
            FilesBusy: there are as many as may be.
        """
        await self._begin(uid, lambda: self._open(username, uid), connection)

    async def try_one(self, connection: socket.socket) -> None:
        """A worker of an empty folder of its own: whether any can do here what each has to do first.

        Raises:
            FilesBusy: there are as many as may be.
        """
        uid = os.geteuid() or NOBODY
        await self._begin(uid, lambda: _empty_folder(uid), connection)

    async def _begin(self, uid: int, opening: Callable[[], int], connection: socket.socket) -> None:
        if self._of_user[uid] >= self._settings.workers_per_user:
            raise FilesBusy(BUSY_YOURSELF, retry_after_seconds=RETRY_SECONDS)
        if self._of_user.total() >= self._settings.workers:
            log.warning("files.busy", workers=self._of_user.total())
            raise FilesBusy(BUSY, retry_after_seconds=RETRY_SECONDS)
        self._of_user[uid] += 1
        started = False
        try:
            home = await asyncio.to_thread(opening)
            try:
                process = await _spawn(home, connection.fileno(), uid)
            finally:
                os.close(home)
            started = True
        finally:
            if not started:
                self._ended(uid)
        task = asyncio.create_task(self._watch(process, uid))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def aclose(self) -> None:
        """Waits a moment for the workers, which end when their connections are closed; then ends them."""
        if self._watching:
            await asyncio.wait(self._watching, timeout=END_SECONDS)
        for process in self._running:
            # The helper has no right to end what is another user's (CAP_KILL); systemd does, when the helper has ended.
            with suppress(ProcessLookupError, PermissionError):
                process.kill()
        if self._watching:
            await asyncio.wait(self._watching, timeout=END_SECONDS)

    def _open(self, username: str, uid: int) -> int:
        root = directories.open_root(self._root)
        try:
            home = directories.open_home(root, directories.home_path(self._root, username), uid)
        finally:
            os.close(root)
        if home is None:
            raise HomeUnavailable("Your home folder does not exist yet.")
        return home

    async def _watch(self, process: asyncio.subprocess.Process, uid: int) -> None:
        self._running.add(process)
        try:
            code = await process.wait()
            if code:
                log.error("files.worker_failed", uid=uid, code=code)
        finally:
            self._running.discard(process)
            self._ended(uid)

    def _ended(self, uid: int) -> None:
        self._of_user[uid] -= 1
        if self._of_user[uid] <= 0:
            del self._of_user[uid]


def _empty_folder(uid: int) -> int:
    """A descriptor of one of the user's that nobody else can reach, and that goes when it is closed."""
    folder = tempfile.mkdtemp(prefix="launchpad-files-")
    try:
        if os.geteuid() == 0:
            os.chown(folder, uid, uid)
        return os.open(folder, directories.DIRECTORY | os.O_NOFOLLOW)
    finally:
        os.rmdir(folder)


async def _spawn(home: int, connection: int, uid: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        "-c",
        PROGRAM,
        str(Path(__file__).parents[2]),
        str(home),
        str(connection),
        str(uid),
        pass_fds=[home, connection],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=None,  # into our log
        env={"LC_ALL": "C.UTF-8"},
        cwd="/",
        start_new_session=True,  # Ctrl-C reaches us, and we end them
    )
