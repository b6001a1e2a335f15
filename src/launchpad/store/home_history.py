"""Table `home_history`: what each home took up, one point a day (UTC); the last one of a day stays.

Under `home_use.DISK` stands the disk of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import BigInteger, Column, Date, Index, String, Table, bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from .schema import metadata

IDS_A_QUERY = 500

table = Table(
    "home_history",
    metadata,
    # No foreign key: the disk is in it, too.
    Column("user_id", String(16), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("used_bytes", BigInteger, nullable=False),
    Index("ix_home_history_day", "day"),
)


async def put(db: AsyncConnection, day: date, used: Mapping[str, int]) -> None:
    """The day's points, in bytes by the ids of their users; those of the same day before are replaced."""
    there: set[str] = set()
    wanted = list(used)
    for at in range(0, len(wanted), IDS_A_QUERY):
        query = select(table.c.user_id).where(table.c.user_id.in_(wanted[at : at + IDS_A_QUERY]), table.c.day == day)
        there |= set(await db.scalars(query))
    known: list[dict[str, Any]] = [{"key": one, "used_bytes": used[one]} for one in wanted if one in there]
    if known:
        query_of_one = update(table).where(table.c.user_id == bindparam("key"), table.c.day == day)
        await db.execute(query_of_one.values(used_bytes=bindparam("used_bytes")), known)
    new = [{"user_id": one, "day": day, "used_bytes": used[one]} for one in wanted if one not in there]
    if new:
        await db.execute(insert(table), new)


async def between(db: AsyncConnection, user_ids: Sequence[str], first: date, last: date) -> dict[str, dict[date, int]]:
    """The points of these, by their ids and days, both ends included."""
    found: dict[str, dict[date, int]] = {}
    for at in range(0, len(user_ids), IDS_A_QUERY):
        query = select(table).where(table.c.user_id.in_(user_ids[at : at + IDS_A_QUERY]))
        for row in await db.execute(query.where(table.c.day.between(first, last))):
            found.setdefault(row.user_id, {})[row.day] = row.used_bytes
    return found


async def prune(db: AsyncConnection, before: date) -> int:
    """Removes the points of days before one."""
    return (await db.execute(delete(table).where(table.c.day < before))).rowcount
