"""Homes as the portal reaches them where it has no right to: through the privileged helper."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import TypeVar

from ..domain.snapshots import Cause, Snapshot
from ..errors import EngineRefused, EngineUnavailable, HomeUnavailable
from ..helper_client import HelperClient, asking
from . import directories
from .archives import ArchiveFacts, ArchivesSummary, ArchiveVerbs, Progress
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

    async def stage(self, username: str, uid: int, beside: str) -> None:
        """Raises HomeUnavailable: only root does."""
        raise HomeUnavailable("Home folders are made and filled by the helper.")

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


class HelperArchives:
    """See `archives.Archives`."""

    def __init__(self, line: HelperClient) -> None:
        self._verbs: ArchiveVerbs = asking(line, ArchiveVerbs)

    async def summary(self) -> ArchivesSummary:
        return await _asked(self._verbs.archives_summary())

    async def of(self, username: str) -> Sequence[ArchiveFacts]:
        return await _asked(self._verbs.archives_of(username))

    def make(self, username: str, uid: int) -> AsyncIterator[Progress]:
        return _followed(self._verbs.archive_make(username, uid))

    def verify(self, username: str, name: str, sha256: str) -> AsyncIterator[Progress]:
        return _followed(self._verbs.archive_verify(username, name, sha256))

    def restore(self, username: str, uid: int, name: str, sha256: str) -> AsyncIterator[Progress]:
        return _followed(self._verbs.archive_restore(username, uid, name, sha256))

    def copy(
        self, username: str, uid: int, name: str, sha256: str, to_username: str, to_uid: int, folder: str
    ) -> AsyncIterator[Progress]:
        return _followed(self._verbs.archive_copy(username, uid, name, sha256, to_username, to_uid, folder))

    def remove_home(self, username: str, uid: int, name: str, sha256: str) -> AsyncIterator[Progress]:
        return _followed(self._verbs.home_remove(username, uid, name, sha256))

    async def tidy(self) -> int:
        return await _asked(self._verbs.archives_tidy())


async def _followed(told: AsyncIterator[Progress]) -> AsyncIterator[Progress]:
    """Who stops listening hangs up, and the helper stops work."""
    try:
        async for said in told:
            yield said
    except (EngineUnavailable, EngineRefused) as error:
        raise HomeUnavailable(error.detail, retry_after_seconds=error.retry_after_seconds) from error


async def _asked(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except (EngineUnavailable, EngineRefused) as error:
        raise HomeUnavailable(error.detail, retry_after_seconds=error.retry_after_seconds) from error
