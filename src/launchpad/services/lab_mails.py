"""Mails about labs: to leads, that somebody asks to join; to people, that they are in one now, or no longer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.labs import Lab
from ..domain.users import User
from .notice_mails import NoticeMails


class LabMails(NoticeMails):
    of_use = timedelta(days=2)

    async def asked(self, db: AsyncConnection, lab: Lab, user: User, to: Sequence[User], now: datetime) -> None:
        """To its leads, or those who answer in their place."""
        for lead in to:
            lines = [
                f"{user.email} asks to join the lab “{lab.title}” ({lab.name}).",
                f"Accept or decline: {self._page(lab)}",
            ]
            small = ["Members see who else is in the lab, and get what it shares. You can remove them at any time."]
            await self._queue(db, lead.email, f"{user.email} asks to join {lab.title}", lines, small, now)

    async def joined(self, db: AsyncConnection, lab: Lab, user: User, by: str, now: datetime) -> None:
        lines = [f"You are in the lab “{lab.title}” now: {by} added you.", f"Who else is: {self._page(lab)}"]
        small = ["You can leave it on the same page."]
        await self._queue(db, user.email, f"you are in {lab.title} now", lines, small, now)

    async def declined(self, db: AsyncConnection, lab: Lab, user: User, now: datetime) -> None:
        lines = [
            f"Your request to join the lab “{lab.title}” was declined.",
            "If you expected otherwise, ask its lead.",
        ]
        await self._queue(db, user.email, f"request to join {lab.title} declined", lines, [], now)

    async def removed(self, db: AsyncConnection, lab: Lab, user: User, by: str, now: datetime) -> None:
        lines = [
            f"You are no longer in the lab “{lab.title}”: {by} removed you.",
            "Your own home folder is as it was.",
        ]
        await self._queue(db, user.email, f"you are no longer in {lab.title}", lines, [], now)

    def _page(self, lab: Lab) -> str:
        return f"{self._settings.public_url}/labs/{lab.name}"
