"""Table `share_people`: which shares somebody was given, and when they opened each last."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import Boolean, Column, Index, String, Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from .schema import Instant, metadata

table = Table(
    "share_people",
    metadata,
    Column("share_id", String(16), primary_key=True),
    Column("email", String(254), primary_key=True),
    Column("is_named", Boolean, nullable=False),  # else as a member of the lab, who has opened it
    Column("opened_at", Instant),
    Index("ix_share_people_email", "email", "share_id"),
)


async def name(db: AsyncConnection, share_id: str, emails: Iterable[str]) -> None:
    rows = [{"share_id": share_id, "email": one, "is_named": True} for one in emails]
    if rows:
        await db.execute(insert(table), rows)


async def named(db: AsyncConnection, email: str) -> list[str]:
    """The ids of the shares that somebody was given by name."""
    return list(await db.scalars(select(table.c.share_id).where(table.c.email == email, table.c.is_named.is_(True))))


async def opened(db: AsyncConnection, share_id: str, email: str, now: datetime) -> None:
    """Notes that somebody has opened it."""
    where = (table.c.share_id == share_id, table.c.email == email)
    done = await db.execute(update(table).where(*where).values(opened_at=now))
    if done.rowcount == 0:
        await db.execute(insert(table).values(share_id=share_id, email=email, is_named=False, opened_at=now))


async def last_opened(db: AsyncConnection, ids: Collection[str]) -> dict[str, list[tuple[str, datetime]]]:
    """Who opened each of these shares, and when last; the latest first."""
    query = select(table).where(table.c.share_id.in_(ids), table.c.opened_at.is_not(None))
    found: dict[str, list[tuple[str, datetime]]] = {}
    for row in await db.execute(query.order_by(table.c.opened_at.desc(), table.c.email)):
        found.setdefault(row.share_id, []).append((row.email, row.opened_at))
    return found


async def remove_all(db: AsyncConnection, ids: Collection[str]) -> None:
    await db.execute(delete(table).where(table.c.share_id.in_(ids)))
