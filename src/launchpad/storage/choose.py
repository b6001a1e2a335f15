"""Which way of keeping homes the settings and the file system call for."""

from __future__ import annotations

import structlog

from ..errors import SettingsError
from ..settings import HomesSettings
from .base import Homes
from .btrfs import BtrfsHomes, why_not
from .plain import PlainHomes

log = structlog.get_logger(__name__)


def choose_driver(settings: HomesSettings) -> Homes:
    """`auto` enforces limits where the file system below `root` can (btrfs with its quotas on), else it does not.

    `btrfs` insists on it. Looks at the disk, so it is for the start of the program.

    Raises:
        SettingsError: a driver that this version does not have, or that cannot work on this file system.
    """
    if settings.driver == "project-quota":
        raise SettingsError(
            "homes.driver: “project-quota” is not in this version; use “auto”, “plain”, or “btrfs” on btrfs."
        )
    if settings.driver == "plain":
        return PlainHomes(settings.root)
    obstacle = why_not(settings.root)
    if obstacle is None:
        return BtrfsHomes(settings.root)
    if settings.driver == "btrfs":
        raise SettingsError(f"homes.driver: “btrfs” cannot be used: {obstacle}.")
    # Not louder: it would be said at every command, and the console says it too. Who sets “btrfs” is told the reason.
    log.debug("homes.limits_not_enforced", root=str(settings.root), reason=obstacle)
    return PlainHomes(settings.root)
