"""Homes with files in them, and the ways to reach them: by workers of this process, and by the helper's."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launchpad.helper.files import FilesDoor
from launchpad.helper.server import listen
from launchpad.settings import Settings
from launchpad.storage.files import Files, Owner

UID, STRANGER = 200_123, 200_124
SECRET = b"nobody outside of the home may see this"


@dataclass
class HomeOnDisk:
    """A home, somebody else's beside it, and how its owner reaches it."""

    files: Files
    root: Path
    path: Path
    owner: Owner

    async def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        return await self.files.ask(self.owner, verb, **arguments)

    async def send(self, verb: str, *content: bytes, **arguments: Any) -> dict[str, Any]:
        return await self.files.send(self.owner, verb, pieces(*content), **arguments)

    async def read(self, path: str, **wanted: int) -> bytes:
        async with self.files.receive(self.owner, "read", path=path) as received:
            await received.choose(**wanted)
            return b"".join([piece async for piece in received.pieces()])

    async def archive(self, *paths: str) -> bytes:
        async with self.files.receive(self.owner, "archive", paths=list(paths)) as received:
            return b"".join([piece async for piece in received.pieces()])

    def put(self, path: str, content: bytes = b"") -> Path:
        """A file of the owner's, with its folders."""
        file = self.path / path
        self.folder(os.path.dirname(path))
        file.write_bytes(content)
        os.chown(file, UID, UID)
        return file

    def folder(self, path: str) -> Path:
        at = self.path
        for name in path.split("/") if path else ():
            at /= name
            if not at.exists():
                at.mkdir(mode=0o755)
                os.chown(at, UID, UID)
        return at

    def link(self, path: str, target: str | Path) -> Path:
        made = self.path / path
        made.symlink_to(target)
        os.chown(made, UID, UID, follow_symlinks=False)
        return made

    def names(self, path: str = "") -> list[str]:
        """What lies there, but for the platform's own folder."""
        return sorted(name for name in os.listdir(self.path / path) if name != ".local")

    @property
    def staged(self) -> list[str]:
        """What is not whole."""
        folder = self.path / ".local/share/launchpad-uploads"
        return sorted(os.listdir(folder)) if folder.exists() else []


SWAP = """
import ctypes, os, sys, time
libc, at = ctypes.CDLL(None), os.open(sys.argv[1], os.O_RDONLY)
one, other = map(os.fsencode, sys.argv[2:4])
sys.stdout.write("ready\\n")
sys.stdout.flush()
while True:
    libc.renameat2(at, one, at, other, 2)  # RENAME_EXCHANGE
    time.sleep(0.0001)
"""


@contextmanager
def swapped(folder: Path, one: str, other: str) -> Iterator[None]:
    """Another process gives each the other's name, thousands of times a second."""
    command = [sys.executable, "-I", "-S", "-c", SWAP, str(folder), one, other]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as swapping:
        try:
            assert swapping.stdout is not None
            assert swapping.stdout.readline() == b"ready\n"
            yield
            assert swapping.poll() is None, "nothing was swapped"
        finally:
            swapping.kill()


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


def make_home(root: Path, username: str, uid: int) -> Path:
    home = root / username
    home.mkdir(mode=0o700)
    os.chown(home, uid, uid)
    return home


def workers() -> list[int]:
    """The pids of all processes that work with files and were started by this process."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if b"fileworker" in command and parent == os.getpid():
            found.append(int(entry.name))
    return found


@contextmanager
def files_door(folder: Path, settings: Settings, allowed_uids: Collection[int] = (0,)) -> Iterator[Path]:
    """The helper's second socket, served in a thread; its path."""
    path = folder / "helper-files.sock"
    listening: socket.socket = listen(path)
    loop = asyncio.new_event_loop()
    task: asyncio.Task[None] | None = None

    async def run() -> None:
        nonlocal task
        task = asyncio.current_task()
        await FilesDoor(settings, allowed_uids).serve(listening)

    def serve() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(run())

    thread = threading.Thread(target=serve, name="files door")
    thread.start()
    try:
        yield path
    finally:
        loop.call_soon_threadsafe(lambda: task.cancel() if task else None)
        thread.join(30)
        loop.close()
        assert not thread.is_alive(), "the door does not close"
