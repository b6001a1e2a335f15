"""The access ledger: what others did with somebody's instances, files and account, or looked at, for its owner to read.

What is done stands in the audit by whoever does it, with the owner's id. What is looked at is recorded here: the first
look at once, in the chain like every entry; those of the next hour are counted, and an entry says how many there were.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.audit import EVERYONE, AuditRecord
from ..domain.instances import Instance
from ..domain.users import User
from ..store import audit, audit_looks, users
from ..store.audit_looks import CountedLook, Look
from ..store.database import Database
from .audit import Actor
from .background import Loop, periodic
from .end_recorder import names

COUNTED_FOR = timedelta(hours=1)
CLOSE_EVERY_SECONDS = 60.0
PAGE_OF_EXPORT = 500


@dataclass(frozen=True)
class LedgerEntry:
    """An entry of the audit as its owner reads it.

    Attributes:
        times: how often, of a look; 1 for everything else.
        last_at: when the last of these was.
    """

    record: AuditRecord
    times: int
    last_at: datetime

    @property
    def is_everyones(self) -> bool:
        return self.record.owner_id == EVERYONE


class LedgerService:
    def __init__(self, database: Database) -> None:
        self._database = database

    # -- what was looked at --------------------------------------------------------------------------------------------

    async def looked_at_instance(self, actor: Actor, instance: Instance, action: str, now: datetime) -> None:
        """Before somebody else's instance, or its log, is shown; nothing for one's own.

        Raises:
            StoreUnavailable: it cannot be recorded, so it must not be shown.
        """
        if actor.on(instance.owner_id) is not None:
            async with self._database.transaction() as db:
                await self._look(db, actor, instance.owner_id, action, instance.id, now, await names(db, instance))

    async def looked_at_user(self, actor: Actor, user: User, action: str, now: datetime) -> None:
        """Before somebody else's account is shown; nothing for one's own. Raises StoreUnavailable."""
        if actor.on(user.id) is not None:
            async with self._database.transaction() as db:
                await self._look(db, actor, user.id, action, user.email, now, {})

    async def looked_at_list(self, actor: Actor, owner_ids: Collection[str], action: str, now: datetime) -> None:
        """Before a list is shown with things of these users.

        With one other user's it is a look at theirs, with several it is one at everybody's. Raises StoreUnavailable.
        """
        others = {one for one in owner_ids if actor.on(one) is not None}
        if others:
            owner_id = others.pop() if len(others) == 1 else EVERYONE
            async with self._database.transaction() as db:
                await self._look(db, actor, owner_id, action, "a list", now, {})

    async def looked_at_people(self, actor: Actor, addresses: Collection[str], action: str, now: datetime) -> None:
        """As `looked_at_list`, with whose things they are by e-mail address."""
        async with self._database.reading() as db:
            owners = await users.by_emails(db, set(addresses))
        await self.looked_at_list(actor, {one.id for one in owners.values()}, action, now)

    async def looked_at_audit(self, actor: Actor, records: Collection[AuditRecord], now: datetime) -> None:
        """Before the record of who did what is shown, unless nobody but the actor is in it: as who did it, whom it was
        done to, or whose instance the platform did something with. Raises StoreUnavailable."""
        named = {str(name) for one in records for name in (one.actor, one.subject, one.details.get("owner", ""))}
        if any("@" in name and name != actor.name for name in named):
            await self.looked_at_list(actor, {EVERYONE}, "audit.read", now)

    async def _look(
        self,
        db: AsyncConnection,
        actor: Actor,
        owner_id: str,
        action: str,
        subject: str,
        now: datetime,
        details: dict[str, Any],
    ) -> None:
        look = Look(actor.name, actor.client, action, subject, owner_id)
        before = await audit_looks.get(db, look)
        if before is not None:
            if timedelta() <= now - before.first_at < COUNTED_FOR:
                await audit_looks.again(db, look, max(now, before.last_at))
                return
            await self._close(db, before, now)
        entry_id = await audit.add(
            db,
            at=now,
            actor=actor.name,
            client=actor.client,
            action=action,
            subject=subject,
            details=details,
            owner_id=owner_id,
        )
        await audit_looks.put(db, look, entry_id, now)

    async def _close(self, db: AsyncConnection, counted: CountedLook, now: datetime) -> None:
        """Says in the chain how many looks followed the first one, if any did."""
        look = counted.look
        if counted.count > 1:
            await audit.add(
                db,
                at=now,
                actor=look.actor,
                client=look.client,
                action=look.action,
                subject=look.subject,
                details={"more_times": counted.count - 1, "until": counted.last_at.isoformat()},
                owner_id=look.owner_id,
                continues_id=counted.entry_id,
            )
        await audit_looks.forget(db, look)

    async def close_old(self, now: datetime) -> None:
        """Ends the counting of what was looked at first an hour ago."""
        async with self._database.reading() as db:
            if not await audit_looks.begun_before(db, now - COUNTED_FOR, limit=1):
                return
        async with self._database.transaction() as db:
            for one in await audit_looks.begun_before(db, now - COUNTED_FOR):
                await self._close(db, one, now)

    def loop(self, now: Any) -> Loop:
        return periodic(
            "looks",
            lambda: self.close_old(now()),
            every_seconds=CLOSE_EVERY_SECONDS,
            late_after_seconds=1800,
        )

    # -- what the owner reads ------------------------------------------------------------------------------------------

    async def page(
        self, user: User, *, limit: int, before_id: int | None = None, everyone: bool = False
    ) -> tuple[list[LedgerEntry], int | None]:
        """What others did with a user's things, newest first, and before which entry the next page begins.

        Args:
            everyone: also what concerned everybody at once, such as lists of everyone's instances.
        """
        async with self._database.reading() as db:
            found = await audit.of_owner(
                db, user.id, user.created_at, limit=limit + 1, before_id=before_id, everyone=everyone
            )
            page = found[:limit]
            ids = [one.id for one in page]
            counting = await audit_looks.of_entries(db, ids)
            more = {one.continues_id: one for one in await audit.continuations(db, ids)}
        entries = [_entry(one, more.get(one.id), counting.get(one.id)) for one in page]
        return entries, page[-1].id if len(found) > limit else None

    async def everything(self, user: User, *, everyone: bool = False) -> AsyncIterator[list[LedgerEntry]]:
        """All pages, newest first."""
        before_id = None
        while True:
            found, before_id = await self.page(user, limit=PAGE_OF_EXPORT, before_id=before_id, everyone=everyone)
            yield found
            if before_id is None:
                return


def _entry(record: AuditRecord, more: AuditRecord | None, counting: CountedLook | None) -> LedgerEntry:
    if more is not None:
        return LedgerEntry(record, 1 + int(more.details["more_times"]), datetime.fromisoformat(more.details["until"]))
    if counting is not None:
        return LedgerEntry(record, counting.count, counting.last_at)
    return LedgerEntry(record, 1, record.at)
