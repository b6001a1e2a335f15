"""What each home takes up, as the process that owns the work has measured it last: no page waits for a disk."""

from __future__ import annotations

from ...domain.home_use import MeasuredUse
from ...store import home_use
from ...store.changes import Change, ChangeFeed
from ...store.database import Database
from .remembered import Answer, Remembered

MOST = 10_000


class MeasuredHomes:
    def __init__(self, database: Database, feed: ChangeFeed) -> None:
        self._database = database
        self._known: Remembered[str, MeasuredUse] = Remembered(feed, MOST)

    async def of(self, user_id: str) -> MeasuredUse | None:
        """None: it was not measured yet. Raises StoreUnavailable when it is not known and the database is away."""

        async def read() -> Answer[MeasuredUse] | None:
            async with self._database.reading() as db:
                found = await home_use.of(db, user_id)
            return Answer(found, (Change("home_use", user_id),)) if found is not None else None

        return await self._known.get(user_id, read)

    async def disk(self) -> MeasuredUse | None:
        """The disk that homes lie on; the same."""
        return await self.of(home_use.DISK)
