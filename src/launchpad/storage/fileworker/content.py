"""A file's content, out of the home and into it."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from typing import Any

from ...errors import Changed, Conflict, TooLarge
from .beneath import names_of
from .home import A_FOLDER, MADE, TAKEN, UPLOADS, Home, entry_of, etag_of, flag, number, rename

NEW_FILE = 0o600
BOUNDS = 2**62


def read(home: Home, request: dict[str, Any]) -> None:
    """Says what the file is like; is told which part is wanted, of the very file that was opened, and sends it."""
    with home.file(request.get("path")) as (file, status):
        home.line.say(
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            etag=etag_of(status),
            name=(names_of(request.get("path")) or [""])[-1],
        )
        wanted = home.line.hear()
        offset = number(wanted, "offset", 0)
        length = min(number(wanted, "length", status.st_size), max(0, status.st_size - offset))
        home.line.send_file(file, offset, length)
        home.line.send(b"")


def write(home: Home, request: dict[str, Any]) -> None:
    """A whole file: it gets its name when all of it is there, and until then nothing has changed.

    `if_match`: only in place of the file that has this ETag; `replace`: also in place of another one.
    """
    home.line.expect_content()
    most = number(request, "most", BOUNDS)
    with home.place(request.get("path")) as (folder, name):
        check_place(folder, name, replace=flag(request, "replace"), if_match=request.get("if_match"))
        staging = home.made_folder(UPLOADS)
        part = f"{secrets.token_hex(16)}.new"
        try:
            file = os.open(part, MADE, NEW_FILE, dir_fd=staging)
            try:
                size = 0
                while piece := home.line.receive():
                    size += len(piece)
                    if size > most:
                        raise TooLarge("The file is larger than this server takes.")
                    write_all(file, piece)
                settle(file, folder, name, request.get("mtime_ns"))
            finally:
                os.close(file)
            check_place(folder, name, replace=flag(request, "replace"), if_match=request.get("if_match"))
            rename(staging, part, folder, name, replace=flag(request, "replace"))
        finally:
            with suppress(OSError):
                os.unlink(part, dir_fd=staging)
            os.close(staging)
        keep(folder)
        home.line.say(entry=entry_of(folder, name))


def write_all(file: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(file, rest) :]


def settle(file: int, folder: int, name: str, mtime_ns: object) -> None:
    """Onto the disk, with the mode of the file that it replaces and the time that was asked for."""
    with suppress(FileNotFoundError):
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(there.st_mode):
            os.fchmod(file, there.st_mode & 0o777)
    if isinstance(mtime_ns, int) and not isinstance(mtime_ns, bool) and 0 <= mtime_ns < BOUNDS:
        os.utime(file, ns=(mtime_ns, mtime_ns))
    os.fsync(file)


def keep(folder: int) -> None:
    """The folder's entries onto the disk."""
    again = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(again)
    finally:
        os.close(again)


def check_place(folder: int, name: str, *, replace: bool, if_match: object = None) -> None:
    """Whether a file may have this name.

    Raises:
        Conflict: the name is taken.
        Changed: what has it is not what should be replaced.
    """
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        if if_match is not None:
            raise Changed("The file does not exist any more.") from None
        return
    if if_match is not None and if_match not in ("*", etag_of(there)):
        raise Changed("The file was changed since it was read, so it was not replaced.")
    if not replace:
        raise Conflict(TAKEN)
    if stat.S_ISDIR(there.st_mode):
        raise Conflict(A_FOLDER)
