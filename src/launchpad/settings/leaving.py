"""The table `[leaving]` of the settings."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from .values import AbsolutePath, Section

Days = Annotated[int, Field(ge=1, le=3650)]


class LeavingSettings(Section):
    """People who leave: what becomes of the home folders of suspended users."""

    archive_suspended: bool = Field(
        True,
        description="Archive the home folder of a user who has been suspended for `archive_after_days`. Without, only "
        "those of users whom an administrator removes are archived.",
    )
    archive_after_days: Days = Field(180, description="So long after the suspension.")
    archive_removed_after_days: Days = Field(
        30, description="So long after an administrator removed the user, where they name no other date."
    )
    warn_days_before: tuple[Days, ...] = Field(
        (30, 7, 1),
        min_length=1,
        max_length=10,
        description="So many days before, the user is warned by e-mail, once each. Nothing is archived without at "
        "least one warning, sent at least as long before as the smallest of these says.",
    )
    remove_home: bool = Field(
        False,
        description="Remove the home folder `remove_home_after_days` after it was archived, once the archive has been "
        "read back and holds all of it, unchanged. Without, an administrator does it.",
    )
    remove_home_after_days: Days = Field(14, description="So long after the archive, where `remove_home` is set.")
    archive_folder: AbsolutePath | None = Field(
        None,
        description="Folder for archives, on a disk that is there when the portal starts; only root may write in it. "
        "Empty: `.launchpad-archives` in `homes.root`.",
    )

    @field_validator("warn_days_before")
    @classmethod
    def _largest_first(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(value), reverse=True))

    @property
    def warnings(self) -> tuple[timedelta, ...]:
        return tuple(timedelta(days=days) for days in self.warn_days_before)

    def folder_of(self, root: Path) -> Path:
        """Where archives are, with homes in `root`."""
        return Path(self.archive_folder) if self.archive_folder is not None else root / ".launchpad-archives"
