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
    """Who acts: an e-mail address (or "sweep", "cli"), and the network address it came from."""

    name: str
    client: str = "local"

    @classmethod
    def of(cls, user: User, client: str) -> Actor:
        return cls(user.email, client)


SWEEP = Actor("sweep")
SYSTEM = Actor("system")  # nobody: it happened by itself, or from outside the platform
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
