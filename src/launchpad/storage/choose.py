"""Which way of keeping homes the settings and the file system call for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from ..errors import SettingsError
from ..settings import HomesSettings, Settings
from . import btrfs, projectquota
from .base import Homes
from .btrfs import BtrfsHomes
from .btrfs_snapshots import BtrfsSnapshots
from .direct_archives import DirectArchives
from .plain import PlainHomes
from .projectquota import ProjectQuotaHomes
from .snapshots import NoSnapshots, Obstacle, Snapshots

NEEDED = (
    "Snapshots need home folders on btrfs with its quotas on (homes.driver is then “btrfs”). ZFS is not supported yet."
)

log = structlog.get_logger(__name__)


def utc_now() -> datetime:
    return datetime.now(UTC)


def choose_driver(settings: HomesSettings) -> Homes:
    """`auto` enforces limits where the file system below `root` can (btrfs, ext4 or XFS, with quotas on).

    A driver that is named is insisted on. Looks at the disk, so it is for the start of the program.

    Raises:
        SettingsError: a driver that cannot work on this file system.
    """
    if settings.driver == "plain":
        return PlainHomes(settings.root)
    if settings.driver == "btrfs":
        return BtrfsHomes(_fit(settings, btrfs.why_not(settings.root)))
    if settings.driver == "project-quota":
        return ProjectQuotaHomes(_fit(settings, projectquota.why_not(settings.root)))
    reasons = {}
    for driver, why_not in ((BtrfsHomes, btrfs.why_not), (ProjectQuotaHomes, projectquota.why_not)):
        obstacle = why_not(settings.root)
        if obstacle is None:
            return driver(settings.root)
        reasons[driver.__name__] = obstacle
    # Not louder: it would be said at every command, and the console says it too. Who names a driver is told the reason.
    log.debug("homes.limits_not_enforced", root=str(settings.root), **reasons)
    return PlainHomes(settings.root)


def _fit(settings: HomesSettings, obstacle: str | None) -> Path:
    if obstacle is not None:
        raise SettingsError(f"homes.driver: “{settings.driver}” cannot be used: {obstacle}.")
    return settings.root


def choose_archives(settings: Settings, homes: Homes, now: Callable[[], datetime] | None = None) -> DirectArchives:
    """What archives these homes, for a process that has a right to them.

    Args:
        now: the clock; None: this machine's.
    """
    return DirectArchives(homes, settings.homes.root, settings.archive_folder, now or utc_now)


def choose_snapshots(settings: Settings, homes: Homes) -> Snapshots:
    """What keeps snapshots of these homes; where they lie on anything but btrfs, what says that nothing can."""
    if isinstance(homes, BtrfsHomes):
        return BtrfsSnapshots(homes.root, settings.snapshots)
    kind = "limited by project quotas" if isinstance(homes, ProjectQuotaHomes) else "plain directories"
    why = f"Home folders are {kind} on this server, of which it cannot take snapshots."
    return NoSnapshots(Obstacle(why, NEEDED))
