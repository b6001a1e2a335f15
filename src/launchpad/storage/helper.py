"""Homes as the portal reaches them where it has no right to: through the privileged helper."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TypeVar

from ..domain.snapshots import Cause, Snapshot
from ..errors import EngineRefused, EngineUnavailable, HomeUnavailable
from ..helper_client import HelperClient, asking
from . import directories
from .base import DiskSpace, HomeUse, HomeVerbs
from .snapshots import Obstacle, SnapshotSummary, SnapshotUse, SnapshotVerbs

T = TypeVar("T")


class HelperHomes:
    """See `base.Homes`. Which driver does the work is the helper's to choose, from the settings it reads."""

    def __init__(self, line: HelperClient, root: Path) -> None:
        self.root = root
        self._line = line
        self._verbs: HomeVerbs = asking(line, HomeVerbs)
        self._enforces_limits: bool | None = None

    @property
    def enforces_limits(self) -> bool:
        """Asked once, at the first use; raises HelperUnavailable while nobody can tell."""
        if self._enforces_limits is None:
            self._enforces_limits = bool(self._line.ask_at_once("homes-enforce-limits"))
        return self._enforces_limits

    def path_of(self, username: str) -> Path:
        return directories.home_path(self.root, username)

    async def exists(self, username: str) -> bool:
        return await _asked(self._verbs.home_exists(self.path_of(username).name))

    async def owners(self) -> set[int]:
        return set(await _asked(self._verbs.homes_owners()))

    async def prepare(self, username: str, uid: int, limit_bytes: int | None) -> Path:
        path = self.path_of(username)
        await _asked(self._verbs.home_prepare(username, uid, limit_bytes))
        return path

    async def use(self, username: str) -> HomeUse:
        return await _asked(self._verbs.home_use(self.path_of(username).name))

    async def measure(self, username: str) -> HomeUse:
        return await _asked(self._verbs.home_measure(self.path_of(username).name))

    async def disk(self) -> DiskSpace:
        return await _asked(self._verbs.homes_disk())

    async def check(self) -> None:
        await _asked(self._verbs.homes_check())


class HelperSnapshots:
    """See `snapshots.Snapshots`. When one is taken and which are removed is the helper's to decide."""

    def __init__(self, line: HelperClient) -> None:
        self._verbs: SnapshotVerbs = asking(line, SnapshotVerbs)

    async def obstacle(self) -> Obstacle | None:
        return await _asked(self._verbs.snapshots_obstacle())

    async def taken(self, username: str) -> Sequence[Snapshot]:
        return await _asked(self._verbs.snapshots_taken(username))

    async def summary(self) -> SnapshotSummary:
        return await _asked(self._verbs.snapshots_summary())

    async def take(self, username: str, uid: int, cause: Cause) -> Snapshot | None:
        return await _asked(self._verbs.snapshot_take(username, uid, cause))

    async def thin(self, username: str, uid: int) -> SnapshotUse:
        return await _asked(self._verbs.snapshots_thin(username, uid))

    async def forget(self, username: str, name: str) -> None:
        """Raises HomeUnavailable: only root may."""
        raise HomeUnavailable("Snapshots are removed by their age and quota; only root removes one by its name.")


async def _asked(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except (EngineUnavailable, EngineRefused) as error:
        raise HomeUnavailable(error.detail, retry_after_seconds=error.retry_after_seconds) from error
