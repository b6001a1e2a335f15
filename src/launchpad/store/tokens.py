"""Table `tokens`: personal API tokens, kept only as their SHA-256."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, ForeignKey, Row, String, Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.signin import ApiToken
from .database import Instant, metadata

table = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", String(60), nullable=False),
    Column("secret_digest", String(64), nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
    Column("last_used_at", Instant),
)


def _token(row: Row[Any]) -> ApiToken:
    return ApiToken(row.id, row.user_id, row.name, row.created_at, row.last_used_at)


async def add(db: AsyncConnection, token: ApiToken, secret_digest: str) -> None:
    await db.execute(insert(table).values(**vars(token), secret_digest=secret_digest))


async def by_secret(db: AsyncConnection, secret_digest: str) -> ApiToken | None:
    row = (await db.execute(select(table).where(table.c.secret_digest == secret_digest))).first()
    return _token(row) if row else None


async def of_user(db: AsyncConnection, user_id: str) -> list[ApiToken]:
    query = select(table).where(table.c.user_id == user_id).order_by(table.c.created_at.desc())
    return [_token(row) for row in await db.execute(query)]


async def used(db: AsyncConnection, token_id: str, at: datetime) -> None:
    await db.execute(update(table).where(table.c.id == token_id).values(last_used_at=at))


async def remove(db: AsyncConnection, token_id: str, owner_id: str) -> bool:
    query = delete(table).where(table.c.id == token_id, table.c.user_id == owner_id)
    return (await db.execute(query)).rowcount == 1
