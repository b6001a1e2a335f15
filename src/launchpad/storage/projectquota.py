"""Homes limited by project quotas, which ext4 and XFS have: each home is a project of its own, numbered as its user.

The file system has to be mounted with `prjquota` (ext4: made or tuned with the features `project` and `quota`). What is
made in a home belongs to its project, whoever makes it; the kernel counts, and refuses what would be too much.

A program in a container runs in the server's first user namespace, where the owner of a file may give it to another
project (FS_IOC_FSSETXATTR of ioctl_fs(2)). Where the file system counts by user as well (`usrquota`), the same limit is
set there, and that is no way out.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import struct
from dataclasses import replace
from pathlib import Path

import structlog

from ..errors import HomeUnavailable
from . import directories
from .base import HomeUse
from .plain import PlainHomes

log = structlog.get_logger(__name__)

SYS_QUOTACTL_FD = 443  # the same number on every architecture; Linux 5.14
USER, PROJECT = 0, 2  # USRQUOTA, PRJQUOTA of linux/quota.h
GET, SET, STATE = 0x800007, 0x800008, 0x5805  # Q_GETQUOTA, Q_SETQUOTA, Q_XGETQSTAT
ENFORCED = {USER: 1 << 1, PROJECT: 1 << 5}  # FS_QUOTA_UDQ_ENFD, FS_QUOTA_PDQ_ENFD of linux/dqblk_xfs.h
STATE_BYTES, STATE_FLAGS = 128, struct.Struct("=bxH")  # struct fs_quota_stat, of which the first two fields
# struct if_dqblk: limits of space in KiB, space in bytes, inodes, times, and which of it counts.
QUOTA = struct.Struct("=8QI4x")
SPACE_LIMITS, INODE_LIMITS = 1, 4  # QIF_BLIMITS, QIF_ILIMITS
# struct fsxattr of linux/fs.h: flags, extent size, extents, project, and room.
ATTRIBUTES = struct.Struct("=5I8x")
GET_ATTRIBUTES, SET_ATTRIBUTES = 0x801C581F, 0x401C5820  # FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR
INHERIT = 0x200  # FS_XFLAG_PROJINHERIT
KIB = 1024
BYTES_PER_FILE, FEWEST_FILES = 8 * KIB, 100_000  # a disk also ends when its inodes do

_libc = ctypes.CDLL(None, use_errno=True)


class ProjectQuotaHomes(PlainHomes):
    """A home that was there before its limit keeps what is in it uncounted, which is logged; new files count.

    Args:
        root: the directory of the homes, on ext4 or XFS.
    """

    @property
    def enforces_limits(self) -> bool:
        return True

    async def prepare(self, username: str, uid: int, limit_bytes: int | None) -> Path:
        path = await super().prepare(username, uid, limit_bytes)
        await asyncio.to_thread(self._limit, path, uid, limit_bytes)
        return path

    async def stage(self, username: str, uid: int, beside: str) -> None:
        """It counts to its user's project from the beginning, and gets its limit at the next launch."""
        await super().stage(username, uid, beside)
        await asyncio.to_thread(self._limit, self.root / beside, uid, None)

    async def check(self) -> None:
        await super().check()
        obstacle = await asyncio.to_thread(why_not, self.root)
        if obstacle is not None:
            raise HomeUnavailable(f"The size of home folders cannot be limited: {obstacle}.")

    # -- in a thread -------------------------------------------------------------------------------------------------

    def _limit(self, path: Path, uid: int, limit_bytes: int | None) -> None:
        root = directories.open_root(self.root)
        try:
            home = directories.open_home(root, path, uid)
            if home is None:
                raise HomeUnavailable("Your home folder was moved while it was being created. Please try again.")
            try:
                self._mark(home, path, uid)
                for kind in (PROJECT, USER):
                    if kind == PROJECT or _is_enforced(home, USER):
                        _set(home, kind, uid, limit_bytes)
            except OSError as error:
                raise directories.unusable_for(self.root, error) from error
            finally:
                os.close(home)
        finally:
            os.close(root)

    def _mark(self, home: int, path: Path, uid: int) -> None:
        """Makes the home its user's project, once."""
        flags, extent_size, extents, project, more = _attributes(home)
        if project == uid and flags & INHERIT:
            return
        if os.listdir(home):  # names only; nothing in it is opened
            log.warning("home.partly_counted", home=str(path), reason="it held files before it had a limit")
        marked = ATTRIBUTES.pack(flags | INHERIT, extent_size, extents, uid, more)
        fcntl.ioctl(home, SET_ATTRIBUTES, marked)

    def _use(self, path: Path) -> HomeUse:
        root = directories.open_root(self.root)
        try:
            home = directories.open_home(root, path, None)
            if home is None:
                return HomeUse(None, None)
            try:
                # Of its owner's project, since the owner may have given the home to another one, such as somebody
                # else's, and would see theirs.
                project = _attributes(home)[3]
                own = project and project == os.fstat(home).st_uid
                use = _get(home, project) if own else HomeUse(None, None)
                # Of the root, which has no project: asked about a home, ext4 and XFS tell what its project has left.
                return replace(use, free_bytes=directories.free_bytes(root))
            except OSError as error:
                raise directories.unusable_for(self.root, error) from error
            finally:
                os.close(home)
        finally:
            os.close(root)


