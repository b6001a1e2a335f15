"""Brings a folder's files into a home, for root; see `porter` for how, and why nothing of it is done as root."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from ..errors import HomeUnavailable
from . import directories
from .porter.taker import NO_ROOM

log = structlog.get_logger(__name__)

# Without anything of the environment or of site-packages, since it begins as root. Our own folder comes last, so that
# nothing in it takes the place of the standard library's.
PROGRAM = """
import sys
sys.path.append(sys.argv[1])
from porter.run import main
main(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
"""
BYTES_BESIDE = 4096  # what a file takes besides its content, on average and generously
LAST_WORDS = 2000


@dataclass(frozen=True)
class Carried:
    """What was brought, or with `only_count` would be.

    Attributes:
        kept: entries that the home had already, whatever they hold; they were not touched.
        failed: entries that could not be written.
        left: entries that are never brought, by kind: "special" (pipes, sockets, devices), "elsewhere" (other file
            systems), "unreadable", "deep" (more folders within each other than anybody means).
        examples: some paths of those that failed or were left.
        whole: it came to its end.
        no_room: it did not, since disk or quota are used up.
    """

    files: int = 0
    bytes: int = 0
    kept: int = 0
    failed: int = 0
    left: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    whole: bool = False
    no_room: bool = False

    @property
    def bytes_needed(self) -> int:
        return self.bytes + self.files * BYTES_BESIDE


def open_folder(parent: Path, name: str) -> int | None:
    """A descriptor of a folder that is to be brought, for the caller to close; None where there is none.

    Raises:
        HomeUnavailable: it is a link or no folder, so that it is not used; or it cannot be opened.
    """
    try:
        root = os.open(parent, directories.DIRECTORY)
        try:
            return os.open(name, directories.DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
        finally:
            os.close(root)
    except FileNotFoundError as error:
        if error.filename == name:
            return None
        raise HomeUnavailable(f"{parent} does not exist any more.") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # no folder has it
            return None
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise HomeUnavailable(f"{parent / name} is a link or not a folder; it was skipped.") from error
        raise HomeUnavailable(f"{parent / name} cannot be opened: {error.strerror}.") from error


def open_home(root: Path, username: str, uid: int) -> int | None:
    """A descriptor of a home, for the caller to close; None before it is made.

    Raises:
        HomeUnavailable: it is somebody else's, or no directory.
    """
    opened = directories.open_root(root)
    try:
        return directories.open_home(opened, directories.home_path(root, username), uid)
    finally:
        os.close(opened)


async def carry(
    source: int,
    home: int | None,
    uid: int,
    *,
    only_count: bool,
    progress: Callable[[Carried], None] = lambda _: None,
) -> Carried:
    """Brings what `home` does not have yet. Can be called again after whatever happened.

    Args:
        source, home: opened directories; no home only with `only_count`.
        uid: the home's owner.
        progress: is told a few times a second how far it is.
    """
    give, take = socket.socketpair()
    giver = taker = None
    counted = Carried()
    try:
        giver = await _start("give", source, give, uid, "copy")
        taker = await _start("take", home, take, uid, "count" if only_count else "copy")
        give.close()
        take.close()
        if taker.stdout is not None:
            async for line in taker.stdout:
                counted = _carried(json.loads(line))
                progress(counted)
        words = [await process.stderr.read() for process in (giver, taker) if process.stderr is not None]
        await taker.wait()
        await giver.wait()
        if not counted.whole and not counted.no_room:
            log.error("import.broke_off", words=[each.decode(errors="replace")[-LAST_WORDS:] for each in words])
    finally:
        give.close()
        take.close()
        for process in (giver, taker):
            if process is not None and process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
    return counted


async def _start(
    role: str, folder: int | None, connection: socket.socket, uid: int, how: str
) -> asyncio.subprocess.Process:
    own = connection.fileno()
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        "-c",
        PROGRAM,
        str(Path(__file__).parent),
        role,
        str(-1 if folder is None else folder),
        str(own),
        str(uid),
        how,
        pass_fds=[own] if folder is None else [own, folder],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if role == "take" else asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={"LC_ALL": "C.UTF-8"},
        start_new_session=True,  # Ctrl-C reaches us, and we end them
    )


def _carried(said: Mapping[str, Any]) -> Carried:
    return Carried(
        files=said["files"],
        bytes=said["bytes"],
        kept=said["kept"],
        failed=said["failed"],
        left=said.get("left", {}),
        examples=tuple(said.get("examples", ())),
        whole=said.get("done", False),
        no_room=said.get("stopped") == NO_ROOM,
    )
