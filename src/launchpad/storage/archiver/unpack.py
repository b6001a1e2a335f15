"""Puts an archive's content into a new, empty folder that nobody else can reach, as it was: owners, modes, links,
holes, attributes, access lists and times.

One folder is open at a time; the way up is `..`, which in a folder that nobody else can reach leads nowhere else.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace

from ..fileworker.restoring import onto_the_disk
from .manifest import Record
from .tar import HARD_LINK, LINK, Header

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Owners:
    """Whose things become whose: the archive's owner's are the new owner's; others' stay theirs.

    Args:
        archived: the uid that the archive has for its owner.
        own: the uid of the home that is filled.
    """

    archived: int
    own: int

    def of(self, uid: int) -> int:
        return self.own if uid == self.archived else uid


class Unpacker:
    """Implements `receive.Sink`.

    Args:
        top: the opened folder.
    """

    def __init__(self, top: int, owners: Owners) -> None:
        self._top = top
        self._owners = owners
        self._here = os.dup(top)
        self._way: list[str] = []
        self._folders: list[Record] = []  # of the top and those on the way, whose attributes come behind their content
        self._file = -1

    def folder(self, names: list[str]) -> None:
        if names:
            self._go_up(names[:-1])
            os.mkdir(names[-1], 0o700, dir_fd=self._here)
            inner = os.open(names[-1], FOLDER, dir_fd=self._here)
            os.close(self._here)
            self._here = inner
            self._way = names

    def begin(self, names: list[str], header: Header) -> None:
        self._go_up(names[:-1])
        self._file = os.open(names[-1], WRITE, 0o600, dir_fd=self._here)
        if header.segments is not None:
            os.ftruncate(self._file, header.size)

    def write(self, at: int, content: bytes) -> None:
        view = memoryview(content)
        while view:
            written = os.pwrite(self._file, view, at)
            at += written
            view = view[written:]

    def other(self, names: list[str], header: Header) -> None:
        self._go_up(names[:-1])
        if header.kind == LINK:
            os.symlink(header.link, names[-1], dir_fd=self._here)
        elif header.kind == HARD_LINK:
            self._link(header.link.split("/"), names[-1])
        else:
            os.mkfifo(names[-1], 0o600, dir_fd=self._here)

    def finish(self, names: list[str], record: Record) -> None:
        if record.kind == "folder":
            self._folders.append(record)
        elif record.kind == "file":
            try:
                self._dress(self._file, record)
            finally:
                os.close(self._file)
                self._file = -1
        elif record.kind != "hard-link":
            name = names[-1]
            uid, gid = self._owners.of(record.uid), self._owners.of(record.gid)
            os.chown(name, uid, gid, dir_fd=self._here, follow_symlinks=False)
            if record.kind == "fifo":
                os.chmod(name, record.mode, dir_fd=self._here)
            os.utime(name, ns=(record.mtime_ns,) * 2, dir_fd=self._here, follow_symlinks=False)

    def end(self) -> None:
        self._go_up([])
        self._dress(self._here, self._folders.pop())
        onto_the_disk(self._here)
        os.close(self._here)
        self._here = -1

    def _go_up(self, way: list[str]) -> None:
        """Leaves folders, which are complete now, up to the one at `way`."""
        while len(self._way) > len(way):
            above = os.open("..", FOLDER, dir_fd=self._here)
            try:
                self._dress(self._here, self._folders.pop())
            finally:
                os.close(self._here)
                self._here = above
            self._way = self._way[:-1]

    def _dress(self, opened: int, record: Record) -> None:
        """Gives a file or folder what it had: its owner first, since that takes rights away; its time last."""
        os.fchown(opened, self._owners.of(record.uid), self._owners.of(record.gid))
        for name, value in record.xattrs.items():
            if name.startswith("user."):
                os.setxattr(opened, name, value)
        os.fchmod(opened, record.mode)
        for name, value in record.xattrs.items():
            if not name.startswith("user."):
                os.setxattr(opened, name, value)
        os.utime(opened, ns=(record.mtime_ns,) * 2)

    def _link(self, way: list[str], name: str) -> None:
        at = os.dup(self._top)
        try:
            for folder in way[:-1]:
                inner = os.open(folder, FOLDER, dir_fd=at)
                os.close(at)
                at = inner
            os.link(way[-1], name, src_dir_fd=at, dst_dir_fd=self._here, follow_symlinks=False)
        finally:
            os.close(at)


def as_restored(record: Record, owners: Owners) -> Record:
    """What a scan has to tell of what was restored from this."""
    return replace(record, uid=owners.of(record.uid), gid=owners.of(record.gid), changed=False)


class Taker(Unpacker):
    """Puts copies into somebody's home, as that somebody: the files are theirs, as readable and writable to them as any
    new one, and hold nothing of whoever's they are copies of but content, times and what may be run.

    What is no file, folder or link is left out. Links are kept as they are; they may lead to nothing here.
    """

    def __init__(self, top: int, uid: int) -> None:
        super().__init__(top, Owners(-1, uid))

    def other(self, names: list[str], header: Header) -> None:
        if header.kind in (LINK, HARD_LINK):
            super().other(names, header)
        else:
            self._go_up(names[:-1])

    def finish(self, names: list[str], record: Record) -> None:
        if record.kind == "link":
            os.utime(names[-1], ns=(record.mtime_ns,) * 2, dir_fd=self._here, follow_symlinks=False)
        elif record.kind != "fifo":
            super().finish(names, record)

    def _dress(self, opened: int, record: Record) -> None:
        is_run = record.kind == "folder" or record.mode & 0o100
        os.fchmod(opened, 0o700 if is_run else 0o600)
        os.utime(opened, ns=(record.mtime_ns,) * 2)


def says_no_room(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
