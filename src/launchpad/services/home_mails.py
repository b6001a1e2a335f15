"""Tells people by mail that their home is nearly full or full, and administrators that of the disk."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.home_use import CALM, MeasuredUse, Warned, trend_in_words
from ..domain.sizes import describe_bytes
from ..domain.times import short, zone_of
from ..domain.users import User
from .notice_mails import NoticeMails

ONCE = f"You are told this once, and again only if it fills up after it had fallen below {round(CALM * 100)} %."
MAKE_ROOM = (
    "To make room, remove what you no longer need. In a terminal, “du -xh --max-depth=2 ~ | sort -h | tail -20” shows "
    "your largest folders. Safe to empty are caches (“rm -rf ~/.cache”, “pip cache purge”, “conda clean --all”) and "
    "the trash (“rm -rf ~/.local/share/Trash”)."
)


class HomeMails(NoticeMails):
    of_use = timedelta(days=1)

    async def tell_owner(self, db: AsyncConnection, owner: User, use: MeasuredUse, now: datetime) -> None:
        """That their home is as full as `use.warned` says."""
        held, limit = describe_bytes(use.used_bytes or 0), describe_bytes(use.limit_bytes or 0)
        at = short(use.measured_at, zone_of(owner.time_zone))
        trend = trend_in_words(use)
        lines = [
            f"Your home folder holds {held} of the {limit} that it may ({percent(use)}), as of {at}."
            + (f" {trend[:1].upper()}{trend[1:]}." if trend else "")
        ]
        if use.warned is Warned.FULL:
            subject = f"your home folder is full ({held} of {limit})"
            lines.append(
                "Saving fails now: files, notebooks, packages and settings. What you have saved before is safe. You "
                "can still launch, to make room."
            )
        else:
            subject = f"your home folder is nearly full ({held} of {limit})"
            lines.append(
                "When it is full, nothing more can be saved in it: files, notebooks, packages and settings. What you "
                "have saved before stays safe."
            )
        lines += [MAKE_ROOM, "If you need more space, ask your administrators."]
        small = [ONCE, f"What it holds now: {self._settings.dashboard_url}"]
        await self._queue(db, owner.email, subject, lines, small, now)

    async def tell_administrator(self, db: AsyncConnection, admin: User, disk: MeasuredUse, now: datetime) -> None:
        """That the disk of all homes is as full as `disk.warned` says."""
        free, size = describe_bytes(disk.free_bytes or 0), describe_bytes(disk.limit_bytes or 0)
        at = short(disk.measured_at, zone_of(admin.time_zone))
        trend = trend_in_words(disk)
        full = "full" if disk.warned is Warned.FULL else "nearly full"
        lines = [
            f"Of the disk with all home folders ({size}), {free} are free as of {at}."
            + (f" {trend[:1].upper()}{trend[1:]}." if trend else ""),
            "When it is full, nobody can save anything, whatever their own limits say.",
            f"Who uses it, and who has grown most: {self._settings.public_url}/admin/storage",
        ]
        await self._queue(db, admin.email, f"the disk with home folders is {full}", lines, [ONCE], now)


def percent(use: MeasuredUse) -> str:
    """ "91 %"; never 100 where anything is left."""
    share = use.share or 0.0
    return f"{min(99, round(share * 100)) if share < 1 else round(share * 100)} %"
