"""Table `shares`: files and folders that their owner lets others read. A row is never changed, only removed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, Row, String, Table, Text, delete, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.file_paths import decoded, encoded
from ..domain.shares import Share
from .schema import Instant, metadata

table = Table(
    "shares",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("owner_id", String(16), nullable=False),
    Column("path", Text, nullable=False),  # percent-encoded: its bytes may be no text
    Column("kind", String(10), nullable=False),
    Column("lab", String(100)),
    Column("emails", Text, nullable=False),  # one a line, each with a line's end before and behind
    Column("secret_digest", String(64)),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
    Index("ix_shares_owner_id", "owner_id", "created_at"),
    Index("ix_shares_lab", "lab"),
)


async def add(db: AsyncConnection, share: Share) -> None:
    values = {**vars(share), "path": encoded(share.path), "emails": "\n" + "".join(f"{one}\n" for one in share.emails)}
    await db.execute(insert(table).values(values))


async def by_id(db: AsyncConnection, share_id: str) -> Share | None:
    row = (await db.execute(select(table).where(table.c.id == share_id))).first()
    return _share(row) if row is not None else None


async def of_owner(db: AsyncConnection, owner_id: str, now: datetime) -> list[Share]:
    """Those that are not over, the newest first."""
    query = select(table).where(table.c.owner_id == owner_id, table.c.expires_at > now)
    query = query.order_by(table.c.created_at.desc(), table.c.id)
    return [_share(row) for row in await db.execute(query)]


async def count(db: AsyncConnection, owner_id: str, now: datetime) -> int:
    query = select(func.count()).where(table.c.owner_id == owner_id, table.c.expires_at > now)
    number: int = (await db.execute(query)).scalar_one()
    return number


async def with_user(
    db: AsyncConnection, ids: Collection[str], labs: Sequence[str], owner_not: str, now: datetime, limit: int
) -> list[Share]:
    """Those with these ids or of these labs that are not over, and are another's; the newest first."""
    query = select(table).where(
        or_(table.c.id.in_(ids), table.c.lab.in_(labs)), table.c.owner_id != owner_not, table.c.expires_at > now
    )
    query = query.order_by(table.c.created_at.desc(), table.c.id).limit(limit)
    return [_share(row) for row in await db.execute(query)]


async def remove(db: AsyncConnection, share_id: str, owner_id: str) -> bool:
    """False: the owner has none of that id."""
    done = await db.execute(delete(table).where(table.c.id == share_id, table.c.owner_id == owner_id))
    return done.rowcount == 1


async def over(db: AsyncConnection, before: datetime, limit: int) -> list[str]:
    """The ids of those that were over before an instant."""
    query = select(table.c.id).where(table.c.expires_at < before).order_by(table.c.expires_at).limit(limit)
    return list(await db.scalars(query))


async def remove_all(db: AsyncConnection, ids: Collection[str]) -> None:
    await db.execute(delete(table).where(table.c.id.in_(ids)))


def _share(row: Row[Any]) -> Share:
    return Share(
        id=row.id,
        owner_id=row.owner_id,
        path=decoded(row.path),
        kind=row.kind,
        lab=row.lab,
        emails=tuple(row.emails.split()),
        secret_digest=row.secret_digest,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
