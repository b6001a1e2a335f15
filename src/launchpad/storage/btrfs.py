"""Homes as btrfs subvolumes: each with a limit that the kernel enforces, and use that it counts.

The file system's quotas have to be on (`btrfs quota enable <root>`). The driver does not turn them on: on a file system
with many snapshots they cost speed, and that is the administrator's to decide.

What the limit does not hold: a user may make subvolumes inside the home, which btrfs allows everybody and counts apart.
Containers have to refuse the calls that make them; here, a home that holds some is reported at every launch.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import structlog

from ..errors import HomeUnavailable
from . import directories
from .base import DiskSpace, HomeUse
from .btrfs_command import (
    COMMAND_SECONDS,
    BtrfsCommand,
    filesystem_id,
    find_command,
    group_of,
    is_subvolume,
    limit_of,
    opened_path,
    reason_of,
    subvolume_of,
)
from .walking import Walks

log = structlog.get_logger(__name__)

T = TypeVar("T")
# A row of `btrfs qgroup show -re --raw`: group, referenced, exclusive, most referenced, …
ROW = re.compile(r"^(0/\d+)\s+(\d+)\s+\d+\s+(none|\d+)", re.MULTILINE)


class BtrfsHomes:
    """One subvolume a home, limited by its own quota group (`0/<id>`, referenced bytes).

    A home that is a plain directory, made before the limits were, is used as it is: without a limit, which is logged at
    every launch and shown as none.

    Args:
        root: the directory of the homes, on btrfs.
        command: the program of btrfs-progs; None: looked up.
        command_seconds: how long one call of it may take.
    """

    enforces_limits = True

    def __init__(self, root: Path, command: str | None = None, command_seconds: float = COMMAND_SECONDS) -> None:
        self.root = root
        self._walks = Walks(root)
        self._btrfs = BtrfsCommand(root, command, command_seconds)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._working: set[asyncio.Task[Any]] = set()

    def path_of(self, username: str) -> Path:
        return directories.home_path(self.root, username)

    async def exists(self, username: str) -> bool:
        return await asyncio.to_thread(os.path.lexists, self.path_of(username))

    async def owners(self) -> set[int]:
        return await asyncio.to_thread(directories.owners, self.root)

    async def prepare(self, username: str, uid: int, limit_bytes: int | None) -> Path:
        path = self.path_of(username)
        # In this process, one at a time: a subvolume that loses the race leaves its quota group behind.
        lock = self._locks.setdefault(username, asyncio.Lock())
        async with lock:
            await self._whole(self._prepare(path, uid, limit_bytes))
        return path

    async def stage(self, username: str, uid: int, beside: str) -> None:
        """Its limit comes with the next launch."""
        await self._whole(self._stage(uid, beside))

    async def use(self, username: str) -> HomeUse:
        return await self._whole(self._use(self.path_of(username)))

    async def measure(self, username: str) -> HomeUse:
        """A home that is no subvolume is not counted, and is walked."""
        return await self._walks.measured(self.path_of(username), await self.use(username))

    async def disk(self) -> DiskSpace:
        return await asyncio.to_thread(directories.disk, self.root)

    async def check(self) -> None:
        await asyncio.to_thread(directories.try_root, self.root)
        await self._whole(self._check_quotas())

    # -- the work ----------------------------------------------------------------------------------------------------

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Goes on to its end when whoever waits for it is cancelled: no half home, no open descriptor is left."""
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            task.exception()  # is told to whoever waited; nobody need hear of it a second time

    async def _prepare(self, path: Path, uid: int, limit_bytes: int | None) -> None:
        root = await asyncio.to_thread(directories.open_root, self.root)
        try:
            home = await asyncio.to_thread(directories.open_home, root, path, uid)
            if home is None:
                if await self._make(root, path, uid, limit_bytes):
                    return
                # Another process was quicker, or something is in the way.
                home = await asyncio.to_thread(directories.open_home, root, path, uid)
                if home is None:
                    raise HomeUnavailable("Your home folder was moved while it was being created. Please try again.")
            try:
                await self._keep_limit(root, home, path, limit_bytes)
            finally:
                os.close(home)
        finally:
            os.close(root)

    async def _stage(self, uid: int, beside: str) -> None:
        root = await asyncio.to_thread(directories.open_root, self.root)
        try:
            await self._make_empty(root, beside, uid, None)
        except OSError as error:
            raise directories.unusable_for(self.root, error) from error
        finally:
            os.close(root)

    async def _make_empty(self, root: int, beside: str, uid: int, limit_bytes: int | None) -> None:
        await self._btrfs.run("subvolume", "create", f"{opened_path(root)}/{beside}", opened=root)
        home = await asyncio.to_thread(directories.open_new, root, beside)
        try:
            await asyncio.to_thread(directories.give_to, home, uid)
            await self._limit(root, home, limit_bytes)
        finally:
            os.close(home)

    async def _make(self, root: int, path: Path, uid: int, limit_bytes: int | None) -> bool:
        """Makes it beside its place and moves it there with owner and limit, so that a crash leaves no half home.

        Returns:
            False where its name is taken by now.
        """
        beside = directories.name_beside(path.name)
        placed = False
        try:
            await self._make_empty(root, beside, uid, limit_bytes)
            placed = await asyncio.to_thread(directories.move_if_free, root, beside, path.name)
        except OSError as error:
            raise directories.unusable_for(self.root, error) from error
        finally:
            if not placed:
                await asyncio.to_thread(directories.remove_empty, root, beside)
        return placed

    async def _keep_limit(self, root: int, home: int, path: Path, limit_bytes: int | None) -> None:
        if not is_subvolume(home):
            log.warning("home.without_limit", home=str(path), reason="it is a directory and no subvolume")
            return
        await self._limit(root, home, limit_bytes)
        inside = await self._btrfs.run("subvolume", "list", "-o", opened_path(home), opened=home)
        if inside.strip():
            log.error("home.beyond_limit", home=str(path), reason="subvolumes in it count apart", inside=inside[:500])

    async def _limit(self, root: int, home: int, limit_bytes: int | None) -> None:
        """Sets the limit where it is another one: setting needs room, which a full disk does not have."""
        group, use = await self._show(home)
        if use.limit_bytes != limit_bytes:
            # Through the root: the kernel charges the subvolume it is asked through, and would refuse to raise the
            # limit of a home that is full.
            limit = "none" if limit_bytes is None else str(limit_bytes)
            await self._btrfs.run("qgroup", "limit", limit, group, opened_path(root), opened=root)

    async def _use(self, path: Path) -> HomeUse:
        root = await asyncio.to_thread(directories.open_root, self.root)
        try:
            home = await asyncio.to_thread(directories.open_home, root, path, None)
            if home is None:
                return HomeUse(None, None)
            try:
                use = (await self._show(home))[1] if is_subvolume(home) else HomeUse(None, None)
                return replace(use, free_bytes=directories.free_bytes(home))
            except OSError as error:
                raise directories.unusable_for(self.root, error) from error
            finally:
                os.close(home)
        finally:
            os.close(root)

    async def _show(self, home: int) -> tuple[str, HomeUse]:
        """A subvolume's quota group and what it says, as of the last commit (by default, one every 30 s)."""
        tree = subvolume_of(home).tree
        counted = group_of(home, tree)
        if counted is not None:
            return f"0/{tree}", HomeUse(used_bytes=counted.referenced, limit_bytes=limit_of(home, tree))
        # The program has words for what is wrong.
        table = await self._btrfs.run("qgroup", "show", "-re", "--raw", "-f", opened_path(home), opened=home)
        row = ROW.search(table)
        if row is None:
            log.error("home.without_quota_group", table=table[:500])
            raise directories.unusable(self.root, "has btrfs quotas that do not include the home folder")
        return row[1], HomeUse(used_bytes=int(row[2]), limit_bytes=None if row[3] == "none" else int(row[3]))

    async def _check_quotas(self) -> None:
        root = await asyncio.to_thread(directories.open_root, self.root)
        try:
            if filesystem_id(root) is None:
                raise directories.unusable(self.root, "is not on a btrfs file system")
            await self._btrfs.run("qgroup", "show", "-f", opened_path(root), opened=root)
            if await asyncio.to_thread(_is_inconsistent, root):
                # No obstacle: it is so for a while after quotas were turned on, until everything is counted.
                log.warning("homes.miscounted", root=str(self.root), help="“btrfs quota rescan” counts again")
        finally:
            os.close(root)


