"""What a home takes up: as it was measured last, how it has grown, when it will be full, and who is to be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from .instances import NEARLY
from .sizes import describe_bytes

NEARLY_FULL, CALM = 0.90, 0.80  # of the limit: from where on its owner is warned, and below which it may be said again
WEEK, MONTH = timedelta(days=7), timedelta(days=30)
# A point that is older than what is asked for, by so much, still stands for it.
WEEK_SLACK, MONTH_SLACK = timedelta(days=2), timedelta(days=7)
LEAST_GROWTH = 0.01  # of the limit in a month: below, nothing is foretold
LONGEST_FORECAST = timedelta(days=365)
STEADY = 3.0  # the last week's growth is at most so many times the month's average, and at least that part of it


class Warned(StrEnum):
    """What the owner was told last, and has not changed since."""

    NOTHING = ""
    NEARLY_FULL = "nearly"
    FULL = "full"


@dataclass(frozen=True)
class Growth:
    """By how much it has grown, in bytes; negative where it shrank, None where nobody knows what it was then."""

    week_bytes: int | None = None
    month_bytes: int | None = None


@dataclass(frozen=True)
class MeasuredUse:
    """A home, or the disk of all of them, as it was measured last.

    Attributes:
        used_bytes: None: there is no home yet, or it could not be measured.
        limit_bytes: what it may take up, where that is enforced; of the disk, its size.
        free_bytes: what its disk has left for its user; None: not known.
        is_floor: it is at least `used_bytes`: not all of it could be counted.
        walked_seconds: how long a walk through it took; None: the file system counts.
        measured_at: when `used_bytes` was found.
        looked_at: when it was asked for last, whatever came of it; None: then.
    """

    used_bytes: int | None
    limit_bytes: int | None
    free_bytes: int | None
    measured_at: datetime
    looked_at: datetime | None = None
    is_floor: bool = False
    walked_seconds: float | None = None
    growth: Growth = Growth()
    warned: Warned = Warned.NOTHING

    @property
    def share(self) -> float | None:
        """Of the limit; None where there is none, or nothing is known."""
        if self.used_bytes is None or not self.limit_bytes:
            return None
        return self.used_bytes / self.limit_bytes


def growth_of(used_bytes: int | None, points: Mapping[date, int], today: date) -> Growth:
    """How it has grown, from what it was at the end of earlier days."""
    if used_bytes is None:
        return Growth()

    def since(span: timedelta, slack: timedelta) -> int | None:
        wanted = [day for day in points if today - span - slack <= day <= today - span]
        return used_bytes - points[max(wanted)] if wanted else None

    return Growth(since(WEEK, WEEK_SLACK), since(MONTH, MONTH_SLACK))


def full_in(use: MeasuredUse) -> timedelta | None:
    """How long until it is full if it goes on as in the last month; None: nobody can honestly tell.

    Nothing is told of a home that grew by little, or not of late, or all at once, or that has room for over a year.
    """
    month, week = use.growth.month_bytes, use.growth.week_bytes
    if use.used_bytes is None or not use.limit_bytes or use.is_floor or month is None or week is None:
        return None
    left_bytes = use.limit_bytes - use.used_bytes
    if left_bytes <= 0 or month < LEAST_GROWTH * use.limit_bytes:
        return None
    usual_week = month * (WEEK / MONTH)
    if not usual_week / STEADY <= week <= usual_week * STEADY:
        return None
    left = MONTH * (left_bytes / month)
    return left if left <= LONGEST_FORECAST else None


def trend_in_words(use: MeasuredUse) -> str:
    """ "+12 GB in the last 30 days, full in about 3 weeks at this rate"; empty where nothing is known."""
    for grown, span in ((use.growth.month_bytes, "30 days"), (use.growth.week_bytes, "7 days")):
        if grown is not None:
            words = f"{signed_bytes(grown)} in the last {span}"
            left = full_in(use)
            return f"{words}, full in about {_about(left)} at this rate" if left is not None else words
    return ""


def signed_bytes(number: int) -> str:
    """ "+12 GB", "-300 MB", "no change"."""
    return "no change" if number == 0 else f"{'+' if number > 0 else '-'}{describe_bytes(abs(number))}"


def _about(span: timedelta) -> str:
    """Rounded as one rounds what is a guess."""
    days = span / timedelta(days=1)
    for number, word in ((days / 30, "month"), (days / 7, "week"), (days, "day")):
        if number >= 2 or word == "day":
            whole = max(1, round(number))
            return f"{whole} {word}{'' if whole == 1 else 's'}"
    raise AssertionError("days are the last")


def warning_due(share: float | None, warned: Warned) -> Warned:
    """What the owner is to have been told by now: another one than `warned`, other than nothing, is to be told."""
    if share is None:
        return warned
    if share >= NEARLY:
        return Warned.FULL
    if share >= NEARLY_FULL:
        return Warned.NEARLY_FULL if warned is Warned.NOTHING else warned
    return Warned.NOTHING if share < CALM else warned
