"""What the JSON API says of what homes take up. Sizes are numbers of bytes, as programs count with them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, Field

from ..domain.home_lists import LabHomes, UserHome
from ..domain.home_use import MeasuredUse, full_in
from ..domain.snapshots import Snapshot
from .snapshot_schemas import SnapshotView

GROWN = "Growth; negative where it shrank, null where nobody knows what it was then."


class HomeUseView(BaseModel):
    """What a home takes up, as measured last. Null: not measured yet, or nobody limits it."""

    used_bytes: int | None = None
    limit_bytes: int | None = None
    measured_at: datetime | None = None

    @classmethod
    def of(cls, use: MeasuredUse | None) -> HomeUseView:
        if use is None or use.used_bytes is None:
            return cls(limit_bytes=use.limit_bytes if use is not None else None)
        return cls(used_bytes=use.used_bytes, limit_bytes=use.limit_bytes, measured_at=use.measured_at)


class HomeView(HomeUseView):
    """One's own home."""

    is_floor: bool = Field(False, description="It takes up at least `used_bytes`: not all of it could be counted.")
    grown_7_days_bytes: int | None = Field(None, description=GROWN)
    grown_30_days_bytes: int | None = Field(None, description=GROWN)
    full_in_days: float | None = Field(
        None, description="Until it is full, at the rate of the last 30 days; null where that cannot be told."
    )
    snapshots: list[SnapshotView] = Field(
        default_factory=list, description="What can be restored from, the newest first."
    )

    @classmethod
    def of(cls, use: MeasuredUse | None, snapshots: Sequence[Snapshot] = ()) -> HomeView:
        return cls(**use_fields(use), snapshots=[SnapshotView.of(one) for one in snapshots])


class AdminHomeView(BaseModel):
    """Somebody's home. Numbers are null where it was not measured yet."""

    user_id: str
    email: str
    username: str
    lab: str | None
    used_bytes: int | None
    limit_bytes: int | None
    measured_at: datetime | None
    is_floor: bool
    grown_7_days_bytes: int | None = Field(description=GROWN)
    grown_30_days_bytes: int | None = Field(description=GROWN)
    full_in_days: float | None

    @classmethod
    def of(cls, one: UserHome) -> AdminHomeView:
        user = one.user
        return cls(user_id=user.id, email=user.email, username=user.username, lab=user.lab, **use_fields(one.use))


class LabHomesView(BaseModel):
    """The homes of a lab's members, together; `lab` null: of people without one."""

    lab: str | None
    people: int
    used_bytes: int
    limit_bytes: int = Field(description="Of those that have a limit.")
    grown_7_days_bytes: int
    grown_30_days_bytes: int

    @classmethod
    def of(cls, one: LabHomes) -> LabHomesView:
        return cls(
            lab=one.lab,
            people=one.people,
            used_bytes=one.used_bytes,
            limit_bytes=one.limit_bytes,
            grown_7_days_bytes=one.grown_week_bytes,
            grown_30_days_bytes=one.grown_month_bytes,
        )


class DiskView(BaseModel):
    """The disk that homes lie on; null what is not known yet."""

    size_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None = Field(description="For ordinary users; what the file system keeps for root is not free.")
    measured_at: datetime | None
    grown_7_days_bytes: int | None = Field(description=GROWN)
    grown_30_days_bytes: int | None = Field(description=GROWN)
    full_in_days: float | None

    @classmethod
    def of(cls, use: MeasuredUse | None) -> DiskView:
        fields = use_fields(use)
        del fields["is_floor"]
        return cls(
            size_bytes=fields.pop("limit_bytes"), free_bytes=use.free_bytes if use is not None else None, **fields
        )


def use_fields(use: MeasuredUse | None) -> dict[str, object]:
    """What is said of a home."""
    if use is None:
        use_or_nothing: dict[str, object] = dict.fromkeys(
            (*("used_bytes", "limit_bytes", "measured_at"), *_GROWTH, "full_in_days")
        )
        return use_or_nothing | {"is_floor": False}
    left = full_in(use)
    return {
        "used_bytes": use.used_bytes,
        "limit_bytes": use.limit_bytes,
        "measured_at": use.measured_at if use.used_bytes is not None else None,
        "is_floor": use.is_floor,
        "grown_7_days_bytes": use.growth.week_bytes,
        "grown_30_days_bytes": use.growth.month_bytes,
        "full_in_days": round(left.total_seconds() / 86400, 1) if left is not None else None,
    }


_GROWTH = ("grown_7_days_bytes", "grown_30_days_bytes")
