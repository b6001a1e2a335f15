"""The program of btrfs-progs, and what the kernel tells of btrfs without it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from ..errors import HomeUnavailable
from . import directories

log = structlog.get_logger(__name__)

COMMAND_SECONDS = 30.0
KILLED_SECONDS = 2.0  # a command that waits for the disk cannot be killed at once
TOP_INODE = 256  # of every subvolume: BTRFS_FIRST_FREE_OBJECTID in linux/btrfs_tree.h
FS_INFO = 0x8400941F  # BTRFS_IOC_FS_INFO of linux/btrfs.h, which fills 1024 bytes
FS_INFO_BYTES, FS_ID = 1024, slice(16, 32)
SAID = {  # by btrfs-progs 5 and 6
    "quotas not enabled": "has its btrfs quotas turned off; “btrfs quota enable” turns them on",
    "quota not enabled": "has its btrfs quotas turned off; “btrfs quota enable” turns them on",
    "not a btrfs filesystem": "is not on a btrfs file system",
}
GET_SUBVOL_INFO = 0x81F8943C  # BTRFS_IOC_GET_SUBVOL_INFO of linux/btrfs.h (4.18), which fills 504 bytes
INFO_BYTES = 504
# Of struct btrfs_ioctl_get_subvol_info_args: treeid; uuid, parent_uuid; ctransid.
TREE, UUIDS, CHANGED = struct.Struct("=Q"), slice(296, 328), (struct.Struct("=Q"), 344)
TREE_SEARCH = 0xD0009411  # BTRFS_IOC_TREE_SEARCH, on 4096 bytes: a key, and what was found
KEY, FOUND, ITEM = struct.Struct("=7Q4I4Q"), struct.Struct("=3Q2I"), struct.Struct("=5Q")
COUNT_OFFSET, SEARCH_BYTES = 64, 4096
QUOTA_TREE, LAST = 8, 2**64 - 1
GROUP_INFO, GROUP_LIMIT, GROUP_RELATION = 242, 244, 246  # types of items, of linux/btrfs_tree.h
HAS_MOST_REFERENCED = 1


@dataclass(frozen=True)
class Subvolume:
    """What the kernel says of one: its number, its own identity and that of what it is a snapshot of, and in which
    transaction something in it was changed last."""

    tree: int
    uuid: bytes
    parent_uuid: bytes
    changed_in: int


@dataclass(frozen=True)
class Group:
    """What a quota group refers to, and alone, in bytes as of the last commit."""

    referenced: int
    exclusive: int


class BtrfsCommand:
    """Runs it on directories that were opened before.

    Args:
        root: of the homes, for what is said.
        command: None: looked up.
        seconds: how long one call may take.
    """

    def __init__(self, root: Path, command: str | None = None, seconds: float = COMMAND_SECONDS) -> None:
        self._root = root
        self._command = command or find_command() or "btrfs"
        self._command_seconds = seconds

    async def run(self, *arguments: str, opened: int, beside: int | None = None, despite: str = "") -> str:
        """Runs the command, which finds `opened` and `beside` under the same numbers.

        Args:
            despite: a failure that says this is none.

        Returns:
            What it wrote.

        Raises:
            HomeUnavailable: it is missing, did not work or took too long.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                self._command,
                *arguments,
                pass_fds=(opened,) if beside is None else (opened, beside),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"LC_ALL": "C"},
            )
        except OSError as error:
            log.error("home.btrfs_not_started", command=self._command, error=str(error))
            raise directories.unusable(self._root, "needs the program btrfs, which does not start") from error
        try:
            async with asyncio.timeout(self._command_seconds):
                out, err = await process.communicate()
        except TimeoutError as error:
            log.error("home.btrfs_slow", arguments=arguments, seconds=self._command_seconds)
            raise directories.unusable(self._root, "does not answer in time") from error
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                with suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), KILLED_SECONDS)
        if process.returncode != 0:
            said = err.decode(errors="replace").strip()
            if despite and despite in said:
                return ""
            log.error("home.btrfs_failed", arguments=arguments, code=process.returncode, said=said)
            raise directories.unusable(self._root, reason_of(said))
        return out.decode(errors="replace")


def subvolume_of(opened: int) -> Subvolume:
    """What an opened file or folder lies in.

    Raises:
        HomeUnavailable: the kernel does not tell (before 4.18).
    """
    info = bytearray(INFO_BYTES)
    try:
        fcntl.ioctl(opened, GET_SUBVOL_INFO, info)
    except OSError as error:
        raise HomeUnavailable("The file system does not tell about a subvolume.") from error
    both = bytes(info[UUIDS])
    return Subvolume(TREE.unpack_from(info)[0], both[:16], both[16:], CHANGED[0].unpack_from(info, CHANGED[1])[0])


def group_of(opened: int, group: int) -> Group | None:
    """Of the file system that `opened` is on. The kernel is asked for just that: the program reads every group there
    is, which takes a third of a second where there are snapshots of a thousand homes.

    Args:
        group: its number, with its level in the highest 16 bits.

    Returns:
        None: there is no such group, no quotas, or no right to know.
    """
    item = _quota_item(opened, 0, GROUP_INFO, group)
    return Group(item[1], item[3]) if item is not None else None


def limit_of(opened: int, group: int) -> int | None:
    """The most bytes that a group may refer to; None: as many as it likes."""
    item = _quota_item(opened, 0, GROUP_LIMIT, group)
    return item[1] if item is not None and item[0] & HAS_MOST_REFERENCED else None


def is_member(opened: int, group: int, of: int) -> bool:
    """Whether the one group belongs to the other."""
    return _quota_item(opened, group, GROUP_RELATION, of) is not None


def _quota_item(opened: int, about: int, kind: int, offset: int) -> tuple[int, ...] | None:
    asked = KEY.pack(QUOTA_TREE, about, about, offset, offset, 0, LAST, kind, kind, 1, 0, 0, 0, 0, 0)
    answer = bytearray(asked.ljust(SEARCH_BYTES, b"\0"))
    try:
        fcntl.ioctl(opened, TREE_SEARCH, answer)
    except OSError:  # ENOENT without quotas, EPERM without the right
        return None
    if int.from_bytes(answer[COUNT_OFFSET : COUNT_OFFSET + 4], sys.byteorder) != 1:
        return None
    return ITEM.unpack_from(answer, KEY.size + FOUND.size)


def find_command() -> str | None:
    """The program btrfs; services are often started without the folders of system programs in their PATH."""
    return shutil.which("btrfs", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def filesystem_id(descriptor: int) -> str | None:
    """The btrfs file system that an opened directory is on; None: it is another one."""
    info = bytearray(FS_INFO_BYTES)
    try:
        fcntl.ioctl(descriptor, FS_INFO, info)
    except OSError:  # ENOTTY of others; some say EINVAL
        return None
    return str(uuid.UUID(bytes=bytes(info[FS_ID])))


def reason_of(said: str) -> str:
    """Our words for what the command said: it puts the system's word for an error at the end."""
    for words, why in SAID.items():
        if words in said:
            return why
    return next((why for number, why in directories.WHY.items() if os.strerror(number) in said), "cannot be used")


def is_subvolume(home: int) -> bool:
    """Whether it is the top of one; the inode alone might be any directory's of another file system mounted there."""
    return os.fstat(home).st_ino == TOP_INODE and filesystem_id(home) is not None


def opened_path(descriptor: int) -> str:
    """How a program that inherits the descriptor reaches exactly what we opened, whatever its name is by now."""
    return f"/proc/self/fd/{descriptor}"
