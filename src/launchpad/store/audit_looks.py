"""Table `audit_looks`: looks of the last hour, counted until an entry of the audit says how many there were."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Integer, String, Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from .schema import Instant, metadata

table = Table(
    "audit_looks",
    metadata,
    Column("actor", String(254), primary_key=True),
    Column("client", String(64), primary_key=True),
    Column("action", String(60), primary_key=True),
    Column("subject", String(254), primary_key=True),
    Column("owner_id", String(16), primary_key=True),
    Column("entry_id", Integer, nullable=False),
    Column("first_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    Column("count", Integer, nullable=False),
)


@dataclass(frozen=True)
class Look:
    """Who looks at what of whose, from where."""

    actor: str
    client: str
    action: str
    subject: str
    owner_id: str


@dataclass(frozen=True)
class CountedLook:
    """How often within the hour, and the entry of the audit that says of the first."""

    look: Look
    entry_id: int
    first_at: datetime
    last_at: datetime
    count: int


def _is(look: Look) -> Any:
    return (
        (table.c.actor == look.actor)
        & (table.c.client == look.client)
        & (table.c.action == look.action)
        & (table.c.subject == look.subject)
        & (table.c.owner_id == look.owner_id)
    )


async def get(db: AsyncConnection, look: Look) -> CountedLook | None:
    row = (await db.execute(select(table).where(_is(look)))).first()
    return None if row is None else _counted(row)


async def put(db: AsyncConnection, look: Look, entry_id: int, at: datetime) -> None:
    """Begins to count, with one look, whatever was counted before."""
    await forget(db, look)
    await db.execute(insert(table).values(**vars(look), entry_id=entry_id, first_at=at, last_at=at, count=1))


async def again(db: AsyncConnection, look: Look, at: datetime) -> None:
    await db.execute(update(table).where(_is(look)).values(last_at=at, count=table.c.count + 1))


async def forget(db: AsyncConnection, look: Look) -> None:
    await db.execute(delete(table).where(_is(look)))


async def begun_before(db: AsyncConnection, at: datetime, limit: int = 500) -> list[CountedLook]:
    query = select(table).where(table.c.first_at <= at).order_by(table.c.first_at).limit(limit)
    return [_counted(row) for row in await db.execute(query)]


async def of_entries(db: AsyncConnection, ids: Iterable[int]) -> dict[int, CountedLook]:
    """What is being counted, by the entries of the first looks."""
    rows = await db.execute(select(table).where(table.c.entry_id.in_(tuple(ids))))
    return {row.entry_id: _counted(row) for row in rows}


def _counted(row: Any) -> CountedLook:
    look = Look(row.actor, row.client, row.action, row.subject, row.owner_id)
    return CountedLook(look, row.entry_id, row.first_at, row.last_at, row.count)