def why_not(root: Path) -> str | None:
    """What keeps `root`, or where it will be made, from holding limited homes; None: nothing."""
    while not root.exists() and root != root.parent:
        root = root.parent
    try:
        descriptor = os.open(root, directories.DIRECTORY)
    except OSError as error:
        return f"{root} {directories.WHY.get(error.errno or 0, 'cannot be used')}"
    try:
        if not _is_enforced(descriptor, PROJECT):
            return (
                f"the file system of {root} counts by project and enforces no limits; mount it with the option prjquota"
            )
    except OSError as error:
        # Of a file system that knows no quotas at all the kernel says what it says of a call that it does not have.
        if error.errno == errno.EPERM or (error.errno == errno.ENOSYS and not _kernel_has_the_call()):
            return "this kernel or this user cannot set quotas (Linux 5.14 and root are needed)"
        return f"the file system of {root} has no project quotas; ext4 and XFS have them when mounted with prjquota"
    else:
        return None
    finally:
        os.close(descriptor)


def _kernel_has_the_call() -> bool:
    """A call that exists looks at the descriptor first, and -1 is none."""
    try:
        _quotactl(-1, STATE, PROJECT, 0, ctypes.create_string_buffer(STATE_BYTES))
    except OSError as error:
        return error.errno != errno.ENOSYS
    return True


def _attributes(home: int) -> tuple[int, int, int, int, int]:
    held = fcntl.ioctl(home, GET_ATTRIBUTES, bytes(ATTRIBUTES.size))
    flags, extent_size, extents, project, more = ATTRIBUTES.unpack(held)
    return flags, extent_size, extents, project, more


def _is_enforced(descriptor: int, kind: int) -> bool:
    held = ctypes.create_string_buffer(STATE_BYTES)
    _quotactl(descriptor, STATE, kind, 0, held)
    return bool(STATE_FLAGS.unpack_from(held.raw)[1] & ENFORCED[kind])


def _get(descriptor: int, project: int) -> HomeUse:
    held = ctypes.create_string_buffer(QUOTA.size)
    try:
        _quotactl(descriptor, GET, PROJECT, project, held)
    except OSError as error:
        if error.errno == errno.ENOENT:  # XFS: nothing was ever written in it
            return HomeUse(used_bytes=0, limit_bytes=None)
        raise
    limit_kib, _, used_bytes, *_ = QUOTA.unpack(held.raw)
    return HomeUse(used_bytes=used_bytes, limit_bytes=limit_kib * KIB or None)


def _set(descriptor: int, kind: int, number: int, limit_bytes: int | None) -> None:
    """One limit, without a softer one before it; 0 is none."""
    limit_kib = 0 if limit_bytes is None else max(1, limit_bytes // KIB)
    files = 0 if limit_bytes is None else max(FEWEST_FILES, limit_bytes // BYTES_PER_FILE)
    wanted = QUOTA.pack(limit_kib, 0, 0, files, 0, 0, 0, 0, SPACE_LIMITS | INODE_LIMITS)
    _quotactl(descriptor, SET, kind, number, ctypes.create_string_buffer(wanted, QUOTA.size))


def _quotactl(descriptor: int, command: int, kind: int, number: int, held: ctypes.Array[ctypes.c_char]) -> None:
    result = _libc.syscall(SYS_QUOTACTL_FD, descriptor, ctypes.c_uint((command << 8) | kind), number, held)
    if result != 0:
        failed = ctypes.get_errno()
        raise OSError(failed, os.strerror(failed))
