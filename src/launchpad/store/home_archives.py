"""Table `home_archives`: archives of homes, with what they are recognised by."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.leaving import HomeArchive
from .schema import Instant, metadata

table = Table(
    "home_archives",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("user_id", String(16), nullable=False),
    Column("name", String(32), nullable=False),
    Column("username", String(32), nullable=False),
    Column("uid", BigInteger, nullable=False),
    Column("made_at", Instant, nullable=False),
    Column("entries", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("changed", Integer, nullable=False),
    Column("left_out", Text, nullable=False),
    Column("verified_at", Instant),
    Index("ix_home_archives_user_id", "user_id", "made_at"),
)


def _archive(row: Any) -> HomeArchive:
    return HomeArchive(
        id=row.id,
        user_id=row.user_id,
        name=row.name,
        username=row.username,
        uid=row.uid,
        made_at=row.made_at,
        entries=row.entries,
        bytes=row.bytes,
        stored_bytes=row.stored_bytes,
        sha256=row.sha256,
        changed=row.changed,
        left_out=json.loads(row.left_out),
        verified_at=row.verified_at,
    )


async def add(db: AsyncConnection, one: HomeArchive) -> None:
    await db.execute(
        insert(table).values(
            id=one.id,
            user_id=one.user_id,
            name=one.name,
            username=one.username,
            uid=one.uid,
            made_at=one.made_at,
            entries=one.entries,
            bytes=one.bytes,
            stored_bytes=one.stored_bytes,
            sha256=one.sha256,
            changed=one.changed,
            left_out=json.dumps(dict(one.left_out)),
            verified_at=one.verified_at,
        )
    )


async def verified(db: AsyncConnection, archive_id: str, at: datetime) -> None:
    await db.execute(update(table).where(table.c.id == archive_id).values(verified_at=at))


async def by_id(db: AsyncConnection, user_id: str, archive_id: str) -> HomeArchive | None:
    """Of that user."""
    query = select(table).where(table.c.id == archive_id, table.c.user_id == user_id)
    row = (await db.execute(query)).first()
    return _archive(row) if row is not None else None


async def of_user(db: AsyncConnection, user_id: str) -> list[HomeArchive]:
    """The newest first."""
    query = select(table).where(table.c.user_id == user_id).order_by(table.c.made_at.desc(), table.c.id)
    return [_archive(row) for row in await db.execute(query)]
