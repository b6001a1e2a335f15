"""Empties everybody's Trash of what has lain in it for too long, once a day, also of those who never look."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog

from ..domain.users import User
from ..errors import LaunchpadError
from ..store import users
from ..store.database import Database
from .background import Loop, periodic
from .files import FilesService

log = structlog.get_logger(__name__)

EVERY_SECONDS = 86400
LATE_AFTER_SECONDS = 3 * 86400
FIRST_AFTER_SECONDS = 900  # not while a server starts
AT_ONCE = 200


class TrashSweep:
    def __init__(self, database: Database, files: FilesService) -> None:
        self._database = database
        self._files = files

    def loop(self, now: Callable[[], datetime]) -> Loop:
        return periodic(
            "trash",
            lambda: self.run(now()),
            every_seconds=EVERY_SECONDS,
            late_after_seconds=LATE_AFTER_SECONDS,
            first_after_seconds=FIRST_AFTER_SECONDS,
            longest_retry_seconds=3600,
        )

    async def run(self, now: datetime) -> int:
        """One home after the other; how many were looked at. One that fails keeps no other from its turn.

        Raises:
            LaunchpadError: every one of them failed, such as while the helper is away.
        """
        looked_at, failed = 0, None
        after: str | None = None
        while True:
            async with self._database.reading() as db:
                page = await users.page(db, limit=AT_ONCE, after=after)
            for user in page:
                try:
                    looked_at += await self._one(user, now)
                except LaunchpadError as error:
                    log.warning("trash.not_emptied", user=user.id, detail=error.detail)
                    failed = error
            if len(page) < AT_ONCE:
                break
            after = page[-1].email
        if failed is not None and not looked_at:
            raise failed
        return looked_at

    async def _one(self, user: User, now: datetime) -> bool:
        return await self._files.remove_old_trash(user, now)
