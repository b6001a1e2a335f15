"""Mail that did not arrive, for administrators. Visitors are never told: it would say which addresses there are."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.mail import FailureKind, MailFailure
from ..domain.paging import Place
from ..errors import NotFound
from ..store import audit, kv
from ..store import mail_failures as store
from ..store.database import Database
from .audit import Actor

TOTALS = "mail.failures"  # how many there ever were of each kind, for the metrics


async def keep(db: AsyncConnection, address: str, kind: FailureKind, status: str | None, now: datetime) -> None:
    """Writes down that a mail to that address did not arrive."""
    await store.record(db, address, kind, status, now)
    totals = await kv.get(db, TOTALS) or {}
    await kv.put(db, TOTALS, {**totals, kind: totals.get(kind, 0) + 1}, now)


class MailFailureService:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, address: str, kind: FailureKind, status: str | None, now: datetime) -> None:
        async with self._database.transaction() as db:
            await keep(db, address, kind, status, now)

    async def page(self, *, search: str = "", limit: int = 100, before: Place | None = None) -> list[MailFailure]:
        """The newest first; `before` is the place of the last one of the page before."""
        async with self._database.reading() as db:
            return await store.page(db, search=search, limit=limit, before=before)

    async def of_addresses(self, addresses: Iterable[str]) -> dict[str, MailFailure]:
        async with self._database.reading() as db:
            return await store.of_addresses(db, addresses)

    async def count(self) -> int:
        """How many addresses."""
        async with self._database.reading() as db:
            return await store.count(db)

    async def totals(self) -> dict[FailureKind, int]:
        """How many mails did not arrive since the platform was set up."""
        async with self._database.reading() as db:
            totals = await kv.get(db, TOTALS) or {}
        return {kind: totals.get(kind, 0) for kind in FailureKind}

    async def forget(self, address: str, actor: Actor, now: datetime) -> None:
        """Takes an address off the list.

        Raises:
            NotFound: it is not on it.
        """
        address = address.strip().lower()
        async with self._database.transaction() as db:
            if not await store.forget(db, address):
                raise NotFound("There is no entry for that address.")
            await audit.add(
                db,
                at=now,
                actor=actor.name,
                client=actor.client,
                action="mail.failure-forgotten",
                subject=address,
                details={},
            )
