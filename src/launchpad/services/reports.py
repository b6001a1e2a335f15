"""What the platform tells its administrators by itself, by mail."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ..errors import MailUnavailable
from ..mail import messages
from ..settings import Settings
from ..store import users
from ..store.database import Database
from .mailing import MailQueue


class ReportService:
    def __init__(self, database: Database, settings: Settings, mail: MailQueue) -> None:
        self._database = database
        self._settings = settings
        self._mail = mail

    async def administrators(self) -> list[str]:
        """Addresses of the active administrators, and of those in `admin_emails` who have not signed in yet."""
        async with self._database.reading() as db:
            found = {user.email for user in await users.active_admins(db)}
            for address in self._settings.admin_emails:
                if await users.by_email(db, address) is None:
                    found.add(address)
        return sorted(found)

    async def send(self, subject: str, lines: Sequence[str], now: datetime) -> list[str]:
        """Tells every administrator, at once and without a queue, since it is for commands; returns who was told.

        Raises:
            MailUnavailable: nobody could be told, or there is nobody.
        """
        told = []
        for address in await self.administrators():
            message = messages.report(
                to=address,
                subject=subject,
                lines=lines,
                public_url=self._settings.public_url,
                from_name=self._settings.mail.from_name,
                from_address=self._settings.mail.from_address,
                sent_at=now,
                help_url=self._settings.help_url,
                help_contact=self._settings.help_contact,
            )
            try:
                await self._mail.send_now(message)
            except MailUnavailable:
                continue  # the next one may be had; the mailer has logged this one
            told.append(address)
        if not told:
            raise MailUnavailable(
                "No administrator could be notified: the mail server did not accept the mail, or there is no "
                "administrator."
            )
        return told
