"""What home folders take up, and when their disk will be full, as the portal has measured and kept it."""

from __future__ import annotations

from datetime import timedelta

from ...domain.home_use import full_in, trend_in_words
from ...domain.sizes import describe_bytes
from ...domain.times import short
from ...services.snapshots import SnapshotService
from ...settings import Settings
from ...store import home_listings, home_use
from ...store.database import Database
from .findings import Finding, Level

SOON, VERY_SOON = timedelta(days=60), timedelta(days=14)
WHO = "Who takes up most and who has grown most: “launchpad home usage”, or Storage in the console."


async def storage(subject: str, database: Database) -> list[Finding]:
    """One line, and one more where the disk fills up."""
    async with database.reading() as db:
        counts, disk = await home_listings.counts(db), await home_use.of(db, home_use.DISK)
    if disk is None:
        return [Finding(Level.OK, subject, "Nothing was measured yet: the portal has not run since it can.")]
    trend = trend_in_words(disk)
    text = (
        f"Home folders take up {describe_bytes(counts.used_bytes)}; {counts.full} full, {counts.nearly_full} nearly "
        f"full. Disk: {describe_bytes(disk.free_bytes or 0)} free{', ' if trend else ''}{trend}."
    )
    left = full_in(disk)
    if left is not None and left <= SOON:
        return [Finding(Level.BAD if left <= VERY_SOON else Level.WARN, subject, text, WHO)]
    return [Finding(Level.OK, subject, text)]


async def snapshots(subject: str, settings: Settings, service: SnapshotService) -> list[Finding]:
    """One line. That none are taken is no fault, but something to know."""
    obstacle = await service.obstacle()
    if obstacle is not None:
        return [Finding(Level.OK, subject, f"None are taken. {obstacle.why} {obstacle.needed}")]
    kept, found = settings.snapshots, await service.summary()
    rule = f"kept are {kept.hourly} hourly, {kept.daily} daily and {kept.weekly} weekly ones"
    if found.newest_at is None:
        return [Finding(Level.OK, subject, f"There are none yet; {rule}.")]
    many = "one home folder" if found.homes == 1 else f"{found.homes} home folders"
    text = f"{found.number} of {many}, the newest from {short(found.newest_at)}; {rule}."
    return [Finding(Level.OK, subject, text)]
