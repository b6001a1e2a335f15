"""Snapshots as the pages of files show them: a choice of moments, in the reader's own time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from ...domain.snapshots import Cause, Snapshot
from ...domain.times import label

BEFORE = "before a change by an administrator"


@dataclass(frozen=True)
class Choice:
    """Of one moment; `text` within its day, `said` by itself."""

    name: str
    text: str
    said: str


@dataclass(frozen=True)
class Day:
    title: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Past:
    """What can be looked at, the newest day first; `obstacle`: why no more are taken; `chosen`: what is shown."""

    days: tuple[Day, ...]
    obstacle: str = ""
    chosen: Choice | None = None

    @property
    def name(self) -> str:
        return self.chosen.name if self.chosen is not None else ""


def past_of(found: Sequence[Snapshot], now: datetime, zone: tzinfo, *, chosen: str = "", obstacle: str = "") -> Past:
    """Args: found: the newest first."""
    days: dict[str, list[Choice]] = {}
    for one in found:
        choice = _choice(one, now, zone)
        days.setdefault(_day(one.taken_at.astimezone(zone), now.astimezone(zone)), []).append(choice)
    choices = [choice for several in days.values() for choice in several]
    shown = next((choice for choice in choices if choice.name == chosen), None)
    return Past(tuple(Day(title, tuple(several)) for title, several in days.items()), obstacle, shown)


def _choice(one: Snapshot, now: datetime, zone: tzinfo) -> Choice:
    at = one.taken_at.astimezone(zone)
    mark = f", {BEFORE}" if one.cause is Cause.BEFORE else ""
    day = _day(at, now.astimezone(zone))
    return Choice(one.name, f"{at:%H:%M}{mark}", f"{day}, {at:%H:%M} {label(at)}{mark}")


def _day(at: datetime, now: datetime) -> str:
    """ "Today", "Yesterday", "Tuesday 24 November"; of another year with it."""
    if at.date() == now.date():
        return "Today"
    if at.date() == now.date() - timedelta(days=1):
        return "Yesterday"
    return f"{at:%A %-d %B}" + (f" {at:%Y}" if at.year != now.year else "")
