"""What administrators tell everybody: known to each process, since every page shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from ...domain.announcements import Announcement
from ...store import announcements
from ...store.changes import EVERYTHING, Change, ChangeFeed
from ...store.database import Database
from ..background import Beat, Loop, continuous

LOOK_SECONDS = 30.0
LATE_AFTER_SECONDS = 120.0


class LiveAnnouncements:
    """`shown` answers at once with what was read last; the loop reads again whenever something has changed."""

    def __init__(self, database: Database, feed: ChangeFeed) -> None:
        self._database = database
        self._known: tuple[Announcement, ...] = ()
        self._changed = asyncio.Event()
        feed.subscribe(self._heard)

    def shown(self, now: datetime) -> tuple[Announcement, ...]:
        """Those that pages show now."""
        return tuple(one for one in self._known if one.is_shown(now))

    async def renew(self, now: datetime) -> None:
        """Reads them. Raises StoreUnavailable."""
        self._changed.clear()
        async with self._database.reading() as db:
            self._known = tuple(await announcements.not_over(db, now))

    def loop(self, now: Callable[[], datetime]) -> Loop:
        async def run(beat: Beat) -> None:
            while True:
                await self.renew(now())
                beat()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._changed.wait()

        return continuous("announcements", run, late_after_seconds=LATE_AFTER_SECONDS, owner_only=False)

    def _heard(self, changes: Sequence[Change]) -> None:
        if any(change.table in ("announcements", EVERYTHING.table) for change in changes):
            self._changed.set()
