"""Table `recent_use`: what each lab and each person had lately, of what has ended; in it, what is older weighs less.

It is fed in the transaction of each end. What is still live is not in it, since it is known exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Float, Row, String, Table, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.fair_share import RecentUse, left_after
from .schema import Instant, metadata

table = Table(
    "recent_use",
    metadata,
    Column("holder", String(110), primary_key=True),  # see `domain.fair_share.lab_key`
    Column("memory_bytes", Float, nullable=False),
    Column("cpus", Float, nullable=False),
    Column("counted_at", Instant, nullable=False),  # of when the average is
)

A_QUERY = 500


def _as_of(row: Row[Any], now: datetime, half_life: timedelta) -> RecentUse:
    return RecentUse(row.memory_bytes, row.cpus).times(left_after(now - row.counted_at, half_life))


async def add(db: AsyncConnection, holder: str, use: RecentUse, now: datetime, half_life: timedelta) -> None:
    """Adds to an average; `use` is as of `now`."""
    row = (await db.execute(select(table).where(table.c.holder == holder))).first()
    if row is None:
        values = {"memory_bytes": use.memory_bytes, "cpus": use.cpus, "counted_at": now}
        await db.execute(insert(table).values(holder=holder, **values))
        return
    whole = _as_of(row, now, half_life).plus(use)
    values = {"memory_bytes": whole.memory_bytes, "cpus": whole.cpus, "counted_at": now}
    await db.execute(update(table).where(table.c.holder == holder).values(**values))


async def of(db: AsyncConnection, holders: Iterable[str], now: datetime, half_life: timedelta) -> dict[str, RecentUse]:
    """As of `now`; who has had nothing is left out."""
    wanted = sorted(set(holders))
    found: dict[str, RecentUse] = {}
    for at in range(0, len(wanted), A_QUERY):
        query = select(table).where(table.c.holder.in_(wanted[at : at + A_QUERY]))
        found |= {row.holder: _as_of(row, now, half_life) for row in await db.execute(query)}
    return found
