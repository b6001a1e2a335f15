"""Table `warnings`: which ends somebody was warned of, so that nobody is warned twice of the same one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Column, Integer, String, Table, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.warnings import EndKind, Sent
from .database import Instant, metadata

table = Table(
    "warnings",
    metadata,
    Column("instance_id", String(16), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("ends_at", Instant, primary_key=True),
    Column("lead_seconds", Integer, primary_key=True),
    Column("sent_at", Instant, nullable=False),
)


async def add(db: AsyncConnection, sent: Iterable[Sent], at: datetime) -> None:
    rows = [
        {
            "instance_id": one.instance_id,
            "kind": one.kind,
            "ends_at": one.ends_at,
            "lead_seconds": one.lead_seconds,
            "sent_at": at,
        }
        for one in sent
    ]
    if rows:
        await db.execute(insert(table), rows)


async def of_ends_after(db: AsyncConnection, at: datetime) -> set[Sent]:
    """Those of ends that are still to come."""
    columns = (table.c.instance_id, table.c.kind, table.c.ends_at, table.c.lead_seconds)
    rows = await db.execute(select(*columns).where(table.c.ends_at > at))
    return {Sent(row.instance_id, EndKind(row.kind), row.ends_at, row.lead_seconds) for row in rows}


async def count_since(db: AsyncConnection, at: datetime) -> dict[EndKind, int]:
    """How many were sent since then, by kind."""
    query = select(table.c.kind, func.count()).where(table.c.sent_at >= at).group_by(table.c.kind)
    return {EndKind(kind): number for kind, number in await db.execute(query)}


async def prune(db: AsyncConnection, before: datetime) -> int:
    """Removes those of ends before an instant."""
    return (await db.execute(delete(table).where(table.c.ends_at < before))).rowcount
