"""The record of who did what, and the chain that makes a removed or changed entry show. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

EVERYONE = "*"  # in `owner_id`: what was looked at or done concerned everybody at once
_ANCHOR = re.compile(r"(\d{1,18}):([0-9a-f]{64})")


@dataclass(frozen=True)
class AuditRecord:
    """`actor` is an e-mail address, "sweep", "system", "cli" or "unknown"; `details` holds no secret and no code.

    Attributes:
        owner_id: whose instances, files or account somebody else acted on or looked at (`EVERYONE`: everybody's);
            None: nobody's, or one's own.
        continues_id: the entry whose looks it counts on.
    """

    id: int
    at: datetime
    actor: str
    client: str
    action: str
    subject: str
    details: Mapping[str, Any]
    owner_id: str | None = None
    continues_id: int | None = None


class Link(NamedTuple):
    """An entry's place in the chain: its id and its MAC, 64 hexadecimal digits."""

    id: int
    mac: str

    def __str__(self) -> str:
        """An anchor, to be kept elsewhere and compared."""
        return f"{self.id}:{self.mac}"

    @classmethod
    def parse(cls, text: str) -> Link:
        """Raises ValueError: it is not an anchor."""
        found = _ANCHOR.fullmatch(text.strip())
        if found is None:
            raise ValueError("an anchor is a number, a colon and 64 hexadecimal digits")
        return cls(int(found[1]), found[2])


class Entry(NamedTuple):
    """What the MAC of an entry is made of. `details` is the text as it is stored."""

    id: int
    at: datetime
    actor: str
    client: str
    action: str
    subject: str
    details: str
    owner_id: str | None
    continues_id: int | None

    @property
    def canonical(self) -> bytes:
        """The same bytes whichever database it comes from."""
        return json.dumps([self.id, self.at.astimezone(UTC).isoformat(timespec="microseconds"), *self[2:]]).encode()


class ChainedEntry(NamedTuple):
    """An entry as it is stored, with the MAC it was given."""

    entry: Entry
    mac: str

    @property
    def link(self) -> Link:
        return Link(self.entry.id, self.mac)


def genesis(key: bytes) -> Link:
    """What the first entry of all follows."""
    return Link(0, hmac.new(key, b"launchpad audit chain", hashlib.sha256).hexdigest())


def mac_of(key: bytes, before: Link, entry: Entry) -> str:
    """The MAC of an entry that follows `before`. Ids alone would not do: who removes an entry can number anew."""
    return hmac.new(key, before.mac.encode() + entry.canonical, hashlib.sha256).hexdigest()


def seal_of(key: bytes, purpose: str, *values: str | int) -> str:
    """A MAC of values that stand beside the chain, such as up to where it was pruned."""
    return hmac.new(key, json.dumps([purpose, *values]).encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Break:
    """A place where the chain does not hold, in words."""

    entry_id: int
    text: str


@dataclass
class ChainCheck:
    """Follows a chain, entry by entry, from a link that is believed. Goes on behind a broken place.

    Attributes:
        anchors: links that have to be in the chain; those behind its end are the caller's to judge.
        first_break: the first broken place.
    """

    key: bytes
    start: Link
    anchors: dict[int, set[str]] = field(default_factory=dict)
    entries: int = 0
    breaks: int = 0
    first_break: Break | None = None

    def __post_init__(self) -> None:
        self.last = self.start
        if any(mac != self.start.mac for mac in self.anchors.get(self.start.id, ())):
            self.broken(self.start.id, f"The chain does not begin behind the entry {self.start.id} that was noted.")

    def follow(self, entries: Iterable[ChainedEntry]) -> None:
        """The next entries, by ascending ids."""
        for one in entries:
            self.entries += 1
            for wrong in self._problems(one):
                self.broken(one.entry.id, wrong)
            self.last = one.link

    def broken(self, entry_id: int, text: str) -> None:
        """Takes note of a broken place."""
        self.breaks += 1
        if self.first_break is None:
            self.first_break = Break(entry_id, text)

    def _problems(self, one: ChainedEntry) -> Iterator[str]:
        entry = one.entry
        if mac_of(self.key, self.last, entry) != one.mac:
            yield _why(self.last, entry)
        elif any(mac != one.mac for mac in self.anchors.get(entry.id, ())):
            yield (
                f"Entry {entry.id} is not the one that was noted when it was written: the chain was written again, "
                "from here or from an earlier entry on."
            )


def _why(before: Link, entry: Entry) -> str:
    missing = entry.id - before.id - 1
    at = f"{entry.at.astimezone(UTC):%-d %B %Y, %H:%M} UTC"
    if missing > 0:
        which = f"Entry {before.id + 1} is" if missing == 1 else f"Entries {before.id + 1} to {entry.id - 1} are"
        return f"{which} missing before entry {entry.id} ({at}), or that one was changed."
    return f"Entry {entry.id} ({at}) was changed, or it is not the one that followed entry {before.id}."
