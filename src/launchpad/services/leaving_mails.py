"""Tells people who leave by mail what becomes of their home folder, and when."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.leaving import HomeArchive, Leaving, LeavingCause
from ..domain.sizes import describe_bytes
from ..domain.times import exact, zone_of
from ..domain.users import User
from .notice_mails import NoticeMails

STAYS = "Nothing is deleted: an archive holds every file as it was, and can be restored."
ONCE = ("You are told this once.",)


class LeavingMails(NoticeMails):
    of_use = timedelta(days=7)

    async def warn(self, db: AsyncConnection, user: User, one: Leaving, now: datetime) -> None:
        """That their home will be archived at `one.archive_at`."""
        if one.archive_at is None:
            return
        zone = zone_of(user.time_zone)
        at, since = exact(one.archive_at, zone), exact(one.since_at, zone)
        removed = one.cause is LeavingCause.REMOVED
        lines = [
            f"An administrator {'removed' if removed else 'suspended'} your account on {since}.",
            f"On {at}, your home folder will be archived. {STAYS}",
            *self._afterwards(),
            "If you still need your files, or should not have been "
            f"{'removed' if removed else 'suspended'}, write to your administrators before then.",
        ]
        await self._queue(db, user.email, f"your home folder will be archived on {at}", lines, ONCE, now)

    async def archived(
        self, db: AsyncConnection, user: User, archive: HomeArchive, one: Leaving, now: datetime
    ) -> None:
        """That it was."""
        zone = zone_of(user.time_zone)
        lines = [
            f"Your home folder was archived on {exact(archive.made_at, zone)}: {archive.entries} files and folders, "
            f"{describe_bytes(archive.bytes)}. The archive was read back and checked. {STAYS}"
        ]
        if one.remove_home_at is not None:
            lines.append(
                f"The home folder itself will be removed on {exact(one.remove_home_at, zone)}; the archive is kept."
            )
        lines.append("To get your files, write to your administrators.")
        await self._queue(db, user.email, "your home folder was archived", lines, ONCE, now)

    async def removed(self, db: AsyncConnection, user: User, archive: HomeArchive, now: datetime) -> None:
        """That the home is not there any more, and its archive is."""
        zone = zone_of(user.time_zone)
        lines = [
            f"Your home folder was removed on {exact(now, zone)}. Its archive of {exact(archive.made_at, zone)} is "
            "kept and holds every file as it was.",
            "To get your files, write to your administrators.",
        ]
        await self._queue(db, user.email, "your home folder was removed, its archive is kept", lines, ONCE, now)

    def _afterwards(self) -> list[str]:
        leaving = self._settings.leaving
        if not leaving.remove_home:
            return []
        return [
            f"{leaving.remove_home_after_days} days after that the home folder itself will be removed; the archive is "
            "kept."
        ]
