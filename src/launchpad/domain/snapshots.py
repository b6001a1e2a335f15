"""Snapshots of homes: what they are called, and which of them are kept. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

NAME = re.compile(r"(\d{8}T\d{6}Z)(?:-(before))?")
_FORM = "%Y%m%dT%H%M%SZ"


class Cause(StrEnum):
    """Why one was taken: its time had come, or an administrator was about to change something."""

    TIME = "time"
    BEFORE = "before"


@dataclass(frozen=True, order=True)
class Snapshot:
    """Args: taken_at: to the second, UTC."""

    taken_at: datetime
    cause: Cause = Cause.TIME

    @property
    def name(self) -> str:
        """What it is called on the disk and in addresses, such as 20261127T140000Z; in the order of time."""
        mark = f"-{self.cause}" if self.cause is Cause.BEFORE else ""
        return f"{self.taken_at.astimezone(UTC):{_FORM}}{mark}"

    @classmethod
    def named(cls, name: str) -> Snapshot | None:
        """None: that is no name of one."""
        found = NAME.fullmatch(name)
        if found is None or not name.isascii():
            return None
        try:
            taken_at = datetime.strptime(found[1], _FORM).replace(tzinfo=UTC)
        except ValueError:
            return None
        return cls(taken_at, Cause(found[2]) if found[2] else Cause.TIME)


@dataclass(frozen=True)
class Keeping:
    """For how many hours, days and weeks back the last one of each is kept; and how many from before changes."""

    hourly: int
    daily: int
    weekly: int
    before: int


_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


def kept(taken: Collection[Snapshot], keeping: Keeping, now: datetime) -> set[Snapshot]:
    """Those that are kept: the last of each of the latest hours, days and ISO weeks (of UTC), this one included.

    The newest one is always kept, whatever its age: it is the home as it still is. One of the future, of a clock that
    was wrong, counts as of now.
    """
    timed = sorted(one for one in taken if one.cause is Cause.TIME)
    changes = sorted(one for one in taken if one.cause is Cause.BEFORE)
    found = set(changes[len(changes) - keeping.before :] if keeping.before < len(changes) else changes)
    if timed or changes:
        found.add(max(timed + changes))
    for number, length, part_of in (
        (keeping.hourly, _HOUR, _hour),
        (keeping.daily, _DAY, _day),
        (keeping.weekly, 7 * _DAY, _week),
    ):
        oldest = part_of(now - (number - 1) * length)
        last: dict[Hashable, Snapshot] = {}
        for one in timed:
            if part_of(one.taken_at) >= oldest:
                last[part_of(one.taken_at)] = one
        if number:
            found.update(last.values())
    return found


_Part = Callable[[datetime], tuple[int, ...]]


def _hour(moment: datetime) -> tuple[int, ...]:
    at = moment.astimezone(UTC)
    return at.year, at.month, at.day, at.hour


def _day(moment: datetime) -> tuple[int, ...]:
    at = moment.astimezone(UTC)
    return at.year, at.month, at.day


def _week(moment: datetime) -> tuple[int, ...]:
    year, week, _ = moment.astimezone(UTC).isocalendar()
    return year, week


def is_due(taken: Collection[Snapshot], now: datetime) -> bool:
    """Whether none was taken in this hour yet."""
    return all(_hour(one.taken_at) != _hour(now) for one in taken)
