"""The record of who did what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..domain.audit import AuditRecord
from ..domain.users import User
from ..store import audit as store
from ..store.database import Database


@dataclass(frozen=True)
class Actor:
    """Who acts: an e-mail address (or "sweep", "cli"), and the network address it came from.

    Attributes:
        user_id: of the user that it is; None: no user, such as whoever gives a command on the server.
        is_automatic: nobody decides: the platform follows its rules.
    """

    name: str
    client: str = "local"
    user_id: str | None = None
    is_automatic: bool = False

    @classmethod
    def of(cls, user: User, client: str) -> Actor:
        return cls(user.email, client, user.id)

    def on(self, owner_id: str) -> str | None:
        """Whose ledger it stands in what this actor does to somebody's things, or looks at: the owner's.

        None: they are the actor's own, or nobody acts.
        """
        return None if self.is_automatic or self.user_id == owner_id else owner_id


LOOKED_THROUGH = 25_000  # about 20 ms
SWEEP = Actor("sweep", is_automatic=True)
SYSTEM = Actor("system", is_automatic=True)  # nobody: it happened by itself, or from outside the platform
CLI = Actor("cli")


class AuditService:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, at: datetime, actor: Actor, action: str, subject: str, **details: str | int | None) -> None:
        """Adds a record. `details` must hold neither codes nor secrets."""
        async with self._database.transaction() as db:
            await store.add(
                db, at=at, actor=actor.name, client=actor.client, action=action, subject=subject, details=details
            )

    async def page(self, *, limit: int = 100, before_id: int | None = None, search: str = "") -> list[AuditRecord]:
        async with self._database.reading() as db:
            return await store.page(db, limit=limit, before_id=before_id, search=search)

    async def look(
        self, *, limit: int, before_id: int | None = None, search: str = ""
    ) -> tuple[list[AuditRecord], int | None]:
        """A page of records, newest first, and before which record the next one begins (None: this is the last).

        A search goes through `LOOKED_THROUGH` records a page, so a page may hold few records, or none, and not be the
        last.
        """
        async with self._database.reading() as db:
            first, last = await store.first_and_last(db)
            begin = last + 1 if before_id is None else min(before_id, last + 1)
            from_id = max(begin - LOOKED_THROUGH, first) if search else first
            found = await store.page(db, limit=limit + 1, before_id=begin, from_id=from_id, search=search)
        if len(found) > limit:
            return found[:limit], found[limit - 1].id
        return found, from_id if from_id > first else None
