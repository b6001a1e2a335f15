"""Mails about labs: to leads, that somebody asks to join; to people, that they are in one now, or no longer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.labs import Lab
from ..domain.users import User
from ..mail.messages import notice
from ..settings import Settings
from .mailing import MailQueue

OF_USE = timedelta(days=2)  # a mail that could not be sent by then is given up


class LabMails:
    """Mails are queued in the transaction of what they tell; wake the queue after it."""

    def __init__(self, settings: Settings, mail: MailQueue) -> None:
        self._settings = settings
        self._outgoing = mail

    def wake(self) -> None:
        self._outgoing.wake()

    async def asked(self, db: AsyncConnection, lab: Lab, user: User, to: Sequence[User], now: datetime) -> None:
        """To its leads, or those who answer in their place."""
        for lead in to:
            lines = [
                f"{user.email} asks to join the lab “{lab.title}” ({lab.name}).",
                f"Accept or decline: {self._page(lab)}",
            ]
            small = ["Members see who else is in the lab, and get what it shares. You can remove them at any time."]
            await self._queue(db, lead, f"{user.email} asks to join {lab.title}", lines, small, now)

    async def joined(self, db: AsyncConnection, lab: Lab, user: User, by: str, now: datetime) -> None:
        lines = [f"You are in the lab “{lab.title}” now: {by} added you.", f"Who else is: {self._page(lab)}"]
        small = ["You can leave it on the same page."]
        await self._queue(db, user, f"you are in {lab.title} now", lines, small, now)

    async def declined(self, db: AsyncConnection, lab: Lab, user: User, now: datetime) -> None:
        lines = [
            f"Your request to join the lab “{lab.title}” was declined.",
            "If you expected otherwise, ask its lead.",
        ]
        await self._queue(db, user, f"request to join {lab.title} declined", lines, [], now)

    async def removed(self, db: AsyncConnection, lab: Lab, user: User, by: str, now: datetime) -> None:
        lines = [
            f"You are no longer in the lab “{lab.title}”: {by} removed you.",
            "Your own home folder is as it was.",
        ]
        await self._queue(db, user, f"you are no longer in {lab.title}", lines, [], now)

    def _page(self, lab: Lab) -> str:
        return f"{self._settings.public_url}/labs/{lab.name}"

    async def _queue(
        self, db: AsyncConnection, to: User, subject: str, lines: list[str], small: list[str], now: datetime
    ) -> None:
        settings = self._settings
        message = notice(
            to=to.email,
            subject=subject,
            lines=lines,
            small=small,
            from_name=settings.mail.from_name,
            from_address=settings.mail.from_address,
            sent_at=now,
            help_url=settings.help_url,
            help_contact=settings.help_contact,
        )
        await self._outgoing.add(db, message, now, now + OF_USE)
