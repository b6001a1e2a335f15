"""Copies of files and folders within the home. Holes stay holes, links stay links."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from typing import Any

from ...errors import Conflict
from .beneath import FOLDER
from .home import MADE, SPECIAL, Home, refusal_of, told_path
from .line import is_full
from .tree import Ident, Walk

FICLONE = 0x40049409  # linux/fs.h: the same blocks, where the file system can share them
PIECE = 8 * 1024**2
DEEPEST = 3000
MOST_TOLD = 20


class Copier:
    """Counts what it does.

    Args:
        skipped: the folder that copies are put together in, which is part of none.
    """

    def __init__(self, home: Home, skipped: Ident) -> None:
        self._home = home
        self._skipped = skipped
        self._files = self._bytes = self._several_names = 0
        self._left: list[str] = []
        self.closed = 0  # of those that were left: what could not be read

    def told(self) -> dict[str, Any]:
        """`several_names`: files that had more than one name, of which each is a copy of its own now."""
        return {
            "files": self._files,
            "bytes": self._bytes,
            "several_names": self._several_names,
            "left": self._left[:MOST_TOLD],
            "left_count": len(self._left),
        }

    def copy(self, source: int, name: str, target: int, new_name: str) -> None:
        """Raises OSError without room; what cannot be read or is special is told, unless it is what was asked for."""
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            inside = self._home.beneath.child(source, name)
            try:
                self.copy_folder(inside, target, new_name)
            finally:
                os.close(inside)
        elif not self._one(source, name, target, new_name):
            raise Conflict(SPECIAL)

    def copy_folder(self, top: int, target: int, new_name: str) -> None:
        way = [_made(target, new_name)]
        modes = [os.fstat(top)]
        try:
            for step in Walk(self._home.beneath, top, skipped=self._skipped):
                self._home.line.look()
                if step.kind == "down":
                    if len(way) > DEEPEST:
                        raise Conflict("The folders lie too deep within each other to be copied here.")
                    way.append(_made(way[-1], step.name))
                    modes.append(os.fstat(step.inside))
                elif step.kind == "up":
                    _finish(way.pop(), modes.pop())
                elif step.kind == "closed":
                    self._leave(step.names, step.name, step.trouble)
                else:
                    self._entry(step.folder, step.name, way[-1], step.names)
            _finish(way.pop(), modes.pop())
        finally:
            for descriptor in way:
                os.close(descriptor)

    def _entry(self, source: int, name: str, target: int, names: Any) -> None:
        try:
            if not self._one(source, name, target, name):
                self._left.append(f"{told_path(*names, name)}: a pipe, a socket or a device")
        except FileNotFoundError:
            return  # gone meanwhile
        except OSError as error:
            if is_full(error):
                raise
            self._leave(names, name, error)

    def _leave(self, names: Any, name: str, error: OSError | None) -> None:
        self.closed += 1
        self._left.append(f"{told_path(*names, name)}: {refusal_of(error or OSError(errno.EIO, '')).detail}")

    def _one(self, source: int, name: str, target: int, new_name: str) -> bool:
        """False for what has no content that could be copied."""
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), new_name, dir_fd=target)
            os.utime(new_name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)
            self._files += 1
            return True
        if not stat.S_ISREG(status.st_mode):
            return False
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=source)
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                return False
            made = os.open(new_name, MADE, 0o600, dir_fd=target)
            try:
                self._content(file, made, status.st_size)
                os.fchmod(made, status.st_mode & 0o777)
                os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))
                self._bytes += os.fstat(made).st_blocks * 512
            except OSError:  # half a file is none
                with suppress(OSError):
                    os.unlink(new_name, dir_fd=target)
                raise
            finally:
                os.close(made)
        finally:
            os.close(file)
        self._files += 1
        self._several_names += status.st_nlink > 1
        return True

    def _content(self, file: int, made: int, size: int) -> None:
        with suppress(OSError):
            fcntl.ioctl(made, FICLONE, file)
            return
        at = 0
        while at < size:
            try:
                begin = os.lseek(file, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break  # nothing but a hole
                raise
            end = min(os.lseek(file, begin, os.SEEK_HOLE), size)
            os.lseek(made, begin, os.SEEK_SET)
            at = begin
            while at < end:
                self._home.line.look()
                copied = _some(file, made, at, end - at)
                if copied == 0:
                    return  # it became shorter
                at += copied
        os.ftruncate(made, size)


def _some(file: int, made: int, offset: int, length: int) -> int:
    try:
        return os.copy_file_range(file, made, min(PIECE, length), offset_src=offset)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP):
            raise
    piece = os.pread(file, min(PIECE, length), offset)
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(made, rest) :]
    return len(piece)


def _made(folder: int, name: str) -> int:
    os.mkdir(name, 0o700, dir_fd=folder)
    return os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=folder)


def _finish(folder: int, status: os.stat_result) -> None:
    """Its mode and time, when all is in it; the owner keeps the right to take things out."""
    try:
        os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fchmod(folder, status.st_mode & 0o777)
    finally:
        os.close(folder)
