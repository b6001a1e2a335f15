"""Table `idle_watches`: since when, and for which rule, each instance has been watched without a gap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Integer, Row, String, Table, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.policy import IdleAction, IdleRule
from .schema import Instant, metadata

IDS_A_QUERY = 500

table = Table(
    "idle_watches",
    metadata,
    Column("instance_id", String(16), primary_key=True),
    Column("watched_since", Instant, nullable=False),
    Column("action", String(16), nullable=False),
    Column("idle_minutes", Integer, nullable=False),
)


@dataclass(frozen=True)
class Watch:
    """What idle time is counted for, and since when at the earliest."""

    since: datetime
    rule: IdleRule


async def all_of(db: AsyncConnection) -> dict[str, Watch]:
    """By the instances' ids."""
    return {row.instance_id: _watch(row) for row in await db.execute(select(table))}


async def of(db: AsyncConnection, instance_id: str) -> Watch | None:
    """Of one instance; None: it is not watched."""
    row = (await db.execute(select(table).where(table.c.instance_id == instance_id))).one_or_none()
    return None if row is None else _watch(row)


def _watch(row: Row[Any]) -> Watch:
    return Watch(row.watched_since, IdleRule(IdleAction(row.action), row.idle_minutes))


async def put(db: AsyncConnection, watches: Mapping[str, Watch]) -> None:
    await forget(db, watches)
    rows = [
        {
            "instance_id": one,
            "watched_since": watch.since,
            "action": watch.rule.action.value,
            "idle_minutes": watch.rule.idle_minutes,
        }
        for one, watch in watches.items()
    ]
    if rows:
        await db.execute(insert(table), rows)


async def forget(db: AsyncConnection, instance_ids: Iterable[str]) -> None:
    ids = list(instance_ids)
    for at in range(0, len(ids), IDS_A_QUERY):
        await db.execute(delete(table).where(table.c.instance_id.in_(ids[at : at + IDS_A_QUERY])))
