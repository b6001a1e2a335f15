"""Rows of administrators' lists of what homes take up."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .home_use import MeasuredUse
from .users import User

FURTHEST = 2**62
USER_ID_MAX = 16


class Sort(StrEnum):
    """What a list is sorted by: the larger first, addresses from A on."""

    USED = "used"
    SHARE = "share"
    LIMIT = "limit"
    WEEK = "week"
    MONTH = "month"
    EMAIL = "email"


@dataclass(frozen=True)
class After:
    """Behind which row a page begins: its value in the order, and whose it is."""

    value: int | str
    user_id: str

    @classmethod
    def parse(cls, sort: Sort, text: str) -> After:
        """Raises ValueError when it is none that `str` wrote for this order."""
        value, mark, user_id = text.rpartition("~")
        if not mark or not user_id or len(user_id) > USER_ID_MAX:
            raise ValueError("this is no place in a list")
        if sort is Sort.EMAIL:
            return cls(value, user_id)
        number = int(value)
        if abs(number) > FURTHEST:
            raise ValueError("no list comes so far")
        return cls(number, user_id)

    def __str__(self) -> str:
        return f"{self.value}~{self.user_id}"


@dataclass(frozen=True)
class UserHome:
    """A user, and their home as it was measured last; None: it was not yet. `place` is where it stands in the list."""

    user: User
    use: MeasuredUse | None
    place: After


@dataclass(frozen=True)
class LabHomes:
    """The homes of a lab's members, together; `lab` None: of those without one. Limits: of those that have one."""

    lab: str | None
    people: int
    used_bytes: int
    limit_bytes: int
    grown_week_bytes: int
    grown_month_bytes: int


@dataclass(frozen=True)
class Counts:
    """How many homes there are of each kind, and what they take up together."""

    full: int
    nearly_full: int
    with_room: int
    without_limit: int
    unknown: int
    used_bytes: int
