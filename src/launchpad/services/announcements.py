"""Announcements of administrators: on every page, and with a moment at which instances are stopped."""

from __future__ import annotations

from datetime import datetime

from ..domain.announcements import MAINTENANCE_LASTS, Announcement, problems_of
from ..domain.audit import EVERYONE
from ..domain.naming import new_id
from ..errors import InvalidInput, NotFound
from ..store import announcements, audit
from ..store.database import Database
from .audit import Actor
from .live.announcements import LiveAnnouncements


class AnnouncementService:
    def __init__(self, database: Database, live: LiveAnnouncements) -> None:
        self._database = database
        self._live = live

    async def not_over(self, now: datetime) -> list[Announcement]:
        """Those that are shown now or later."""
        async with self._database.reading() as db:
            return await announcements.not_over(db, now)

    async def announce(
        self,
        text: str,
        actor: Actor,
        now: datetime,
        *,
        shown_from: datetime | None = None,
        shown_until: datetime | None = None,
        stop_instances_at: datetime | None = None,
    ) -> Announcement:
        """Tells everybody.

        Args:
            shown_from: None: from now on.
            shown_until: None: until it is withdrawn; of a maintenance, two hours after its beginning.
            stop_instances_at: when instances are stopped. Their owners are warned before; nothing is launched until
                `shown_until`.

        Raises:
            InvalidInput: with the fields.
        """
        text, begins = " ".join(text.split()), shown_from or now
        if problems := problems_of(text, begins, shown_until, stop_instances_at, now):
            raise InvalidInput("This cannot be announced.", fields=problems)
        if stop_instances_at is not None and shown_until is None:
            shown_until = stop_instances_at + MAINTENANCE_LASTS
        made = Announcement(new_id(), text, begins, shown_until, stop_instances_at, now, actor.name)
        async with self._database.transaction() as db:
            await announcements.add(db, made)
            await audit.add(
                db,
                at=now,
                actor=actor.name,
                client=actor.client,
                action="announcement.made",
                subject=made.id,
                details={
                    "text": text,
                    "until": shown_until.isoformat() if shown_until else None,
                    "stop_instances_at": stop_instances_at.isoformat() if stop_instances_at else None,
                },
                owner_id=EVERYONE if stop_instances_at else None,
            )
        await self._live.renew(now)
        return made

    async def withdraw(self, announcement_id: str, actor: Actor, now: datetime) -> None:
        """It is shown no more; a maintenance that has not begun does not take place, and one that goes on is over.

        Raises:
            NotFound: there is none of that id.
        """
        async with self._database.transaction() as db:
            if not await announcements.remove(db, announcement_id):
                raise NotFound("There is no such announcement.")
            await audit.add(
                db,
                at=now,
                actor=actor.name,
                client=actor.client,
                action="announcement.withdrawn",
                subject=announcement_id,
                details={},
            )
        await self._live.renew(now)
