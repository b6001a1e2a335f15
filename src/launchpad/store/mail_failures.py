"""Table `mail_failures`: addresses that mail did not reach, a row each. No mail, subject or server's text is in it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, String, Table, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.mail import STATUS_MAX, FailureKind, MailFailure
from ..domain.paging import Place
from .schema import Instant, contains, metadata

table = Table(
    "mail_failures",
    metadata,
    Column("address", String(254), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("status", String(STATUS_MAX)),
    Column("count", Integer, nullable=False),
    Column("first_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    Index("ix_mail_failures_last_at", "last_at"),
)


def _failure(row: Row[Any]) -> MailFailure:
    return MailFailure(
        address=row.address,
        kind=FailureKind(row.kind),
        status=row.status,
        count=row._mapping["count"],  # a row is a tuple, which has a method of that name
        first_at=row.first_at,
        last_at=row.last_at,
    )


async def record(db: AsyncConnection, address: str, kind: FailureKind, status: str | None, at: datetime) -> None:
    """One more failure; the newest one's kind and status stand for all of them."""
    latest = {"kind": kind, "status": status, "last_at": at}
    again = update(table).where(table.c.address == address).values(count=table.c["count"] + 1, **latest)
    if (await db.execute(again)).rowcount == 0:
        await db.execute(insert(table).values(address=address, count=1, first_at=at, **latest))


async def page(
    db: AsyncConnection, *, search: str = "", limit: int = 100, before: Place | None = None
) -> list[MailFailure]:
    """The newest first, from behind `before`; `search` looks in the address."""
    query = select(table).order_by(table.c.last_at.desc(), table.c.address).limit(limit)
    if before is not None:
        same = and_(table.c.last_at == before.at, table.c.address > before.key)
        query = query.where(or_(table.c.last_at < before.at, same))
    if search:
        query = query.where(contains(table.c.address, search))
    return [_failure(row) for row in await db.execute(query)]


async def of_addresses(db: AsyncConnection, addresses: Iterable[str]) -> dict[str, MailFailure]:
    rows = await db.execute(select(table).where(table.c.address.in_(list(addresses))))
    return {row.address: _failure(row) for row in rows}


async def count(db: AsyncConnection) -> int:
    """How many addresses."""
    return (await db.execute(select(func.count()).select_from(table))).scalar_one()


async def forget(db: AsyncConnection, address: str) -> bool:
    """False when there was nothing to forget."""
    return (await db.execute(delete(table).where(table.c.address == address))).rowcount == 1


async def prune(db: AsyncConnection, before: datetime) -> int:
    return (await db.execute(delete(table).where(table.c.last_at < before))).rowcount
