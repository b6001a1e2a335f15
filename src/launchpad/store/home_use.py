"""Table `home_use`: what each home takes up, as it was measured last. Under `DISK` stands the disk of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    String,
    Table,
    and_,
    bindparam,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.home_use import Growth, MeasuredUse, Warned
from .schema import Instant, metadata

DISK = ""  # in the place of a user's id
IDS_A_QUERY = 500

table = Table(
    "home_use",
    metadata,
    Column("user_id", String(16), primary_key=True),
    Column("used_bytes", BigInteger),
    Column("limit_bytes", BigInteger),
    Column("free_bytes", BigInteger),
    Column("is_floor", Boolean, nullable=False),
    Column("walked_seconds", Float),
    Column("measured_at", Instant, nullable=False),
    Column("looked_at", Instant, nullable=False),  # when it was asked for last, whatever came of it
    Column("grown_week_bytes", BigInteger),
    Column("grown_month_bytes", BigInteger),
    Column("warned", String(16), nullable=False),
    Index("ix_home_use_looked_at", "looked_at", "user_id"),
    Index("ix_home_use_measured_at", "measured_at", "user_id"),
)


def measured(row: Any) -> MeasuredUse:
    """Out of a row with the table's columns."""
    return MeasuredUse(
        used_bytes=row.used_bytes,
        limit_bytes=row.limit_bytes,
        free_bytes=row.free_bytes,
        measured_at=row.measured_at,
        looked_at=row.looked_at,
        is_floor=row.is_floor,
        walked_seconds=row.walked_seconds,
        growth=Growth(row.grown_week_bytes, row.grown_month_bytes),
        warned=Warned(row.warned),
    )


async def of(db: AsyncConnection, user_id: str) -> MeasuredUse | None:
    """None: it was not measured yet."""
    row = (await db.execute(select(table).where(table.c.user_id == user_id))).first()
    return measured(row) if row is not None else None


async def of_all(db: AsyncConnection, user_ids: Sequence[str]) -> dict[str, MeasuredUse]:
    """Of these, by their ids; those that were not measured yet are left out."""
    found: dict[str, MeasuredUse] = {}
    for at in range(0, len(user_ids), IDS_A_QUERY):
        query = select(table).where(table.c.user_id.in_(user_ids[at : at + IDS_A_QUERY]))
        found |= {row.user_id: measured(row) for row in await db.execute(query)}
    return found


async def put(db: AsyncConnection, found: Mapping[str, MeasuredUse]) -> None:
    """Writes them down, by the ids of their users."""
    known = await of_all(db, list(found))
    old = [_columns(use) | {"key": user_id} for user_id, use in found.items() if user_id in known]
    if old:
        changes: dict[str, Any] = {name: bindparam(name) for name in old[0] if name != "key"}
        await db.execute(update(table).where(table.c.user_id == bindparam("key")).values(changes), old)
    new = [_columns(use) | {"user_id": user_id} for user_id, use in found.items() if user_id not in known]
    if new:
        await db.execute(insert(table), new)


def _columns(use: MeasuredUse) -> dict[str, Any]:
    return {
        "used_bytes": use.used_bytes,
        "limit_bytes": use.limit_bytes,
        "free_bytes": use.free_bytes,
        "is_floor": use.is_floor,
        "walked_seconds": use.walked_seconds,
        "measured_at": use.measured_at,
        "looked_at": use.looked_at or use.measured_at,
        "grown_week_bytes": use.growth.week_bytes,
        "grown_month_bytes": use.growth.month_bytes,
        "warned": use.warned,
    }


async def to_walk(
    db: AsyncConnection, before: datetime, limit: int, *, among: Sequence[str] | None = None
) -> list[str]:
    """The ids of users whose homes are there, and were not walked since then: those that never were come first.

    Args:
        among: of these users only, IDS_A_QUERY at most.
    """
    columns = table.c
    query = select(columns.user_id).where(
        columns.free_bytes.is_not(None),
        columns.user_id != DISK,
        or_(columns.used_bytes.is_(None), and_(columns.walked_seconds.is_not(None), columns.measured_at < before)),
    )
    if among is not None:
        query = query.where(columns.user_id.in_(among))
    query = query.order_by(columns.used_bytes.is_not(None), columns.measured_at, columns.user_id).limit(limit)
    return list(await db.scalars(query))


async def oldest_measured_at(db: AsyncConnection) -> datetime | None:
    """Of all that are known; None: there is none yet."""
    query = select(table.c.measured_at).where(table.c.user_id != DISK).order_by(table.c.measured_at).limit(1)
    return (await db.execute(query)).scalar_one_or_none()
