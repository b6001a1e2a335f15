"""Whether the chain of the audit holds: all of it for a command, its newest part for doctor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.audit import Break, ChainCheck, Link, genesis
from ..errors import Conflict, StoreUnavailable
from ..store import audit
from ..store.audit_chain import Anchor, ChainKeeper
from ..store.database import Database
from .audit import CLI

NEWEST = 2000  # entries that doctor looks at, in about 50 ms
FOREIGN = 50  # where none of so many can be followed, they were written with another key


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        entries: how many were looked at.
        newest: the end of the chain, to be kept elsewhere as an anchor; None: there are no entries.
        breaks: how many places are broken, of which `first_break` is the first.
        pruned_before: entries from before this instant were forgotten since they were old; None: none was.
        forgotten_anchors: of those that were given, how many are of entries that were forgotten since.
    """

    entries: int
    newest: Link | None
    breaks: int
    first_break: Break | None
    pruned_before: datetime | None
    forgotten_anchors: int = 0

    @property
    def holds(self) -> bool:
        return self.breaks == 0


class AuditVerifier:
    def __init__(self, database: Database, keeper: ChainKeeper) -> None:
        self._database = database
        self._keeper = keeper

    async def verify(
        self, anchors: Sequence[Link] = (), progress: Callable[[int, int], None] = lambda _done, _all: None
    ) -> Verdict:
        """Follows the whole chain, as of one instant and a few thousand entries at a time.

        Args:
            anchors: ends of the chain that were kept elsewhere.
            progress: is told how many entries of how many were looked at.

        Raises:
            StoreUnavailable: the database, or what was noted outside it, cannot be read.
        """
        noted = self._noted()  # before the database is looked at: it may grow meanwhile
        async with self._database.reading() as db:
            total = await audit.count(db)
            start, pruned_before, wrong = await self._start(db)
            check = ChainCheck(self._keeper.key, start, _by_id((*anchors, *noted)))
            if wrong:
                check.broken(start.id, wrong)
            await _follow(db, check, lambda done: progress(done, total))
        if (more := total - check.entries) > 0 and not check.breaks:
            check.broken(start.id, f"{more} more entries stand before the beginning of the chain.")
        return _verdict(check, pruned_before, (*anchors, *noted), anchors)

    async def verify_newest(self, most: int = NEWEST) -> Verdict:
        """Of the newest entries only; the one before them is believed. Raises StoreUnavailable."""
        noted = self._noted()
        async with self._database.reading() as db:
            newest = await audit.newest_link(db)
            start, pruned_before, wrong = await self._start(db)
            if newest is not None and newest.id - most > start.id:
                found = await audit.link_at(db, newest.id - most)
                wrong = "" if found is not None else f"Entry {newest.id - most} is missing."
                start = found or Link(newest.id - most, "")
            check = ChainCheck(self._keeper.key, start, _by_id(noted))
            if wrong:
                check.broken(start.id, wrong)
            await _follow(db, check)
        return _verdict(check, pruned_before, noted)

    def _noted(self) -> list[Link]:
        return [one.link for one in self._anchors()]

    def _anchors(self) -> list[Anchor]:
        if self._keeper.anchors is None:
            return []
        try:
            return self._keeper.anchors.read()
        except (OSError, ValueError) as error:
            raise StoreUnavailable(
                f"What was noted of the audit outside the database cannot be read: {error}"
            ) from error

    async def _start(self, db: AsyncConnection) -> tuple[Link, datetime | None, str]:
        """What the first entry follows, since when entries are kept, and what is wrong with it."""
        first = genesis(self._keeper.key)
        try:
            found = await audit.pruned(db, self._keeper.key)
        except ValueError:
            return first, None, "What is recorded of the removal of old entries was not written by the platform."
        return (first, None, "") if found is None else (*found, "")

    # -- after an older database came back -----------------------------------------------------------------------------

    async def accept(self, reason: str, now: datetime) -> int:
        """After the database was brought back from an older copy with its own tools: records that entries are missing.

        What else was noted of the chain stays noted.

        Returns:
            How many.

        Raises:
            Conflict: none is missing at the end.
        """
        noted = self._anchors()
        async with self._database.reading() as db:
            last = await audit.newest_link(db) or genesis(self._keeper.key)
        known = max((one.link.id for one in noted), default=0)
        if known <= last.id:
            raise Conflict("No entries are missing at the end of the audit, so there is nothing to accept.")
        kept = [one for one in noted if one.link.id <= last.id]
        await self._record("audit.accepted", reason, {"missing_entries": f"{last.id + 1} to {known}"}, kept, now)
        return known - last.id

    async def restored(self, made_at: str, *, has_keys: bool, now: datetime) -> None:
        """After a backup was restored: records it, and up to which entry the audit was known before.

        A backup without keys that came to another server cannot be followed there: its entries are chained anew.
        """
        details: dict[str, str | int] = {}
        newest = await self.verify_newest(most=FOREIGN)
        if not has_keys and newest.entries and newest.breaks >= newest.entries:
            async with self._database.transaction() as db:
                await audit.chain_anew(db, self._keeper.key)
            details["chain"] = "started again, since the backup contained no keys"
        noted, kept = self._anchors(), []
        async with self._database.reading() as db:
            last = await audit.newest_link(db) or genesis(self._keeper.key)
            for one in noted:  # of the server that was here before, where that was another one
                if await audit.link_at(db, one.link.id) == one.link:
                    kept.append(one)
        known = max((one.link.id for one in noted), default=0)
        if known > last.id:
            details["missing_entries"] = f"{last.id + 1} to {known}"
        if others := sum(1 for one in noted if one not in kept and one.link.id <= last.id):
            details["anchors_of_another_chain"] = others
        await self._record("backup.restored", made_at, details, kept, now)

    async def _record(
        self, action: str, subject: str, details: Mapping[str, str | int], kept: Sequence[Anchor], now: datetime
    ) -> None:
        """Writes the entry, and notes it with these of the other anchors."""
        async with self._database.transaction() as db:
            await audit.add(
                db, at=now, actor=CLI.name, client=CLI.client, action=action, subject=subject[:254], details=details
            )
            newest = await audit.newest_link(db)
        if self._keeper.anchors is not None and newest is not None:
            self._keeper.anchors.restart(newest, kept, now)


async def _follow(db: AsyncConnection, check: ChainCheck, progress: Callable[[int], None] = lambda _done: None) -> None:
    try:
        while batch := await audit.chained(db, after_id=check.last.id):
            check.follow(batch)
            progress(check.entries)
    except (ValueError, TypeError):  # what is no instant, or no text, was never written by the platform
        check.broken(check.last.id + 1, f"Entries behind entry {check.last.id} cannot be read: one was changed.")


def _verdict(
    check: ChainCheck, pruned_before: datetime | None, known: Sequence[Link], anchors: Sequence[Link] = ()
) -> Verdict:
    """Entries behind the end are known of where they were noted outside the database."""
    newest = max(known, key=lambda one: one.id, default=None)
    if newest is not None and newest.id > check.last.id:
        first, last = check.last.id + 1, newest.id
        which = f"entry {last} is" if first == last else f"entries {first} to {last} are"
        check.broken(last, f"The newest {which} missing: they were noted outside the database.")
    end = check.last if check.entries else None
    forgotten = sum(1 for one in anchors if one.id < check.start.id)
    return Verdict(check.entries, end, check.breaks, check.first_break, pruned_before, forgotten)


def _by_id(links: Iterable[Link]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for one in links:
        found.setdefault(one.id, set()).add(one.mac)
    return found
