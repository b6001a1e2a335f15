"""Snapshots of one's own home, as the JSON API says them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from ..domain.snapshots import Snapshot


class SnapshotView(BaseModel):
    name: str = Field(description="For `snapshot=`.")
    taken_at: datetime
    cause: Literal["time", "before"] = Field(
        description="`time`: an hourly one; `before`: before an administrator changed something."
    )

    @classmethod
    def of(cls, snapshot: Snapshot) -> SnapshotView:
        return cls(name=snapshot.name, taken_at=snapshot.taken_at, cause=snapshot.cause.value)


class SnapshotsView(BaseModel):
    snapshots: list[SnapshotView]
    obstacle: str | None = Field(description="Why no more are taken; null: they are.")
