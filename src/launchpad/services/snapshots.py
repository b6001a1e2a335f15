"""Snapshots of homes: taken every hour of those that have changed, and before an administrator's act; and restoring."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, TypeVar

import structlog

from ..domain.file_paths import joined
from ..domain.snapshots import Cause, Snapshot
from ..domain.times import zone_of
from ..domain.users import User
from ..errors import Conflict, HomeUnavailable, InvalidInput, NotFound
from ..settings import Settings
from ..storage.base import Homes
from ..storage.files import Files, Owner
from ..storage.snapshots import NO_SUCH, Obstacle, Snapshots, SnapshotSummary
from ..store import users
from ..store.database import Database
from .background import Loop, periodic

log = structlog.get_logger(__name__)

T = TypeVar("T")

EVERY_SECONDS = 15.0
LATE_AFTER_SECONDS = 3 * 3600.0
FIRST_AFTER_SECONDS = 120.0  # not while a server starts
AT_ONCE = 25  # homes a pass, so that a thousand take ten minutes
PAUSE_SECONDS = 0.5  # behind each one that was taken: it makes everybody on the file system wait for a moment
THINNED_AT_HOUR = 3  # UTC; also those of homes that do not change any more
LOOK_SECONDS = 5.0
TRIES = 50
TURNED_OFF = Obstacle("Snapshots are turned off on this server.", "Set snapshots.enabled to true.")


class SnapshotService:
    """Who is asked for somebody's snapshots gets only theirs.

    Args:
        pause_seconds: behind each one that was taken.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        snapshots: Snapshots,
        homes: Homes,
        files: Files,
        *,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._database = database
        self._settings = settings.snapshots
        self._snapshots = snapshots
        self._homes = homes
        self._files = files
        self._pause_seconds = pause_seconds
        self._round: datetime | None = None  # the hour that is gone through, or was last
        self._after: str | None = None  # the last address that had its turn in it; None: all had

    # -- taking ------------------------------------------------------------------------------------------------------

    def loop(self, now: Callable[[], datetime]) -> Loop:
        return periodic(
            "snapshots",
            lambda: self.run(now()),
            every_seconds=EVERY_SECONDS,
            late_after_seconds=LATE_AFTER_SECONDS,
            first_after_seconds=FIRST_AFTER_SECONDS,
            longest_retry_seconds=600,
        )

    async def run(self, now: datetime) -> int:
        """One step of this hour's round: some homes, one after the other; how many snapshots were taken.

        A home that fails keeps no other from its turn.

        Raises:
            HomeUnavailable: every one of them failed, such as while the helper is away; they are tried again.
        """
        hour = now.replace(minute=0, second=0, microsecond=0)
        if self._after is None and self._round == hour:
            return 0
        if not self._settings.enabled or await self._snapshots.obstacle() is not None:
            self._round, self._after = hour, None
            return 0
        if self._after is None:
            self._round = hour
        async with self._database.reading() as db:
            page = await users.page(db, limit=AT_ONCE, after=self._after)
        taken, failed = 0, []
        for user in page:
            try:
                taken += await self._one(user, now)
            except HomeUnavailable as error:
                log.warning("snapshot.not_taken", user=user.id, detail=error.detail)
                failed.append(error)
        if failed and len(failed) == len(page):
            if self._after is None:
                self._round = None  # it has not begun
            raise failed[-1]
        self._after = page[-1].email if len(page) == AT_ONCE else None
        return taken

    async def _one(self, user: User, now: datetime) -> bool:
        made = await self._snapshots.take(user.username, user.uid, Cause.TIME)
        if made is not None or now.hour == THINNED_AT_HOUR:
            await self._snapshots.thin(user.username, user.uid)
        if made is not None:
            await asyncio.sleep(self._pause_seconds)
        return made is not None

    async def before_change(self, user: User) -> Snapshot | None:
        """Taken before an administrator changes something about a home. None: the newest shows the same, or there can
        be none; where it fails, the log says so, and the change goes on: nothing of it removes files."""
        if not self._settings.enabled:
            return None
        try:
            return await self._snapshots.take(user.username, user.uid, Cause.BEFORE)
        except HomeUnavailable as error:
            log.error("snapshot.not_taken", user=user.id, detail=error.detail)
            return None

    # -- looking -----------------------------------------------------------------------------------------------------

    async def obstacle(self) -> Obstacle | None:
        """Why no snapshots are taken; None: they are.

        Raises:
            HomeUnavailable: it cannot be told just now.
        """
        return TURNED_OFF if not self._settings.enabled else await _soon(self._snapshots.obstacle())

    async def of(self, user: User) -> Sequence[Snapshot]:
        """Those there are, the newest first.

        Raises:
            HomeUnavailable: it cannot be told just now.
        """
        return list(reversed(await _soon(self._snapshots.taken(user.username))))

    async def summary(self) -> SnapshotSummary:
        """Everybody's.

        Raises:
            HomeUnavailable: it cannot be told just now.
        """
        return await _soon(self._snapshots.summary())

    # -- restoring ---------------------------------------------------------------------------------------------------

    async def restore(self, user: User, name: str, path: str, now: datetime, *, in_place: bool) -> dict[str, Any]:
        """Puts a file or folder into the home as it was: all of it, or nothing.

        Args:
            name: of the snapshot.
            in_place: where it was; what stands there goes to the Trash. Else beside it, with the date in its name.

        Returns:
            `path`, `entry`; `trashed`: what the Trash calls what stood there; `left`: what could not be restored.

        Raises:
            NotFound: there is no such snapshot, or nothing of that path in it.
            NoRoom: there is not enough space left in the home.
            Conflict: something is in the way.
        """
        snapshot = Snapshot.named(name)
        if snapshot is None:
            raise NotFound(NO_SUCH)
        zone = zone_of(user.time_zone)
        moment = now.astimezone(zone).replace(tzinfo=None, microsecond=0).isoformat()
        said = {"path": path, "home": f"/home/{user.username}", "now": moment}
        if in_place:
            return await self._restore(user, name, said | {"in_place": True})
        for number in range(1, TRIES):
            target = beside(path, snapshot.taken_at.astimezone(zone), number)
            if not await self._is_free(user, target):
                continue
            return await self._restore(user, name, said | {"to": target})
        raise Conflict("There are too many restored copies of this. Delete or rename some first.")

    async def _is_free(self, user: User, path: str) -> bool:
        try:
            await self._files.ask(Owner(user.username, user.uid), "stat", path=path)
        except NotFound:
            return True
        except InvalidInput as error:
            raise Conflict("Its name is too long for a copy with the date in its name. Restore it in place.") from error
        return False

    async def _restore(self, user: User, name: str, said: dict[str, Any]) -> dict[str, Any]:
        async with self._files.receive(Owner(user.username, user.uid, name), "restore", **said) as received:
            use = await self._homes.use(user.username)  # all of it is there and counted, without its place
            over = use.used_bytes is not None and use.limit_bytes is not None and use.used_bytes > use.limit_bytes
            await received.choose(go=not over)
            return await received.last_word()


async def _soon(look: Awaitable[T]) -> T:
    """Pages and metrics do not wait for a helper that hangs."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await look
    except TimeoutError as error:
        raise HomeUnavailable("Snapshots cannot be listed right now. Please try again in a moment.") from error


def beside(path: str, at: datetime, number: int = 1) -> str:
    """The path of a copy as of then: "work/data (2026-11-24 14.00).csv"; of the whole home "Home folder (…)"."""
    folder, _, name = path.strip("/").rpartition("/")
    mark = f" ({at:%Y-%m-%d %H.%M})" + (f" {number}" if number > 1 else "")
    if not name:
        return f"Home folder{mark}"
    parts = PurePosixPath(name)
    return joined(folder, f"{parts.stem}{mark}{parts.suffix}")