def why_not(root: Path, command: str | None = None) -> str | None:
    """What keeps `root`, or where it will be made, from holding limited homes; None: nothing. Blocks for a moment."""
    while not root.exists() and root != root.parent:
        root = root.parent
    try:
        descriptor = os.open(root, directories.DIRECTORY)
    except OSError as error:
        return f"{root} {directories.WHY.get(error.errno or 0, 'cannot be used')}"
    try:
        if filesystem_id(descriptor) is None:
            return f"{root} is not on a btrfs file system"
        command = command or find_command()
        if command is None:
            return "the program btrfs is missing; it is in the package btrfs-progs"
        return _why_no_quotas(root, descriptor, command)
    finally:
        os.close(descriptor)


def _why_no_quotas(root: Path, descriptor: int, command: str) -> str | None:
    try:
        shown = subprocess.run(  # noqa: S603 - no shell, and nothing a user wrote
            [command, "qgroup", "show", "-f", opened_path(descriptor)],
            pass_fds=(descriptor,),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            env={"LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.error("home.btrfs_not_started", command=command, error=str(error))
        return "the program btrfs does not start or does not finish"
    return f"{root} {reason_of(shown.stderr.decode(errors='replace'))}" if shown.returncode != 0 else None


def _is_inconsistent(root: int) -> bool:
    """Whether the kernel says that the counts are wrong; kernels before 5.9 do not say."""
    path = Path("/sys/fs/btrfs", filesystem_id(root) or "", "qgroups", "inconsistent")
    try:
        return path.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False
