"""The settings of backups."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from .values import Section, WholePath


class BackupSettings(Section):
    """Where `launchpad backup` puts its files, and who can read them."""

    folder: WholePath = Field(
        Path("/var/backups/launchpad"),
        description="Folder of the backups; must be writable for the portal's user.",
    )
    recipients: tuple[str, ...] = Field(
        (),
        description="Public keys of age (`age1…`, made by age-keygen on another machine) that can decrypt the "
        "backups. Empty: backups are not encrypted, and contain neither keys nor settings.",
    )
    keep: int = Field(30, ge=1, description="How many backups are kept.")
