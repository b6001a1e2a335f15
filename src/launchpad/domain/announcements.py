"""What administrators tell everybody, and maintenance, which ends instances at a moment that is announced. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

TEXT_MAX = 500
MAINTENANCE_LASTS = timedelta(hours=2)  # where nobody says how long
MAINTENANCE = "stopped for maintenance"


@dataclass(frozen=True)
class Announcement:
    """A text for every page.

    Attributes:
        shown_until: None: until it is withdrawn.
        stop_instances_at: a maintenance begins then: everything live is stopped, and nothing is launched until it is
            over, which is `shown_until`.
    """

    id: str
    text: str
    shown_from: datetime
    shown_until: datetime | None
    stop_instances_at: datetime | None
    created_at: datetime
    created_by: str

    def is_over(self, now: datetime) -> bool:
        return self.shown_until is not None and now >= self.shown_until

    def is_shown(self, now: datetime) -> bool:
        return self.shown_from <= now and not self.is_over(now)

    def is_maintenance_now(self, now: datetime) -> bool:
        """Whether instances are stopped, and not launched."""
        return self.stop_instances_at is not None and self.stop_instances_at <= now and not self.is_over(now)

    def is_maintenance_to_come(self, now: datetime) -> bool:
        return self.stop_instances_at is not None and now < self.stop_instances_at


def maintenance_now(announcements: Iterable[Announcement], now: datetime) -> Announcement | None:
    """The one because of which nothing may run now."""
    return next((one for one in announcements if one.is_maintenance_now(now)), None)


def next_maintenance(announcements: Iterable[Announcement], now: datetime) -> Announcement | None:
    """The first of those to come."""
    to_come = [one for one in announcements if one.is_maintenance_to_come(now)]
    return min(to_come, key=lambda one: one.stop_instances_at or now, default=None)


def problems_of(
    text: str, shown_from: datetime, shown_until: datetime | None, stop_at: datetime | None, now: datetime
) -> dict[str, str]:
    """What is wrong with one that is to be announced, by field."""
    found: dict[str, str] = {}
    if not text:
        found["text"] = "write what everybody should know"
    elif len(text) > TEXT_MAX:
        found["text"] = f"use at most {TEXT_MAX} characters"
    if shown_until is not None and shown_until <= max(shown_from, now):
        found["until"] = "this has to be later than now, and than the beginning"
    if stop_at is not None and stop_at <= now:
        found["stop_instances_at"] = "this moment has passed"
    elif stop_at is not None and shown_until is not None and shown_until <= stop_at:
        found["until"] = "a maintenance has to end after instances are stopped"
    return found
