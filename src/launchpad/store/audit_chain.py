"""The chain of the audit's entries: what a transaction appends to, up to where it was pruned, and its newest link
outside the database.

Every entry has a MAC over its own content and the MAC of the entry before it, under a key that is not in the database.
Writers follow each other, since whoever writes holds the lock of all writers until the end of the transaction.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from ..domain.audit import Link

log = structlog.get_logger(__name__)

AUDIT_CHAIN = "audit-chain"  # what the key is derived for
ANCHORS = "audit-anchors"  # the file's name in the state directory
OPTION = "launchpad_audit"  # of a connection's execution: the `Tail` of its transaction
_LINE = 20 + 1 + 18 + 1 + 64 + 1  # an instant, an id, a MAC


def _line(at: datetime, link: Link) -> bytes:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} {link.id:018d} {link.mac}\n".encode()


@dataclass(frozen=True)
class Anchor:
    """A link that was noted at an instant."""

    at: datetime
    link: Link

    @classmethod
    def parse(cls, line: bytes) -> Anchor:
        """Raises ValueError."""
        at, number, mac = line.decode("ascii").split()
        return cls(datetime.strptime(at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC), Link.parse(f"{int(number)}:{mac}"))


class AnchorFile:
    """Links of the chain, noted outside the database: who can write in the database alone cannot change them.

    The first line is the newest link, overwritten by every commit; behind it stands one of each day, and every link
    that was found to be missing from the chain later. Lines have one length, so that one write is one line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Anchor]:
        """The newest first, then the others by age; nothing where nothing was noted yet.

        Raises:
            OSError, ValueError: the file cannot be read.
        """
        with suppress(FileNotFoundError):
            content = self._path.read_bytes()
            return [Anchor.parse(content[n : n + _LINE]) for n in range(0, len(content), _LINE)]
        return []

    def note(self, before: Link, added: list[Link], now: datetime) -> None:
        """Notes the newest of `added`, which were just committed behind `before`.

        Where the noted link is of the same place as one of these and another, its entry was removed meanwhile: it is
        kept for good.
        """
        newest = _line(now, added[-1])
        with self._opened() as file:
            line = os.pread(file, _LINE, 0)
            noted = Anchor.parse(line) if len(line) == _LINE else None
            if noted is not None:
                lost = any(noted.link.id == one.id and noted.link != one for one in (before, *added))
                if noted.link.id > added[-1].id:
                    return  # others have committed since; or entries were removed, and the note says so
                if lost or line[:10] != newest[:10]:
                    os.pwrite(file, line, os.fstat(file).st_size)
            os.pwrite(file, newest, 0)

    def restart(self, newest: Link, kept: Iterable[Anchor], now: datetime) -> None:
        """Begins anew with `newest` and these of the others, such as after an older database came back."""
        content = _line(now, newest) + b"".join(_line(one.at, one.link) for one in kept)
        with self._opened() as file:
            os.ftruncate(file, 0)
            os.pwrite(file, content, 0)
            os.fsync(file)

    def _opened(self) -> _Locked:
        return _Locked(self._path)


class _Locked:
    """The file, made where it is missing, with nobody else writing."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> int:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return self._file

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


class ChainKeeper:
    """What writing into the audit needs: the key, and where links are noted outside the database.

    Args:
        key: 256 bits, from outside the database.
        anchors: None: nothing is noted, as for a database that is thrown away.
    """

    def __init__(self, key: bytes, anchors: AnchorFile | None, now: Callable[[], datetime]) -> None:
        self.key = key
        self.anchors = anchors
        self.now = now

    def begin(self) -> Tail:
        return Tail(self)

    def committed(self, tail: Tail) -> None:
        """After the commit of a transaction; cheap where it has added nothing. It never fails: all is committed."""
        if not tail.added or tail.before is None or self.anchors is None:
            return
        try:
            self.anchors.note(tail.before, tail.added, self.now())
        except (OSError, ValueError) as error:
            log.error("audit.not_noted", error=str(error))


class Tail:
    """The end of the chain within one transaction: read once, extended by each entry."""

    def __init__(self, keeper: ChainKeeper) -> None:
        self.key = keeper.key
        self.before: Link | None = None
        self.added: list[Link] = []

    @property
    def last(self) -> Link | None:
        """None: it has not been read yet."""
        return self.added[-1] if self.added else self.before
