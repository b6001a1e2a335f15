"""Which way of keeping homes the settings and the file system call for."""

from __future__ import annotations

from ..errors import SettingsError
from ..settings import HomesSettings
from .base import Homes
from .plain import PlainHomes


def choose_driver(settings: HomesSettings) -> Homes:
    """`auto` and `plain` are plain directories; the drivers that enforce limits come with a later release.

    Raises:
        SettingsError: a driver that this version does not have.
    """
    if settings.driver in ("btrfs", "project-quota"):
        raise SettingsError(f"homes.driver: “{settings.driver}” is not in this version; use “auto” or “plain”.")
    return PlainHomes(settings.root)
