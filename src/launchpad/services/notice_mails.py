"""Mails in the platform's own words that are queued with what they tell."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar

from sqlalchemy.ext.asyncio import AsyncConnection

from ..mail.messages import notice
from ..settings import Settings
from .mailing import MailQueue


class NoticeMails:
    """Mails are queued in the transaction of what they tell; wake the queue after it.

    `of_use`: a mail that could not be sent within it is given up.
    """

    of_use: ClassVar[timedelta]

    def __init__(self, settings: Settings, mail: MailQueue) -> None:
        self._settings = settings
        self._outgoing = mail

    def wake(self) -> None:
        self._outgoing.wake()

    async def _queue(
        self, db: AsyncConnection, to: str, subject: str, lines: Sequence[str], small: Sequence[str], now: datetime
    ) -> None:
        """
        Args:
            to: an address.
            small: lines in small letters below the others.
        """
        settings = self._settings
        message = notice(
            to=to,
            subject=subject,
            lines=list(lines),
            small=list(small),
            from_name=settings.mail.from_name,
            from_address=settings.mail.from_address,
            sent_at=now,
            help_url=settings.help_url,
            help_contact=settings.help_contact,
        )
        await self._outgoing.add(db, message, now, now + self.of_use)
