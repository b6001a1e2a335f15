"""Snapshots as read-only subvolumes, made by btrfs in a moment and sharing with the home what has not changed since.

What they take up is counted by a quota group of a level of its own, `1/<uid>`, which the home and its snapshots belong
to: what it refers to, less what the home refers to, is what would be free without the snapshots. It has no limit: the
home's own group limits the home alone. Joining a snapshot to a group costs nothing where the home is in it already
(Linux 6.9, commit b20fe56cd285); older kernels would count the whole file system again each time. There the sum of what
each has for itself alone is told, which is less than what they all have together.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from ..domain.snapshots import Cause, Snapshot, is_due, kept
from ..errors import HomeUnavailable, NotFound
from ..settings import SnapshotSettings
from . import directories, snapshots
from .btrfs_command import (
    COMMAND_SECONDS,
    BtrfsCommand,
    group_of,
    is_member,
    is_subvolume,
    opened_path,
    subvolume_of,
)
from .snapshots import NO_SUCH, Obstacle, SnapshotSummary, SnapshotUse

log = structlog.get_logger(__name__)

LEVEL = 1 << 48  # of a quota group's number: those of level 1
QUICK_SINCE = (6, 9)


def _now() -> datetime:
    return datetime.now(UTC)


class BtrfsSnapshots:
    """Implements `Snapshots`.

    Args:
        root: of the homes.
        now: this driver's own clock: what asks it is not believed which time it is.
        joins: whether joining a group costs nothing; None: as this kernel does.
        command: as of `BtrfsHomes`.
    """

    def __init__(
        self,
        root: Path,
        settings: SnapshotSettings,
        now: Callable[[], datetime] = _now,
        *,
        joins: bool | None = None,
        command: str | None = None,
        command_seconds: float = COMMAND_SECONDS,
    ) -> None:
        self._root = root
        self._settings = settings
        self._now = now
        self._joins = _kernel() >= QUICK_SINCE if joins is None else joins
        self._btrfs = BtrfsCommand(root, command, command_seconds)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def obstacle(self) -> Obstacle | None:
        return None

    async def taken(self, username: str) -> Sequence[Snapshot]:
        return await asyncio.to_thread(self._taken, directories.home_path(self._root, username).name)

    async def summary(self) -> SnapshotSummary:
        async with self._opened() as root:
            return await asyncio.to_thread(snapshots.summed_up, root)

    async def take(self, username: str, uid: int, cause: Cause) -> Snapshot | None:
        path = directories.home_path(self._root, username)
        async with self._alone(username), self._opened() as root:
            home = await asyncio.to_thread(directories.open_home, root, path, uid)
            if home is None:
                return None
            try:
                if not is_subvolume(home):
                    log.warning("snapshot.impossible", home=str(path), reason="it is a directory and no subvolume")
                    return None
                return await self._take(root, home, path.name, uid, cause)
            finally:
                os.close(home)

    async def thin(self, username: str, uid: int) -> SnapshotUse:
        path = directories.home_path(self._root, username)
        async with self._folder_of(path) as (root, folder):
            return SnapshotUse(0) if folder is None else await self._thin(root, folder, path, uid)

    async def forget(self, username: str, name: str) -> None:
        async with self._folder_of(directories.home_path(self._root, username)) as (_, folder):
            wanted = Snapshot.named(name)
            if folder is None or wanted is None or wanted not in await asyncio.to_thread(snapshots.listed, folder):
                raise NotFound(NO_SUCH)
            await self._remove(folder, [wanted])

    # -- the work ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _alone(self, username: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(username, asyncio.Lock())
        async with lock:
            yield

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[int]:
        root = await asyncio.to_thread(directories.open_root, self._root)
        try:
            yield root
        finally:
            os.close(root)

    @asynccontextmanager
    async def _folder_of(self, home: Path) -> AsyncIterator[tuple[int, int | None]]:
        """The opened root, and the opened folder of a home's snapshots, for one at a time; None: there are none."""
        async with self._alone(home.name), self._opened() as root:
            folder = await asyncio.to_thread(snapshots.open_folder, root, home.name)
            try:
                yield root, folder
            finally:
                if folder is not None:
                    os.close(folder)

    def _taken(self, username: str) -> list[Snapshot]:
        try:
            root = directories.open_root(self._root)
        except HomeUnavailable:
            return []  # no homes yet
        folder = None
        try:
            folder = snapshots.open_folder(root, username)
            return snapshots.listed(folder)
        finally:
            os.close(root)
            if folder is not None:
                os.close(folder)

    async def _take(self, root: int, home: int, username: str, uid: int, cause: Cause) -> Snapshot | None:
        folder = await asyncio.to_thread(snapshots.open_folder, root, username, make=True)
        if folder is None:
            raise HomeUnavailable("The folder of snapshots was removed just now. Please try again.")
        try:
            there = await asyncio.to_thread(snapshots.listed, folder)
            now = self._now().astimezone(UTC).replace(microsecond=0)
            if cause is Cause.TIME and not is_due(there, now):
                return None
            if await asyncio.to_thread(_is_among, home, folder, there):
                return None
            group = await self._group(root, home, uid)
            wanted = Snapshot(now, cause)
            while wanted in there:  # two in one second
                wanted = Snapshot(wanted.taken_at + timedelta(seconds=1), cause)
            joining = ("-i", group) if group else ()
            target = f"{opened_path(folder)}/{wanted.name}"
            await self._btrfs.run(
                "subvolume", "snapshot", "-r", *joining, opened_path(home), target, opened=home, beside=folder
            )
        finally:
            os.close(folder)
        return wanted

    async def _group(self, root: int, home: int, uid: int) -> str | None:
        """The group that the home belongs to, made and joined where that costs no recount."""
        if not self._joins:
            return None
        tree, group = subvolume_of(home).tree, LEVEL + uid
        if is_member(home, tree, group):
            return f"1/{uid}"
        alone = group_of(home, tree)
        if alone is None or alone.referenced != alone.exclusive:
            return None  # it shares something already; the file system would have to be counted again
        at = opened_path(root)
        await self._btrfs.run("qgroup", "create", f"1/{uid}", at, opened=root, despite="File exists")
        await self._btrfs.run("qgroup", "assign", f"0/{tree}", f"1/{uid}", at, opened=root)
        return f"1/{uid}"

    async def _thin(self, root: int, folder: int, path: Path, uid: int) -> SnapshotUse:
        there = await asyncio.to_thread(snapshots.listed, folder)
        if there and await asyncio.to_thread(_owner_of, folder, there[-1]) != uid:
            log.error("snapshots.foreign_owner", home=path.name, expected=uid)
            raise HomeUnavailable("These snapshots belong to another user on the server.")
        staying = sorted(kept(there, self._settings.keeping, self._now()))
        old = [one for one in there if one not in staying]
        removed = len(old)
        taken_up, is_floor = await asyncio.to_thread(self._bytes, root, folder, path, uid, staying)
        settled = await self._remove(folder, old, wait=taken_up > self._settings.quota)
        if old and settled:
            taken_up, is_floor = await asyncio.to_thread(self._bytes, root, folder, path, uid, staying)
        while settled and taken_up > self._settings.quota and len(staying) > 1:
            oldest = staying.pop(0)
            removed += 1
            log.info("snapshot.beyond_quota", home=path.name, snapshot=oldest.name, bytes=taken_up)
            settled = await self._remove(folder, [oldest], wait=True)
            taken_up, is_floor = await asyncio.to_thread(self._bytes, root, folder, path, uid, staying)
        return SnapshotUse(len(staying), removed, taken_up, is_floor)

    async def _remove(self, folder: int, old: Sequence[Snapshot], *, wait: bool = False) -> bool:
        """What they took up is free when the kernel has cleaned up, a while later.

        Args:
            wait: until then. It costs everybody on this file system a commit or two.

        Returns:
            Whether it is; a longer cleaning goes on, and the next round sees.
        """
        if not old:
            return True
        trees = [await asyncio.to_thread(_tree_of, folder, one) for one in old]
        for one in old:
            await self._btrfs.run("subvolume", "delete", f"{opened_path(folder)}/{one.name}", opened=folder)
        if not wait:
            return False
        at = opened_path(folder)
        try:
            await self._btrfs.run("filesystem", "sync", at, opened=folder)  # wakes the cleaner, which else sleeps on
            await self._btrfs.run("subvolume", "sync", at, *map(str, trees), opened=folder)
            await self._btrfs.run("filesystem", "sync", at, opened=folder)  # and now it is counted
        except HomeUnavailable:
            return False
        return True

    def _bytes(self, root: int, folder: int, path: Path, uid: int, staying: Sequence[Snapshot]) -> tuple[int, bool]:
        """What they take up beside the home as of the last commit, and whether that is only a part of it."""
        if not staying:
            return 0, False
        trees = [_tree_of(folder, one) for one in staying]
        group = LEVEL + uid
        all_of_it = group_of(root, group)
        if all_of_it is None or not all(is_member(root, tree, group) for tree in trees):
            return sum(found.exclusive for tree in trees if (found := group_of(root, tree)) is not None), True
        home = directories.open_home(root, path, None)
        own = None
        if home is not None:
            try:
                own = group_of(root, subvolume_of(home).tree) if is_subvolume(home) else None
            finally:
                os.close(home)
        return max(0, all_of_it.referenced - (own.referenced if own is not None else 0)), False


def _is_among(home: int, folder: int, there: Sequence[Snapshot]) -> bool:
    """Whether the home is still what it was when one of them was taken."""
    now = subvolume_of(home)
    for one in reversed(there):
        snapshot = _open(folder, one)
        try:
            then = subvolume_of(snapshot)
        finally:
            os.close(snapshot)
        if now.uuid == then.parent_uuid and now.changed_in == then.changed_in:
            return True
    return False


def _open(folder: int, one: Snapshot) -> int:
    try:
        return os.open(one.name, directories.DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    except OSError:
        raise NotFound(NO_SUCH) from None


def _tree_of(folder: int, one: Snapshot) -> int:
    opened = _open(folder, one)
    try:
        return subvolume_of(opened).tree
    finally:
        os.close(opened)


def _owner_of(folder: int, one: Snapshot) -> int:
    opened = _open(folder, one)
    try:
        return os.fstat(opened).st_uid
    finally:
        os.close(opened)


def _kernel() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(found[1]), int(found[2])) if found else (0, 0)
