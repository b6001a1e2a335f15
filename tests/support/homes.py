"""Homes with everything in them that an archive has to bear, and what a home looks like to the last byte."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from launchpad.domain.leaving import HomeArchive

from .files import STRANGER, UID

AT_NS = 1_600_000_000_123_456_789
ACCESS = "system.posix_acl_access"
DEFAULT = "system.posix_acl_default"
SPARSE_BYTES = 2**40
DEEP = 2000


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An access list as the kernel has it: tags, rights and ids of acl(5)."""
    return (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + (ident % 2**32).to_bytes(4, "little")
        for tag, rights, ident in entries
    )


READABLE_BY_STRANGER = acl((1, 6, -1), (2, 4, STRANGER), (4, 0, -1), (16, 4, -1), (32, 0, -1))
USER_OBJ, USER, GROUP_OBJ, MASK, OTHER = 1, 2, 4, 16, 32


def fill(home: Path, uid: int = UID) -> None:
    """Owners, modes, links, hard links, attributes, access lists, holes, names of every kind, a FIFO, and depth."""

    def put(name: str | bytes, content: bytes = b"", mode: int = 0o640, owner: tuple[int, int] = (uid, uid)) -> Path:
        path = home / os.fsdecode(name)
        path.write_bytes(content)
        os.chown(path, *owner)
        path.chmod(mode)
        os.utime(path, ns=(AT_NS, AT_NS + len(content)))
        return path

    def folder(name: str, mode: int = 0o755) -> Path:
        path = home / name
        path.mkdir()
        os.chown(path, uid, uid)
        path.chmod(mode)
        return path

    work = folder("work", 0o2770)
    put("work/data.csv", b"a,b\n1,2\n" * 1000)
    put("work/empty")
    put("closed", b"nobody reads this", 0o000)
    put("program", b"#!/bin/sh\n", 0o4755)
    put("of-root", b"made in a container", 0o600, (0, 0))
    put("of-group-0", b"made by jupyter", 0o660, (uid, 0))
    put(b'not \xff\xfe utf-8\n"quoted"\t\xe2\x80\xae', b"a name of any bytes")
    put(("n" * 255).encode(), b"a long name")
    put("before-1970", b"old")
    os.utime(home / "before-1970", ns=(-AT_NS, -AT_NS))
    put("work/two names", b"one file")
    os.link(home / "work/two names", home / "another name")
    (home / "absolute").symlink_to("/etc/passwd")
    (home / "relative").symlink_to("work/../work/data.csv")
    (home / "dangling").symlink_to(b"x\xff" + b"y" * 300)
    for name in ("absolute", "relative", "dangling"):
        os.chown(home / name, uid, uid, follow_symlinks=False)
        os.utime(home / name, ns=(AT_NS, AT_NS), follow_symlinks=False)
    os.mkfifo(home / "pipe", 0o622)
    os.chown(home / "pipe", uid, uid)
    listed = put("listed", b"an access list")
    os.setxattr(listed, "user.comment=1", b"\x00binary\xff\n")
    os.setxattr(listed, ACCESS, READABLE_BY_STRANGER)
    os.utime(listed, ns=(AT_NS, AT_NS))
    os.setxattr(work, DEFAULT, acl((1, 7, -1), (2, 7, STRANGER), (4, 5, -1), (16, 7, -1), (32, 0, -1)))
    with (home / "sparse").open("wb") as file:
        file.truncate(SPARSE_BYTES)
        file.seek(SPARSE_BYTES // 2)
        file.write(b"amid it" * 100)
    os.chown(home / "sparse", uid, uid)
    os.utime(home / "sparse", ns=(AT_NS, AT_NS))
    folder("shut", 0o500)
    deepen(home, uid)
    for path in (work, home):
        os.utime(path, ns=(AT_NS, AT_NS))


def deepen(home: Path, uid: int, levels: int = DEEP) -> None:
    """Folders within folders, with a file at the end, far beyond the longest path that a call takes."""
    at = os.open(home, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("deeper", 0o700, dir_fd=at)
        os.chown("deeper", uid, uid, dir_fd=at)
        inner = os.open("deeper", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    with os.fdopen(os.open("end", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=at), "wb") as file:
        file.write(b"at the end")
    os.close(at)


def add_what_has_no_content(home: Path) -> None:
    """A socket, and a device where this machine allows one."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(home / "socket"))
    with suppress(PermissionError):
        os.mknod(home / "device", 0o666 | stat.S_IFCHR, os.makedev(1, 7))


def looks_of(top: Path, *, with_content: bool = True) -> dict[str, tuple[Any, ...]]:
    """All of it by its path: kind, mode, owner, group, time in nanoseconds, content or target, size, attributes, and
    for files of several names which of them are one."""
    found: dict[str, tuple[Any, ...]] = {}
    first: dict[tuple[int, int], str] = {}
    here, path = os.open(top, os.O_RDONLY), ""
    found[""] = _looks(here, os.fstat(here), with_content)
    way = [_folders(here, path, found, first, with_content)]
    while way:
        if not way[-1]:
            way.pop()
            above = os.open("..", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here, path = above, path.rpartition("/")[0]
            continue
        name = way[-1].pop()
        inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=here)
        os.close(here)
        here, path = inner, f"{path}/{name}"
        found[path] = _looks(here, os.fstat(here), with_content)
        way.append(_folders(here, path, found, first, with_content))
    os.close(here)
    return found


def _folders(
    here: int, path: str, found: dict[str, Any], first: dict[tuple[int, int], str], with_content: bool
) -> list[str]:
    folders = []
    for name in sorted(os.listdir(here)):
        status = os.stat(name, dir_fd=here, follow_symlinks=False)
        own = f"{path}/{name}"
        if stat.S_ISDIR(status.st_mode):
            folders.append(name)
        elif stat.S_ISREG(status.st_mode):
            file = os.open(name, os.O_RDONLY, dir_fd=here)
            one = first.setdefault((status.st_dev, status.st_ino), own)
            found[own] = (*_looks(file, status, with_content), one)
            os.close(file)
        else:
            target = os.readlink(name, dir_fd=here) if stat.S_ISLNK(status.st_mode) else ""
            found[own] = (oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, target)
    return folders


def _looks(opened: int, status: os.stat_result, with_content: bool) -> tuple[Any, ...]:
    attributes = tuple((name, os.getxattr(opened, name)) for name in sorted(os.listxattr(opened)))
    content: Any = None
    if stat.S_ISREG(status.st_mode) and with_content:
        content = _content(opened, status.st_size)
    return (oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, status.st_size, attributes, content)


def _content(file: int, size: int) -> tuple[tuple[int, bytes], ...]:
    """Where there is data, and which; zeros at the ends of blocks count as a hole."""
    parts, at = [], 0
    while at < size:
        try:
            begins = os.lseek(file, at, os.SEEK_DATA)
        except OSError:
            break
        at = min(os.lseek(file, begins, os.SEEK_HOLE), size)
        content = os.pread(file, at - begins, begins)
        stripped = content.lstrip(b"\0")
        parts.append((begins + len(content) - len(stripped), stripped.rstrip(b"\0")))
    return tuple(parts)


def archive_row(user_id: str, username: str, uid: int, now: datetime) -> HomeArchive:
    """As it stands in the database; on the disk there is none."""
    made_at = now - timedelta(days=2000)
    return HomeArchive("archive1", user_id, "20200101T000000Z", username, uid, made_at, 1, 1, 1, "0" * 64)
