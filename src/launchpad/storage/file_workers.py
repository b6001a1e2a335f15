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

from ..errors import FilesBusy, HomeUnavailable, LaunchpadError
from ..settings import FilesSettings
from . import directories, snapshots
from .porter.jail import NOBODY

log = structlog.get_logger(__name__)

# Without anything of the environment or of site-packages, since it begins as root. Our own folder comes last, so that
# nothing in it takes the place of the standard library's.
PROGRAM = """
import sys
sys.path.append(sys.argv[1])
from launchpad.storage.fileworker.run import main
main(*map(int, sys.argv[2:]))
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

    async def start(self, username: str, uid: int, connection: socket.socket, snapshot: str = "") -> None:
        """A worker of this home, as its owner, on the connection; it ends when the other end is closed.

        Args:
            snapshot: the name of one of the home, which is what the worker reads and restores from, then.

        Raises:
            HomeUnavailable: there is no such home yet, or it is not this user's.
            NotFound: there is no such snapshot.
            FilesBusy: there are as many as may be.
        """
        await self._begin(uid, lambda: self._open(username, uid, snapshot), connection)

    async def try_one(self, connection: socket.socket) -> None:
        """A worker of an empty folder of its own: whether any can do here what each has to do first.

        Raises:
            FilesBusy: there are as many as may be.
        """
        uid = os.geteuid() or NOBODY
        await self._begin(uid, lambda: [_empty_folder(uid)], connection)

    async def _begin(self, uid: int, opening: Callable[[], list[int]], connection: socket.socket) -> None:
        if self._of_user[uid] >= self._settings.workers_per_user:
            raise FilesBusy(BUSY_YOURSELF, retry_after_seconds=RETRY_SECONDS)
        if self._of_user.total() >= self._settings.workers:
            log.warning("files.busy", workers=self._of_user.total())
            raise FilesBusy(BUSY, retry_after_seconds=RETRY_SECONDS)
        self._of_user[uid] += 1
        started = False
        try:
            opened = await asyncio.to_thread(opening)
            try:
                process = await _spawn(opened, connection.fileno(), uid)
            finally:
                for descriptor in opened:
                    os.close(descriptor)
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

    def _open(self, username: str, uid: int, snapshot: str) -> list[int]:
        root = directories.open_root(self._root)
        try:
            home = directories.open_home(root, directories.home_path(self._root, username), uid)
        finally:
            os.close(root)
        if home is None:
            raise HomeUnavailable("Your home folder does not exist yet.")
        if not snapshot:
            return [home]
        try:
            return [home, snapshots.open_snapshot(self._root, username, uid, snapshot)]
        except LaunchpadError:
            os.close(home)
            raise

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


async def _spawn(opened: list[int], connection: int, uid: int) -> asyncio.subprocess.Process:
    """Args: opened: the home, and the snapshot where it is about one."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        "-c",
        PROGRAM,
        str(Path(__file__).parents[2]),
        *map(str, (connection, uid, *opened)),
        pass_fds=[connection, *opened],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=None,  # into our log
        env={"LC_ALL": "C.UTF-8"},
        cwd="/",
        start_new_session=True,  # Ctrl-C reaches us, and we end them
    )
