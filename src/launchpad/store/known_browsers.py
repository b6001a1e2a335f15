"""Table `known_browsers`: browsers that an address has signed in from, so that strangers cannot use up its codes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, String, Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from .database import Instant, metadata

table = Table(
    "known_browsers",
    metadata,
    Column("secret_digest", String(64), primary_key=True),
    Column("address", String(254), primary_key=True),
    Column("last_seen_at", Instant, nullable=False),
)


async def knows(db: AsyncConnection, secret_digest: str, address: str) -> bool:
    query = select(table.c.address).where(table.c.secret_digest == secret_digest, table.c.address == address)
    return (await db.execute(query)).first() is not None


async def exists(db: AsyncConnection, secret_digest: str) -> bool:
    """Whether it was given out to a browser, for whatever address."""
    return (await db.execute(select(table.c.address).where(table.c.secret_digest == secret_digest))).first() is not None


async def seen(db: AsyncConnection, secret_digest: str, address: str, at: datetime) -> None:
    """Remembers that the address has signed in from this browser."""
    row = (table.c.secret_digest == secret_digest, table.c.address == address)
    if (await db.execute(update(table).where(*row).values(last_seen_at=at))).rowcount == 0:
        await db.execute(insert(table).values(secret_digest=secret_digest, address=address, last_seen_at=at))


async def prune(db: AsyncConnection, before: datetime) -> int:
    return (await db.execute(delete(table).where(table.c.last_seen_at < before))).rowcount
