"""The contract of snapshots of homes, and where they lie. One suite, `tests/contract/test_snapshots.py`, holds every
implementation to it.

They lie below `<root>/.launchpad-snapshots/<username>/`, in folders that only root may enter: beside the homes, since
nothing but their root is surely on their file system, and where neither users nor containers ever come. Users read them
through workers of files, which are handed an opened one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import structlog

from ..contract import verb
from ..domain.snapshots import Cause, Snapshot
from ..errors import HomeUnavailable, NotFound
from . import directories
from .base import HomeName

log = structlog.get_logger(__name__)

FOLDER = ".launchpad-snapshots"  # no home has such a name
FOLDER_MODE = 0o700
THIN_SECONDS = 600.0  # patience with removing, which waits for the disk
NO_SUCH = "There is no such snapshot. It was removed meanwhile, or there never was one."


@dataclass(frozen=True)
class Obstacle:
    """Why there are no snapshots here, and what is needed; sentences."""

    why: str
    needed: str


@dataclass(frozen=True)
class SnapshotUse:
    """A home's snapshots.

    Attributes:
        number: of those there are.
        removed: how many were removed just now.
        bytes: what they take up beside the home; None where this is not known.
        is_floor: it is at least `bytes`.
    """

    number: int
    removed: int = 0
    bytes: int | None = None
    is_floor: bool = False


@dataclass(frozen=True)
class SnapshotSummary:
    """Everybody's: of how many homes, how many in all, and from when the newest is."""

    homes: int = 0
    number: int = 0
    newest_at: datetime | None = None


class Snapshots(Protocol):
    """What keeps snapshots of homes. Each is read-only, the whole home at one moment, and changed by nobody.

    Which one is removed is decided here, by age and quota (`domain.snapshots.kept`), and not by who asks: a portal that
    was taken over cannot remove the past.
    """

    async def obstacle(self) -> Obstacle | None:
        """Why this storage cannot keep any; None: it can. The other calls are for where it can."""
        ...

    async def taken(self, username: str) -> Sequence[Snapshot]:
        """Those there are, the oldest first; none of a home that does not exist.

        Raises:
            HomeUnavailable: it cannot be told just now.
        """
        ...

    async def summary(self) -> SnapshotSummary:
        """How many there are.

        Raises:
            HomeUnavailable: it cannot be told just now.
        """
        ...

    async def take(self, username: str, uid: int, cause: Cause) -> Snapshot | None:
        """A new one; None where none is needed or possible: the home has not changed since the last one, does not exist
        or can have none; for Cause.TIME also where there is one of this hour.

        Raises:
            HomeUnavailable: it did not work, or the home is not this user's.
        """
        ...

    async def thin(self, username: str, uid: int) -> SnapshotUse:
        """Removes those that are not kept any more, and where they take up more than their quota, the oldest until they
        do not; the newest stays.

        Raises:
            HomeUnavailable: it did not work, or they are not this user's.
        """
        ...

    async def forget(self, username: str, name: str) -> None:
        """Removes this one.

        Raises:
            NotFound: there is none of this name.
            HomeUnavailable: it did not work.
        """
        ...


class SnapshotVerbs(Protocol):
    """What a process without rights asks the helper about snapshots; each verb is what `Snapshots` has of its name.

    Only root removes one by its name.
    """

    @verb()
    async def snapshots_obstacle(self) -> Obstacle | None: ...

    @verb()
    async def snapshots_taken(self, username: HomeName) -> list[Snapshot]: ...

    @verb()
    async def snapshots_summary(self) -> SnapshotSummary: ...

    @verb()
    async def snapshot_take(self, username: HomeName, uid: int, cause: Cause) -> Snapshot | None: ...

    @verb(seconds=THIN_SECONDS)
    async def snapshots_thin(self, username: HomeName, uid: int) -> SnapshotUse: ...


class NoSnapshots:
    """Where the storage cannot keep any.

    Args:
        obstacle: what is told.
    """

    def __init__(self, obstacle: Obstacle) -> None:
        self._obstacle = obstacle

    async def obstacle(self) -> Obstacle | None:
        return self._obstacle

    async def taken(self, username: str) -> Sequence[Snapshot]:
        return ()

    async def summary(self) -> SnapshotSummary:
        return SnapshotSummary()

    async def take(self, username: str, uid: int, cause: Cause) -> Snapshot | None:
        return None

    async def thin(self, username: str, uid: int) -> SnapshotUse:
        return SnapshotUse(0)

    async def forget(self, username: str, name: str) -> None:
        raise NotFound(NO_SUCH)


# -- where they lie; all of it blocks, and is called in a thread ---------------------------------------------------


def open_folder(root: int, username: str, *, make: bool = False) -> int | None:
    """The opened folder of a home's snapshots, for the caller to close; None where there is none.

    Args:
        root: the opened root of the homes.

    Raises:
        HomeUnavailable: what has its name is not ours, or it cannot be made.
    """
    at = os.dup(root)
    try:
        for name in (FOLDER, username):
            inner = _entered(at, name, make=make)
            if inner is None:
                return None
            os.close(at)
            at = inner
        held, at = at, -1
        return held
    finally:
        if at >= 0:
            os.close(at)


def _entered(folder: int, name: str, *, make: bool) -> int | None:
    try:
        if make:
            with suppress(FileExistsError):
                os.mkdir(name, FOLDER_MODE, dir_fd=folder)
        inner = os.open(name, directories.DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.error("snapshots.folder_unusable", name=name, error=str(error))
        raise HomeUnavailable("The folder of snapshots cannot be used. The server's log says why.") from error
    status = os.fstat(inner)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        os.close(inner)
        log.error("snapshots.folder_open_to_others", name=name, owner=status.st_uid, mode=oct(status.st_mode))
        raise HomeUnavailable("The folder of snapshots is not the server's alone, so it is not used.")
    return inner


def listed(folder: int | None) -> list[Snapshot]:
    """The snapshots in an opened folder, the oldest first."""
    if folder is None:
        return []
    found = (Snapshot.named(name) for name in os.listdir(folder))
    return sorted(one for one in found if one is not None)


def summed_up(root: int) -> SnapshotSummary:
    """Of an opened root of homes."""
    top = _entered(root, FOLDER, make=False)
    if top is None:
        return SnapshotSummary()
    try:
        found = []
        for username in os.listdir(top):
            folder = _entered(top, username, make=False)
            if folder is not None:
                try:
                    found.append(listed(folder))
                finally:
                    os.close(folder)
    finally:
        os.close(top)
    newest = max((one[-1].taken_at for one in found if one), default=None)
    return SnapshotSummary(sum(1 for one in found if one), sum(map(len, found)), newest)


def open_snapshot(root: Path, username: str, uid: int, name: str) -> int:
    """A descriptor of a user's snapshot, for the caller to close.

    Raises:
        NotFound: there is no such one, or it is not this user's.
        HomeUnavailable: the root or the folder cannot be used.
    """
    if Snapshot.named(name) is None or not directories.USERNAME.fullmatch(username):
        raise NotFound(NO_SUCH)
    opened = directories.open_root(root)
    try:
        folder = open_folder(opened, username)
    finally:
        os.close(opened)
    if folder is None:
        raise NotFound(NO_SUCH)
    try:
        snapshot = os.open(name, directories.DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    except OSError:
        raise NotFound(NO_SUCH) from None
    finally:
        os.close(folder)
    if os.fstat(snapshot).st_uid != uid:
        os.close(snapshot)
        log.error("snapshots.foreign_owner", username=username, snapshot=name, expected=uid)
        raise NotFound(NO_SUCH)
    return snapshot
