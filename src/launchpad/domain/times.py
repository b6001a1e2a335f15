"""Moments in somebody's time zone, in words; also those that stand in a text already."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

TIME_ZONE_MAX = 64
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_UNITS = {"m": _MINUTE, "h": _HOUR, "d": _DAY}
_SPAN = re.compile(r"(\d{1,5}(?:\.\d{1,3})?)\s*(m|min|minutes?|h|hours?|d|days?)", re.IGNORECASE | re.ASCII)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+){0,2}")
_MONTHS = {
    name: number
    for number, name in enumerate(
        (
            *("January", "February", "March", "April", "May", "June"),
            *("July", "August", "September", "October", "November", "December"),
        ),
        1,
    )
}
# As reasons, notices and refusals have them: "3 March 2026 at 09:30 UTC", "3 March at 09:30:12 UTC".
_MOMENT = re.compile(rf"\b(\d{{1,2}}) ({'|'.join(_MONTHS)})( \d{{4}})? at (\d\d):(\d\d)(:\d\d)? UTC\b")


@cache
def time_zones() -> tuple[str, ...]:
    """The names that a user can choose: places, and UTC."""
    return ("UTC", *sorted(name for name in available_timezones() if "/" in name and not name.startswith("Etc/")))


@cache
def _found(name: str) -> tzinfo | None:
    if len(name) > TIME_ZONE_MAX or not _NAME.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def is_time_zone(name: str) -> bool:
    """Whether it is an IANA name that this server knows."""
    return _found(name) is not None


def zone_of(name: str | None) -> tzinfo:
    """The zone of that name; UTC where there is none, or this server does not know it any more."""
    return (_found(name) if name else None) or UTC


def label(moment: datetime) -> str:
    """What an aware moment's zone is called behind a time: "UTC", "CET", "UTC+8"."""
    name = moment.tzname() or ""
    if name.isalpha():
        return name
    offset = moment.utcoffset()
    minutes = round(offset.total_seconds() / 60) if offset is not None else 0
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{'-' if minutes < 0 else '+'}{hours}" + (f":{rest:02}" if rest else "")


def exact(moment: datetime, zone: tzinfo = UTC) -> str:
    """ "Saturday, 28 November 2026, 15:07 CET"."""
    there = moment.astimezone(zone)
    return f"{there:%A, %-d %B %Y, %H:%M} {label(there)}"


def short(moment: datetime, zone: tzinfo = UTC) -> str:
    """ "Sat 28 Nov, 15:07 CET"."""
    there = moment.astimezone(zone)
    return f"{there:%a %-d %b, %H:%M} {label(there)}"


def dated(moment: datetime, zone: tzinfo = UTC) -> str:
    """ "28 Nov 2026, 15:07"; at the end of the calendar, where no other zone has it, in UTC."""
    try:
        there = moment.astimezone(zone)
    except OverflowError:
        there = moment
    return f"{there:%-d %b} {there.year}, {there:%H:%M}"


def localized(text: str, zone: tzinfo, near: datetime) -> str:
    """A text of ours with its moments, which stand there in UTC, in another zone.

    Args:
        near: of a moment without a year, the year that brings it closest to this is meant.
    """
    if zone is UTC:
        return text

    def there(found: re.Match[str]) -> str:
        day, month, year, hour, minute, second = found.groups()
        years = (int(year),) if year else (near.year - 1, near.year, near.year + 1)
        possible = [
            _moment(one, _MONTHS[month], int(day), int(hour), int(minute), int((second or ":0")[1:])) for one in years
        ]
        known = [one for one in possible if one is not None]
        if not known:
            return found[0]
        at = min(known, key=lambda one: abs(one - near)).astimezone(zone)
        return f"{at:%-d %B}{f' {at.year}' if year else ''} at {at:%H:%M}{f':{at:%S}' if second else ''} {label(at)}"

    return _MOMENT.sub(there, text)


def _moment(year: int, month: int, day: int, hour: int, minute: int, second: int) -> datetime | None:
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:  # 29 February of another year
        return None


def parse_span(text: str) -> timedelta:
    """A span as people write it: "90m", "4h", "2 days", "1.5 h".

    Raises:
        ValueError: the text is no span, or one of nothing.
    """
    found = _SPAN.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2][0].lower()] if found is not None else 0.0
    if seconds <= 0:
        raise ValueError(f"“{text}” is not a time; write it like 90m, 4h or 2d")
    return timedelta(seconds=seconds)


def span_in_words(span: timedelta) -> str:
    """The two largest units of a span: "6 h 20 min", "1 day 3 h"; below a minute "less than a minute"."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < _MINUTE:
        return "less than a minute"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min"
    if seconds < _DAY:
        hours, minutes = divmod(seconds // _MINUTE, 60)
        return f"{hours} h" + (f" {minutes} min" if minutes else "")
    days, hours = divmod(seconds // _HOUR, 24)
    return f"{days} day" + ("" if days == 1 else "s") + (f" {hours} h" if hours else "")
