"""The table `[snapshots]` of the settings."""

from __future__ import annotations

from pydantic import Field

from ..domain.sizes import parse_bytes
from ..domain.snapshots import Keeping
from .values import Section, Size


class SnapshotSettings(Section):
    """Snapshots of home folders, from which users restore files by themselves. On btrfs only."""

    enabled: bool = Field(True, description="Take them. Without, those that were taken stay and can be restored from.")
    hourly: int = Field(24, ge=1, le=1000, description="For so many hours the last one of each is kept.")
    daily: int = Field(7, ge=0, le=1000, description="For so many days the last one of each is kept.")
    weekly: int = Field(8, ge=0, le=500, description="For so many weeks the last one of each is kept.")
    before_changes: int = Field(
        10, ge=1, le=100, description="So many are kept of those taken before an administrator changed a home folder."
    )
    quota: Size = Field(
        parse_bytes("64g"),
        description="What a user's snapshots may take up beside the home folder; beyond it the oldest are removed "
        "early. The newest always stays.",
    )

    @property
    def keeping(self) -> Keeping:
        return Keeping(self.hourly, self.daily, self.weekly, self.before_changes)
