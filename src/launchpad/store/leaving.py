"""Table `leaving`: users who are suspended, or whose home is in an archive only, and what is due for their homes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Index, Integer, String, Table, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.leaving import Leaving, LeavingCause
from .schema import Instant, metadata

table = Table(
    "leaving",
    metadata,
    Column("user_id", String(16), primary_key=True),
    Column("cause", String(16), nullable=False),
    Column("reason", String(500), nullable=False),
    Column("since_at", Instant, nullable=False),
    Column("archive_at", Instant),
    Column("warned_before_seconds", Integer),
    Column("warned_at", Instant),
    Column("archive_id", String(16)),
    Column("archived_at", Instant),
    Column("remove_home_at", Instant),
    Column("home_removed_at", Instant),
    Index("ix_leaving_archive_at", "archive_at"),
    Index("ix_leaving_remove_home_at", "remove_home_at"),
)


def _leaving(row: Any) -> Leaving:
    before = row.warned_before_seconds
    return Leaving(
        user_id=row.user_id,
        cause=LeavingCause(row.cause),
        reason=row.reason,
        since_at=row.since_at,
        archive_at=row.archive_at,
        warned_before=None if before is None else timedelta(seconds=before),
        warned_at=row.warned_at,
        archive_id=row.archive_id,
        archived_at=row.archived_at,
        remove_home_at=row.remove_home_at,
        home_removed_at=row.home_removed_at,
    )


def _columns(one: Leaving) -> dict[str, Any]:
    before = one.warned_before
    return {
        "user_id": one.user_id,
        "cause": one.cause,
        "reason": one.reason,
        "since_at": one.since_at,
        "archive_at": one.archive_at,
        "warned_before_seconds": None if before is None else round(before.total_seconds()),
        "warned_at": one.warned_at,
        "archive_id": one.archive_id,
        "archived_at": one.archived_at,
        "remove_home_at": one.remove_home_at,
        "home_removed_at": one.home_removed_at,
    }


async def of(db: AsyncConnection, user_id: str) -> Leaving | None:
    row = (await db.execute(select(table).where(table.c.user_id == user_id))).first()
    return _leaving(row) if row is not None else None


async def of_all(db: AsyncConnection, user_ids: Collection[str]) -> dict[str, Leaving]:
    """Of these, by their ids; at most a page of them."""
    rows = await db.execute(select(table).where(table.c.user_id.in_(user_ids)))
    return {row.user_id: _leaving(row) for row in rows}


async def put(db: AsyncConnection, one: Leaving) -> None:
    values = _columns(one)
    if not (await db.execute(update(table).where(table.c.user_id == one.user_id).values(**values))).rowcount:
        await db.execute(insert(table).values(**values))


async def drop(db: AsyncConnection, user_id: str) -> None:
    await db.execute(delete(table).where(table.c.user_id == user_id))


async def to_look_at(db: AsyncConnection, archive_until: datetime, now: datetime, limit: int) -> list[Leaving]:
    """Those whose homes are archived by then and were not yet, or are to be removed by now; the longest due first."""
    archive = (table.c.archive_at <= archive_until) & table.c.archived_at.is_(None)
    remove = (table.c.remove_home_at <= now) & table.c.home_removed_at.is_(None)
    query = select(table).where(or_(archive, remove)).order_by(table.c.archive_at, table.c.user_id).limit(limit)
    return [_leaving(row) for row in await db.execute(query)]
