"""Snapshots of homes for tests: a clock, and snapshots that are copies, where no btrfs is needed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from launchpad.domain.snapshots import Cause, Snapshot, is_due, kept
from launchpad.errors import HomeUnavailable, NotFound
from launchpad.settings import SnapshotSettings
from launchpad.storage.snapshots import FOLDER, NO_SUCH, Obstacle, SnapshotSummary, SnapshotUse
from support.btrfs import run

START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)  # a Tuesday


class Clock:
    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> datetime:
        self.now += timedelta(**by)
        return self.now


class CopiedSnapshots:
    """Implements `Snapshots` for tests, on any file system: each is a copy. What it takes up, it does not know."""

    def __init__(self, root: Path, settings: SnapshotSettings, now: Callable[[], datetime]) -> None:
        self._root = root
        self._settings = settings
        self._now = now
        self.fails: set[str] = set()  # usernames
        self.is_away = False
        self.asked: list[str] = []  # the usernames, of each `take`

    async def obstacle(self) -> Obstacle | None:
        return None

    async def taken(self, username: str) -> Sequence[Snapshot]:
        if self.is_away:
            raise HomeUnavailable("Nobody answers.")
        folder = self._folder(username)
        names = os.listdir(folder) if folder.exists() else []
        return sorted(one for one in map(Snapshot.named, names) if one is not None)

    async def summary(self) -> SnapshotSummary:
        folder = self._root / FOLDER
        found = [await self.taken(name) for name in (os.listdir(folder) if folder.exists() else ())]
        newest = max((one[-1].taken_at for one in found if one), default=None)
        return SnapshotSummary(sum(1 for one in found if one), sum(map(len, found)), newest)

    async def take(self, username: str, uid: int, cause: Cause) -> Snapshot | None:
        self.asked.append(username)
        home = self._root / username
        if username in self.fails:
            raise HomeUnavailable("The disk is full.")
        if not home.is_dir():
            return None
        if home.stat().st_uid != uid:
            raise HomeUnavailable("This is somebody else's.")
        there = await self.taken(username)
        now = self._now()
        if cause is Cause.TIME and not is_due(there, now):
            return None
        if there and looks(self._folder(username) / there[-1].name) == looks(home):
            return None
        made = Snapshot(now.replace(microsecond=0), cause)
        self._folder(username).mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._root / FOLDER).chmod(0o700)
        run("cp", "-a", home, self._folder(username) / made.name)
        return made

    async def thin(self, username: str, uid: int) -> SnapshotUse:
        there = await self.taken(username)
        staying = kept(there, self._settings.keeping, self._now())
        for one in set(there) - staying:
            await self.forget(username, one.name)
        return SnapshotUse(len(staying), len(there) - len(staying))

    async def forget(self, username: str, name: str) -> None:
        if Snapshot.named(name) not in await self.taken(username):
            raise NotFound(NO_SUCH)
        shutil.rmtree(self._folder(username) / name)

    def _folder(self, username: str) -> Path:
        return self._root / FOLDER / username


def looks(top: Path) -> dict[str, tuple[object, ...]]:
    """All that lies below a folder: kind and mode, time of the change in nanoseconds, and content."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, _, files in os.walk(top):
        for name in ("", *files):
            path = Path(folder, name)
            status = path.lstat()
            content: object = None
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = path.read_bytes()
            found[os.path.relpath(path, top)] = (oct(status.st_mode), status.st_mtime_ns, content)
    return found
