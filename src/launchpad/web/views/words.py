"""Moments and spans in words. `static/times.js` says the same spans in the browser."""

from __future__ import annotations

import re
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta, tzinfo

from markupsafe import Markup, escape

from ...domain import times
from ...domain.times import span_in_words as span_in_words

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def left_in_words(until: datetime, now: datetime) -> str:
    return "time is up" if until <= now else f"{span_in_words(until - now)} left"


def ago_in_words(then: datetime, now: datetime) -> str:
    """ "just now", "5 min ago", "3 days ago": the largest unit alone, since older things need less precision."""
    seconds = (now - then).total_seconds()
    if seconds < _MINUTE:
        return "just now"
    unit = _MINUTE if seconds < _HOUR else _HOUR if seconds < _DAY else _DAY
    return f"{span_in_words(timedelta(seconds=seconds // unit * unit))} ago"


# In which zone a page is rendered: its reader's. Where they have set none, UTC, which the browser rewrites.
reader_zone: ContextVar[tzinfo] = ContextVar("reader_zone", default=UTC)


def exact(moment: datetime) -> str:
    """The whole moment."""
    return times.exact(moment, reader_zone.get())


def short(moment: datetime) -> str:
    """A moment of the coming days."""
    return times.short(moment, reader_zone.get())


def dated(moment: datetime) -> str:
    """A moment of any year, such as when a file was changed."""
    return times.dated(moment, reader_zone.get())


def local(text: str) -> str:
    """A text of ours, such as a reason, with its moments in the reader's zone."""
    return times.localized(text, reader_zone.get(), datetime.now(UTC))


def with_breaks(text: str) -> Markup:
    """An address, a path or an id that may break into a new line behind its signs, rather than amid a word."""
    parts = re.split(r"(?<=[@./_\-+:])(?=[^@./_\-+:\s])(?<!\d.)|(?<=\d[@/_\-+])(?=[^@./_\-+:\s])", text)
    return Markup("<wbr>").join(escape(part) for part in parts)


def initials(email: str) -> str:
    """One or two letters for an address: "AL" of ada.lovelace@…, "A" of ada@…"""
    names = [name for name in re.split(r"[^\w]+|_|\d+", email.partition("@")[0]) if name]
    return "".join(name[0] for name in (names[:1] + names[1:][-1:])).upper() or "?"
