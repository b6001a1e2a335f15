"""The mailbox that reports of undelivered mail come to: the contract, and a fake; `imap.py` is the real one.

One suite, `tests/contract/test_mailbox.py`, holds every implementation to it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..errors import MailboxUnavailable
from .bounces import REPORT_BYTES

LETTERS = 100  # taken at a time; what is beyond waits for the next time


@dataclass(frozen=True)
class Mark:
    """How far a mailbox was read. A server that renumbers its mails changes `validity`, and reading begins anew."""

    validity: int
    uid: int


@dataclass(frozen=True)
class Letter:
    """A message: its number in the mailbox, and its first `REPORT_BYTES` bytes."""

    uid: int
    content: bytes


@dataclass(frozen=True)
class Batch:
    """Letters in the order they came, and where to go on."""

    letters: tuple[Letter, ...]
    mark: Mark


class Mailbox(Protocol):
    async def reports(self, after: Mark | None) -> Batch:
        """Unread messages behind `after` that call themselves reports, at most `LETTERS`. They stay unread.

        A slow server brings fewer, at least one; one that it cannot bring is passed over, so that it holds up no other.

        Raises:
            MailboxUnavailable: the mailbox could not be read. Its text is ours.
        """
        ...

    async def mark_seen(self, batch: Batch, uids: Sequence[int]) -> None:
        """Marks these letters of the batch as read; those that are gone meanwhile do not matter.

        Raises:
            MailboxUnavailable: as above.
        """
        ...


@dataclass
class FakeMailbox:
    """Mail in memory, for tests and for looking around."""

    letters: list[Letter] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    validity: int = 1
    is_down: bool = False
    is_read_only: bool = False

    def put(self, content: bytes) -> int:
        """A mail arrives; returns its number."""
        self.letters.append(Letter(len(self.letters) + 1, content))
        return self.letters[-1].uid

    async def reports(self, after: Mark | None) -> Batch:
        self._must_be_up()
        read = after.uid if after and after.validity == self.validity else 0
        found = [
            Letter(letter.uid, letter.content[:REPORT_BYTES])
            for letter in self.letters
            if letter.uid > read and letter.uid not in self.seen and _calls_itself_report(letter.content)
        ][:LETTERS]
        return Batch(tuple(found), Mark(self.validity, max([read, *(letter.uid for letter in found)])))

    async def mark_seen(self, batch: Batch, uids: Sequence[int]) -> None:
        self._must_be_up()
        if self.is_read_only:
            raise MailboxUnavailable("The mailbox for bounces could not be read.")
        if batch.mark.validity == self.validity:
            self.seen |= set(uids) & {letter.uid for letter in self.letters}

    def _must_be_up(self) -> None:
        if self.is_down:
            raise MailboxUnavailable("The mailbox for bounces could not be read.")


def _calls_itself_report(content: bytes) -> bool:
    head = re.split(rb"\r?\n\r?\n", content, maxsplit=1)[0]
    return re.search(rb"^content-type:.*multipart/report", head, re.IGNORECASE | re.MULTILINE) is not None
