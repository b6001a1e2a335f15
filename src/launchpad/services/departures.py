"""What a change of somebody's status means for their home: when it is archived, or that it comes back."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.leaving import HomeWork, Leaving, LeavingCause, WorkKind
from ..domain.naming import new_id
from ..domain.users import User
from ..settings import LeavingSettings
from ..store import home_work, leaving
from .audit import Actor


class Departures:
    """Called in the transaction of the change."""

    def __init__(self, settings: LeavingSettings) -> None:
        self._settings = settings

    async def suspended(self, db: AsyncConnection, user: User, now: datetime) -> None:
        """Begins to count, where it does not yet."""
        before = await leaving.of(db, user.id)
        if before is not None and before.home_removed_at is None:
            return
        after = timedelta(days=self._settings.archive_after_days)
        one = Leaving(
            user.id,
            LeavingCause.SUSPENDED,
            now,
            archive_at=now + after if self._settings.archive_suspended else None,
        )
        if before is not None:  # there is nothing to archive
            one = Leaving(
                user.id,
                LeavingCause.SUSPENDED,
                now,
                archive_id=before.archive_id,
                archived_at=before.archived_at,
                home_removed_at=before.home_removed_at,
            )
        await leaving.put(db, one)

    async def removed(
        self, db: AsyncConnection, user: User, archive_at: datetime | None, reason: str, now: datetime
    ) -> Leaving:
        """An administrator has removed them; what was archived or warned of before stands.

        Args:
            archive_at: None: after the days of the settings.
        """
        before = await leaving.of(db, user.id)
        at = archive_at or now + timedelta(days=self._settings.archive_removed_after_days)
        if before is not None and (before.archived_at is not None or before.home_removed_at is not None):
            one = Leaving(
                user.id,
                LeavingCause.REMOVED,
                before.since_at,
                reason,
                archive_id=before.archive_id,
                archive_at=before.archive_at,
                archived_at=before.archived_at,
                warned_before=before.warned_before,
                warned_at=before.warned_at,
                remove_home_at=before.remove_home_at,
                home_removed_at=before.home_removed_at,
            )
        else:
            one = Leaving(user.id, LeavingCause.REMOVED, now, reason, archive_at=at)
        await leaving.put(db, one)
        return one

    async def returned(self, db: AsyncConnection, user: User, actor: Actor, now: datetime) -> None:
        """Nothing is due any more; a home that is in an archive only is to be restored."""
        one = await leaving.of(db, user.id)
        if one is None:
            return
        if one.home_removed_at is None:
            await leaving.drop(db, user.id)
            return
        open_work = await home_work.open_of_user(db, user.id)
        if one.archive_id is not None and not any(work.kind is WorkKind.RESTORE for work in open_work):
            work = HomeWork(
                new_id(),
                WorkKind.RESTORE,
                user.id,
                now,
                actor.name,
                actor.client,
                actor.user_id,
                actor.is_automatic,
                archive_id=one.archive_id,
                reason="reactivated",
            )
            await home_work.add(db, work)
