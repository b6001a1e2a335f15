"""Table `audit`: who did what to what, from where. Rows are added, and forgotten when they are old."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, Integer, String, Table, Text, delete, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.audit import AuditRecord
from .schema import Instant, contains, metadata

table = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("actor", String(254), nullable=False),
    Column("client", String(64), nullable=False),
    Column("action", String(60), nullable=False),
    Column("subject", String(254), nullable=False),
    Column("details", Text, nullable=False),
    Index("ix_audit_at", "at"),
)


async def add(
    db: AsyncConnection,
    *,
    at: datetime,
    actor: str,
    client: str,
    action: str,
    subject: str,
    details: Mapping[str, Any],
) -> None:
    await db.execute(
        insert(table).values(
            at=at, actor=actor, client=client, action=action, subject=subject, details=json.dumps(dict(details))
        )
    )


async def page(
    db: AsyncConnection, *, limit: int = 100, before_id: int | None = None, from_id: int = 0, search: str = ""
) -> list[AuditRecord]:
    """Newest first, from before the record `before_id` back to `from_id`.

    `search` looks in actor, action, subject and details.
    """
    query = select(table).order_by(table.c.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(table.c.id < before_id)
    if from_id:
        query = query.where(table.c.id >= from_id)
    if search:
        texts = [contains(column, search) for column in (table.c.actor, table.c.action, table.c.subject)]
        # In the details, JSON writes letters other than ASCII's as numbers.
        query = query.where(or_(*texts, contains(table.c.details, json.dumps(search)[1:-1])))
    return [
        AuditRecord(row.id, row.at, row.actor, row.client, row.action, row.subject, json.loads(row.details))
        for row in await db.execute(query)
    ]


async def first_and_last(db: AsyncConnection) -> tuple[int, int]:
    """The ids of the oldest and the newest record; 0 and 0 without any."""
    ends = (select(end(table.c.id)).scalar_subquery() for end in (func.min, func.max))  # one query would read them all
    first, last = (await db.execute(select(*ends))).one()
    return first or 0, last or 0


async def newest_at(db: AsyncConnection) -> datetime | None:
    """When the latest record was made, or says it was."""
    return (await db.execute(select(table.c.at).order_by(table.c.at.desc()).limit(1))).scalar_one_or_none()


async def was_recorded(db: AsyncConnection, action: str, client: str, since: datetime) -> bool:
    query = select(table.c.id).where(table.c.action == action, table.c.client == client, table.c.at > since).limit(1)
    return (await db.execute(query)).first() is not None


async def concerned(db: AsyncConnection, action: str, subject: str, since: datetime) -> bool:
    """Whether that was done to, or for, `subject` since then."""
    query = select(table.c.id).where(table.c.at > since, table.c.action == action, table.c.subject == subject).limit(1)
    return (await db.execute(query)).first() is not None


async def count_since(db: AsyncConnection, actions: Iterable[str], at: datetime) -> dict[str, int]:
    """How often each of these was done since then."""
    wanted = tuple(actions)
    query = select(table.c.action, func.count()).where(table.c.at >= at, table.c.action.in_(wanted))
    counted = {row[0]: int(row[1]) for row in await db.execute(query.group_by(table.c.action))}
    return {action: counted.get(action, 0) for action in wanted}


async def prune(db: AsyncConnection, before: datetime) -> int:
    return (await db.execute(delete(table).where(table.c.at < before))).rowcount
