"""What every verb of the worker works with: the home, and what the system's refusals are called."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ...errors import (
    Conflict,
    FilesUnavailable,
    Forbidden,
    InvalidInput,
    LaunchpadError,
    NoRoom,
    NotFound,
)
from .beneath import FOLDER, PLACE, Beneath, names_of
from .line import Line

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2  # renameat2(2)
TOLD_CHARACTERS = 500
DATA_FOLDER = (".local", "share")
UPLOADS = (*DATA_FOLDER, "launchpad-uploads")  # what is not whole yet: uploads, copies
MADE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)

NO_ROOM = NoRoom(
    "There is no space left: the home folder or the disk is full. Delete something first; that works in a full home."
)
A_FOLDER = "This is a folder and not a file."
TAKEN = "There is already something with this name."
SPECIAL = "This is a pipe, a socket or a device and not a file, so it cannot be opened here."
_REFUSALS: dict[int, LaunchpadError] = {
    errno.ENOENT: NotFound("There is no file or folder of this name in your home folder."),
    errno.ENOTDIR: NotFound("There is no folder of this name in your home folder."),
    errno.EXDEV: NotFound("This is a link to something outside of the home folder, which cannot be reached here."),
    errno.ELOOP: NotFound("This link does not resolve."),
    errno.ESTALE: Conflict("The folder was moved meanwhile. Please try again."),
    errno.EACCES: Forbidden("Its permissions do not allow it. In an instance you can change them with chmod."),
    errno.EPERM: Forbidden("Its permissions do not allow it."),
    errno.EEXIST: Conflict(TAKEN),
    errno.ENOTEMPTY: Conflict("There is already a folder with this name, and it is not empty."),
    errno.EISDIR: Conflict(A_FOLDER),
    errno.ENXIO: Conflict(SPECIAL),
    errno.EINVAL: Conflict("A folder cannot be moved into itself."),
    errno.EBUSY: Conflict("It is in use by the server."),
    errno.ETXTBSY: Conflict("It is a program that is running."),
    errno.EFBIG: NoRoom("The file would be larger than this disk allows."),
    errno.EROFS: Conflict("This disk can only be read."),
    errno.ENAMETOOLONG: InvalidInput("This name is too long."),
    errno.ENOSPC: NO_ROOM,
    errno.EDQUOT: NO_ROOM,
}


def refusal_of(error: OSError) -> LaunchpadError:
    """Our words for what the system said."""
    known = _REFUSALS.get(error.errno or 0)
    if known is None:
        sys.stderr.write(f"file worker: {error!r}\n")  # into the log
    return known or FilesUnavailable("The disk refused it. Your administrator can find the reason in the log.")


class Home:
    """The home, and the line to who asks.

    Args:
        root: its descriptor.
    """

    def __init__(self, root: int, line: Line, *, with_openat2: bool = True) -> None:
        self.root = root
        self.line = line
        self.beneath = Beneath(root, with_openat2=with_openat2)
        # The order of the folder that was listed last, so that its next pages need not be sorted again.
        self.listed_state: tuple[Any, ...] = ()
        self.listed: list[tuple[int, Any, str, str]] = []

    @contextmanager
    def opened(self, path: object, flags: int) -> Iterator[int]:
        """What a path leads to, links followed below the home."""
        descriptor = self.beneath.open(names_of(path), flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def file(self, path: object) -> Iterator[tuple[int, os.stat_result]]:
        """A regular file for reading.

        Raises:
            Conflict: it is something else. It was not waited for.
        """
        with self.opened(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY) as descriptor:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise Conflict(A_FOLDER)
            if not stat.S_ISREG(status.st_mode):
                raise Conflict(SPECIAL)
            yield descriptor, status

    @contextmanager
    def folder(self, path: object) -> Iterator[int]:
        """A folder, to be listed or walked."""
        with self.opened(path, FOLDER) as descriptor:
            yield descriptor

    @contextmanager
    def place(self, path: object) -> Iterator[tuple[int, str]]:
        """The opened folder that something lies or will lie in, and its name there; it is not followed itself.

        Raises:
            Conflict: that is the home itself.
        """
        names = names_of(path)
        if not names:
            raise Conflict("This is the home folder itself.")
        folder = self.beneath.open(names[:-1], PLACE)
        try:
            yield folder, names[-1]
        finally:
            os.close(folder)

    def made_folder(self, names: tuple[str, ...] | list[str], mode: int = 0o700) -> int:
        """The opened folder, made with those above it where they are missing; the caller closes it."""
        at = os.dup(self.root)
        for number in range(1, len(names) + 1):
            with suppress(FileExistsError):
                os.mkdir(names[number - 1], mode, dir_fd=at)
            inner = -1
            try:
                inner = self.beneath.open(list(names[:number]), FOLDER)
            finally:
                os.close(at)
            at = inner
        return at


def told_path(*names: str) -> str:
    """A path for people to read, who get no bytes that are no UTF-8, and of a very long one its end."""
    path = os.fsencode("/".join(name for name in names if name)).decode("utf-8", "replace")
    return path if len(path) <= TOLD_CHARACTERS else f"…{path[-TOLD_CHARACTERS:]}"


def kind_of(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"


def entry_of(folder: int, name: str, status: os.stat_result | None = None) -> dict[str, Any]:
    """What is told of something in a folder, itself and not what it may lead to."""
    status = status or os.stat(name, dir_fd=folder, follow_symlinks=False)
    said: dict[str, Any] = {
        "name": name,
        "kind": kind_of(status.st_mode),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "mode": stat.S_IMODE(status.st_mode),
    }
    if stat.S_ISLNK(status.st_mode):
        try:
            said["link_to"] = os.readlink(name, dir_fd=folder)
        except OSError:  # replaced meanwhile
            said["link_to"] = ""
    return said


def etag_of(status: os.stat_result) -> str:
    """Another one whenever the content may be another."""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}"


def rename(source: int, name: str, target: int, new_name: str, *, replace: bool = False) -> None:
    """Gives something another place; one that is taken is replaced only on demand.

    Raises:
        OSError: as renameat2(2); EEXIST where the place is taken.
    """
    if replace:
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
        return
    given = (source, os.fsencode(name), target, os.fsencode(new_name))
    if _libc.renameat2(*given, RENAME_NOREPLACE) == 0:
        return
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        _rename_plainly(source, name, target, new_name)  # such as NFS
    else:
        raise OSError(number, os.strerror(number))


def swap(source: int, name: str, target: int, new_name: str) -> None:
    """Each of two things gets the other's place, at once.

    Raises:
        OSError: as renameat2(2).
    """
    given = (source, os.fsencode(name), target, os.fsencode(new_name))
    if _libc.renameat2(*given, RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _rename_plainly(source: int, name: str, target: int, new_name: str) -> None:
    """For file systems that only know renames that replace. A second name is refused where the place is taken; a folder
    can have none, but replaces nothing but an empty one."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
        os.link(name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        os.unlink(name, dir_fd=source)
        return
    if exists(target, new_name):
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)  # EINVAL: into itself


def exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def flag(request: dict[str, Any], name: str) -> bool:
    return request.get(name) is True


def number(request: dict[str, Any], name: str, default: int, least: int = 0, most: int = 2**62) -> int:
    """A whole number of a request.

    Raises:
        InvalidInput: it is none, or outside its bounds.
    """
    given = request.get(name, default)
    if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
        raise InvalidInput(f"“{name}” cannot be used.")
    return given
