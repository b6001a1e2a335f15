"""Table `announcements`: what administrators tell everybody on every page, and maintenance that ends instances."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, String, Table, delete, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.announcements import Announcement
from .database import Instant, metadata

table = Table(
    "announcements",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("text", String(500), nullable=False),
    Column("shown_from", Instant, nullable=False),
    Column("shown_until", Instant, index=True),
    Column("stop_instances_at", Instant),
    Column("created_at", Instant, nullable=False),
    Column("created_by", String(254), nullable=False),
)


async def add(db: AsyncConnection, announcement: Announcement) -> None:
    await db.execute(insert(table).values(vars(announcement)))


async def not_over(db: AsyncConnection, now: datetime) -> list[Announcement]:
    """Those that are shown now or later, the first to be shown first."""
    query = select(table).where(or_(table.c.shown_until.is_(None), table.c.shown_until > now))
    query = query.order_by(table.c.shown_from, table.c.id)
    return [Announcement(**row._mapping) for row in await db.execute(query)]


async def remove(db: AsyncConnection, announcement_id: str) -> bool:
    """False: there is none of that id."""
    return (await db.execute(delete(table).where(table.c.id == announcement_id))).rowcount == 1


async def prune(db: AsyncConnection, before: datetime) -> int:
    """Removes those that were over before an instant."""
    return (await db.execute(delete(table).where(table.c.shown_until < before))).rowcount
