"""Links that extend an instance, as they stand in mails, and how a person shows to be one.

Mail scanners fetch every link, run the scripts of what they find, and send every form. So a link alone does nothing,
and neither does the form behind it as it stands: it needs what only a person adds, either a button that is held down
for a while (the page's script tells a hand's events from a script's), or a number in digits that the page shows in
words. Both are bound to one showing of the page, and checked here.

Nothing of it is kept. A link names the end that it moves, and works as long as that is the instance's end: once it was
used, it is another one. So it is used up by the act, in whichever of several mails, and never by a visit.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ..domain.naming import ID_PATTERN

SHOWN_FOR = timedelta(hours=2)  # how long a page that was opened can be used
LEAST = timedelta(seconds=1)  # between the page and its form; a hand takes longer
NUMBERS = range(201, 999)
_LINK = re.compile(rf"({ID_PATTERN})-([0-9a-f]{{1,16}})-([0-9a-f]{{1,16}})-([0-9a-f]{{32}})")
_SHOWING = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{32})")
_ONES = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"),
    *("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


@dataclass(frozen=True)
class Link:
    """What a link is for: the end of an instance that it moves. `idle_ends_at`: the idle end it puts off, if any."""

    instance_id: str
    expires_at: datetime
    idle_ends_at: datetime | None = None


@dataclass(frozen=True)
class Showing:
    """One showing of the page behind a link.

    Attributes:
        mark: what the form carries along.
        proof: what the page's script adds once the button was held.
        number: what a person types instead.
    """

    mark: str
    proof: str
    number: int


class ExtensionLinks:
    """Makes links and reads them.

    Args:
        key: 256 bits that are nowhere else.
    """

    def __init__(self, key: bytes, public_url: str) -> None:
        self._key = key
        self._public_url = public_url

    def url(self, link: Link) -> str:
        return f"{self._public_url}/extend/{self.token(link)}"

    def token(self, link: Link) -> str:
        idle = _microseconds(link.idle_ends_at) if link.idle_ends_at is not None else 0
        said = f"{link.instance_id}-{_microseconds(link.expires_at):x}-{idle:x}"
        return f"{said}-{self._sign('link', said)}"

    def read(self, token: str) -> Link | None:
        """What was signed here; None of anything else."""
        found = _LINK.fullmatch(token)
        if found is None:
            return None
        said, _, signature = token.rpartition("-")
        if not hmac.compare_digest(signature, self._sign("link", said)):
            return None
        idle = int(found[3], 16)
        return Link(found[1], _instant(int(found[2], 16)), _instant(idle) if idle else None)

    def show(self, token: str, now: datetime) -> Showing:
        """A new showing of the page behind a link."""
        at = f"{_microseconds(now):x}"
        return self._showing(token, f"{at}-{self._sign('shown', token, at)}")

    def shown(self, token: str, mark: str, now: datetime) -> Showing | None:
        """The showing whose mark a form carried; None: of another link, not from here, too old, or too quick."""
        found = _SHOWING.fullmatch(mark)
        if found is None or not hmac.compare_digest(found[2], self._sign("shown", token, found[1])):
            return None
        if not LEAST <= now - _instant(int(found[1], 16)) <= SHOWN_FOR:
            return None
        return self._showing(token, mark)

    def _showing(self, token: str, mark: str) -> Showing:
        number = NUMBERS[int(self._sign("number", token, mark)[:12], 16) % len(NUMBERS)]
        return Showing(mark, self._sign("held", token, mark), number)

    def _sign(self, purpose: str, *said: str) -> str:
        return hmac.new(self._key, "\n".join((purpose, *said)).encode(), hashlib.sha256).hexdigest()[:32]


def is_by_hand(showing: Showing, held: str, number: str) -> bool:
    """Whether a form has what only a person adds to it."""
    typed = number.strip()
    return hmac.compare_digest(held.encode(), showing.proof.encode()) or (
        typed.isdecimal() and len(typed) < 10 and int(typed) == showing.number
    )


def number_in_words(number: int) -> str:
    """ "three hundred and forty-two". From 100 to 999."""
    hundreds, rest = divmod(number, 100)
    words = f"{_ONES[hundreds - 1]} hundred"
    if not rest:
        return words
    if rest < 20:
        return f"{words} and {_ONES[rest - 1]}"
    tens, ones = divmod(rest, 10)
    return f"{words} and {_TENS[tens - 2]}" + (f"-{_ONES[ones - 1]}" if ones else "")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _instant(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND
