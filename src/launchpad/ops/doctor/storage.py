"""What home folders take up, and when their disk will be full, as the portal has measured and kept it."""

from __future__ import annotations

from datetime import timedelta

from ...domain.home_use import full_in, trend_in_words
from ...domain.sizes import describe_bytes, parse_bytes
from ...domain.times import short
from ...services.home_work import HomeWorkService
from ...services.snapshots import SnapshotService
from ...settings import Settings
from ...store import home_listings, home_use
from ...store.database import Database
from .findings import Finding, Level

LITTLE_BYTES = parse_bytes("10g")
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


async def archives(subject: str, service: HomeWorkService) -> list[Finding]:
    """One line for the folder, and one for archives that nobody has ever read back."""
    found = await service.summary()
    if found.obstacle:
        remedy = "Mount its disk, or set leaving.archive_folder to a folder that only root may write in."
        return [Finding(Level.BAD, subject, found.obstacle, remedy)]
    findings = []
    if found.unverified:
        who = ", ".join(found.unverified[:5]) + ("…" if len(found.unverified) > 5 else "")
        text = f"The newest archives of {len(found.unverified)} home folders were never verified: {who}."
        findings.append(Finding(Level.WARN, subject, text, "“launchpad home verify ADDRESS” reads one back."))
    if found.free_bytes is not None and found.free_bytes < LITTLE_BYTES:
        text = f"The disk of {found.folder} has only {describe_bytes(found.free_bytes)} free, so archives may fail."
        findings.append(Finding(Level.WARN, subject, text, "Set leaving.archive_folder to a folder on a larger disk."))
    if findings:
        return findings
    if not found.number:
        return [Finding(Level.OK, subject, f"There are none yet; they will be in {found.folder}.")]
    many = "one archive" if found.number == 1 else f"{found.number} archives"
    return [Finding(Level.OK, subject, f"{many} of home folders in {found.folder}, {describe_bytes(found.bytes)}.")]
