"""Table `home_work`: what is to be done with homes in the background, what is under way, and what came of it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Index, String, Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.leaving import HomeWork, WorkKind, WorkState
from .schema import Instant, metadata

table = Table(
    "home_work",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("user_id", String(16), nullable=False),
    Column("asked_at", Instant, nullable=False),
    Column("actor", String(254), nullable=False),
    Column("client", String(64), nullable=False),
    Column("actor_id", String(16)),
    Column("is_automatic", Boolean, nullable=False),
    Column("archive_id", String(16)),
    Column("to_user_id", String(16)),
    Column("reason", String(500), nullable=False),
    Column("state", String(16), nullable=False),
    Column("began_at", Instant),
    Column("ended_at", Instant),
    Column("stage", String(16), nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("detail", String(1000), nullable=False),
    Index("ix_home_work_state", "state", "asked_at"),
    Index("ix_home_work_user_id", "user_id", "asked_at"),
)
DETAIL_CHARACTERS = 1000


def _work(row: Any) -> HomeWork:
    said = {**row._mapping}
    return HomeWork(**said | {"kind": WorkKind(row.kind), "state": WorkState(row.state)})


async def add(db: AsyncConnection, one: HomeWork) -> None:
    await db.execute(insert(table).values(**asdict(one)))


async def by_id(db: AsyncConnection, work_id: str) -> HomeWork | None:
    row = (await db.execute(select(table).where(table.c.id == work_id))).first()
    return _work(row) if row is not None else None


async def of_user(db: AsyncConnection, user_id: str, limit: int) -> list[HomeWork]:
    """The newest first."""
    query = select(table).where(table.c.user_id == user_id).order_by(table.c.asked_at.desc(), table.c.id).limit(limit)
    return [_work(row) for row in await db.execute(query)]


async def open_of_user(db: AsyncConnection, user_id: str) -> list[HomeWork]:
    """What is queued or under way."""
    query = select(table).where(table.c.user_id == user_id, table.c.state.in_((WorkState.QUEUED, WorkState.RUNNING)))
    return [_work(row) for row in await db.execute(query)]


async def next_queued(db: AsyncConnection) -> HomeWork | None:
    query = select(table).where(table.c.state == WorkState.QUEUED).order_by(table.c.asked_at, table.c.id).limit(1)
    row = (await db.execute(query)).first()
    return _work(row) if row is not None else None


async def begin(db: AsyncConnection, work_id: str, at: datetime) -> bool:
    """False: somebody else has begun it."""
    query = update(table).where(table.c.id == work_id, table.c.state == WorkState.QUEUED)
    return (await db.execute(query.values(state=WorkState.RUNNING, began_at=at))).rowcount == 1


async def progress(db: AsyncConnection, work_id: str, stage: str, files: int, size: int) -> None:
    await db.execute(update(table).where(table.c.id == work_id).values(stage=stage, files=files, bytes=size))


async def end(db: AsyncConnection, work_id: str, state: WorkState, detail: str, at: datetime) -> None:
    values = {"state": state, "detail": detail[:DETAIL_CHARACTERS], "ended_at": at}
    await db.execute(update(table).where(table.c.id == work_id).values(**values))


async def queue_again(db: AsyncConnection) -> int:
    """What is under way by a process that is gone; for whoever owns the work, before it begins anything."""
    query = update(table).where(table.c.state == WorkState.RUNNING)
    return (await db.execute(query.values(state=WorkState.QUEUED, began_at=None, stage="", files=0, bytes=0))).rowcount


async def prune(db: AsyncConnection, before: datetime) -> None:
    """Forgets what ended long ago; the audit knows it."""
    ended = table.c.state.in_((WorkState.DONE, WorkState.FAILED))
    await db.execute(delete(table).where(ended, table.c.ended_at < before))
