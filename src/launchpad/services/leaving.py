"""People who leave: warns them, and has their homes archived, and removed where settings say so, when that is due."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.leaving import (
    HomeWork,
    Leaving,
    WorkKind,
    WorkState,
    due_warning,
    is_archive_due,
    is_removal_due,
    warned,
)
from ..domain.naming import new_id
from ..domain.users import User, UserStatus
from ..errors import Conflict, InvalidInput
from ..settings import LeavingSettings
from ..store import audit, home_work, leaving, users
from ..store.database import Database
from .audit import SYSTEM, Actor
from .background import Loop, periodic
from .departures import Departures
from .home_work import REASON_CHARACTERS, HomeWorkService
from .leaving_mails import LeavingMails
from .users import UserChange, UserService

log = structlog.get_logger(__name__)

EVERY_SECONDS = 600.0
LATE_AFTER_SECONDS = 6 * 3600.0
FIRST_AFTER_SECONDS = 30.0
AT_ONCE = 200
AGAIN_AFTER = timedelta(days=1)  # what failed is tried again, and an administrator sees why it did


class LeavingService:
    def __init__(
        self,
        database: Database,
        settings: LeavingSettings,
        departures: Departures,
        them: UserService,
        work: HomeWorkService,
        mails: LeavingMails,
    ) -> None:
        self._database = database
        self._settings = settings
        self._departures = departures
        self._users = them
        self._work = work
        self._mails = mails

    def loop(self, now: Callable[[], datetime]) -> Loop:
        return periodic(
            "leaving",
            lambda: self.look(now()),
            every_seconds=EVERY_SECONDS,
            late_after_seconds=LATE_AFTER_SECONDS,
            first_after_seconds=FIRST_AFTER_SECONDS,
        )

    async def of(self, user: User) -> Leaving | None:
        async with self._database.reading() as db:
            return await leaving.of(db, user.id)

    async def of_all(self, user_ids: Collection[str]) -> Mapping[str, Leaving]:
        async with self._database.reading() as db:
            return await leaving.of_all(db, user_ids)

    async def remove(
        self, user: User, archive_at: datetime | None, reason: str, actor: Actor, now: datetime
    ) -> Leaving:
        """Removes a user: suspended at once, as always; the home is archived after warnings.

        Args:
            archive_at: when; None: after the days of the settings.

        Raises:
            Conflict: the last active administrator, or oneself.
            InvalidInput: the reason is too long, or the date has passed.
        """
        if actor.user_id == user.id:
            raise Conflict("You cannot remove yourself. Ask another administrator to.")
        if len(reason) > REASON_CHARACTERS:
            raise InvalidInput("That reason is too long.", fields={"reason": f"at most {REASON_CHARACTERS} characters"})
        if archive_at is not None and archive_at <= now:
            raise InvalidInput("That date has passed.", fields={"archive_at": "choose a date to come"})
        if user.is_active:
            user = await self._users.change(user.id, UserChange(status=UserStatus.SUSPENDED), actor, now)
        async with self._database.transaction() as db:
            one = await self._departures.removed(db, user, archive_at, reason.strip(), now)
            await audit.add(
                db,
                at=now,
                actor=actor.name,
                client=actor.client,
                action="user.removed",
                subject=user.email,
                details={"reason": one.reason, "archived on": one.archive_at.isoformat()} if one.archive_at else {},
                owner_id=actor.on(user.id),
            )
        await self.look(now)
        return await self.of(user) or one

    # -- what is due -------------------------------------------------------------------------------------------------

    async def look(self, now: datetime) -> int:
        """Warns, and queues what is due. How much of both it was."""
        await self._note_all(now)
        async with self._database.reading() as db:
            found = await leaving.to_look_at(db, now + max(self._settings.warnings), now, AT_ONCE)
        done = 0
        for one in found:
            async with self._database.transaction() as db:
                done += await self._one(db, one.user_id, now)
        if done:
            self._mails.wake()
            self._work.wake()
        return done

    async def _note_all(self, now: datetime) -> None:
        """Of those who were suspended before anybody counted, it is counted from now on."""
        async with self._database.reading() as db:
            suspended = await users.with_status(db, UserStatus.SUSPENDED)
            known: set[str] = set()
            for first in range(0, len(suspended), AT_ONCE):
                known |= set(await leaving.of_all(db, [one.id for one in suspended[first : first + AT_ONCE]]))
        missing = [one for one in suspended if one.id not in known]
        if missing:
            async with self._database.transaction() as db:
                for user in missing:
                    await self._departures.suspended(db, user, now)

    async def _one(self, db: AsyncConnection, user_id: str, now: datetime) -> int:
        one, user = await leaving.of(db, user_id), await users.by_id(db, user_id)
        if one is None or user is None or user.is_active:
            return 0
        before = due_warning(one, self._settings.warnings, now)
        if before is not None:
            one = warned(one, before, self._settings.warnings, now)
            await leaving.put(db, one)
            await self._mails.warn(db, user, one, now)
            return 1
        if is_archive_due(one, now):
            return await self._queue(db, one, WorkKind.ARCHIVE, None, now)
        if is_removal_due(one, now):
            return await self._queue(db, one, WorkKind.REMOVE, one.archive_id, now)
        return 0

    async def _queue(
        self, db: AsyncConnection, one: Leaving, kind: WorkKind, archive_id: str | None, now: datetime
    ) -> int:
        """Not again at once, where it has failed."""
        for work in await home_work.of_user(db, one.user_id, 1):
            same = (work.kind, work.is_automatic) == (kind, True)
            if same and (not work.is_over or (work.state is WorkState.FAILED and now - work.asked_at < AGAIN_AFTER)):
                return 0
        asked = HomeWork(
            new_id(),
            kind,
            one.user_id,
            now,
            SYSTEM.name,
            SYSTEM.client,
            is_automatic=True,
            archive_id=archive_id,
            reason=f"{one.cause}",
        )
        await self._work.queue(db, asked)
        return 1
