"""Table `instance_logs`: the last lines that an ended instance printed, cleaned and bounded."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, ForeignKey, Index, Table, Text, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from .database import Instant, metadata

table = Table(
    "instance_logs",
    metadata,
    Column("instance_id", ForeignKey("instances.id", ondelete="CASCADE"), primary_key=True),
    Column("kept_at", Instant, nullable=False),
    Column("text", Text, nullable=False),
    Index("ix_instance_logs_kept_at", "kept_at"),
)


async def put(db: AsyncConnection, instance_id: str, text: str, at: datetime) -> None:
    """Keeps the text in place of what was kept before."""
    await db.execute(delete(table).where(table.c.instance_id == instance_id))
    await db.execute(insert(table).values(instance_id=instance_id, text=text, kept_at=at))


async def of_instance(db: AsyncConnection, instance_id: str) -> str:
    """Empty where none was kept."""
    found = await db.execute(select(table.c.text).where(table.c.instance_id == instance_id))
    return found.scalar_one_or_none() or ""


async def forget(db: AsyncConnection, instance_id: str) -> None:
    await db.execute(delete(table).where(table.c.instance_id == instance_id))


async def prune(db: AsyncConnection, before: datetime) -> int:
    return (await db.execute(delete(table).where(table.c.kept_at < before))).rowcount
