"""Table `logins`: browsers that are signed in. A login's secret is kept only as its SHA-256."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Column, ForeignKey, Row, String, Table, bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.signin import Login
from .database import Instant, metadata

table = Table(
    "logins",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("secret_digest", String(64), nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
    Column("last_seen_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("remembered", Boolean, nullable=False),
    Column("client", String(64), nullable=False),
    Column("user_agent", String(200), nullable=False),
    Column("fresh_at", Instant),
)


def _login(row: Row[Any]) -> Login:
    return Login(
        id=row.id,
        user_id=row.user_id,
        created_at=row.created_at,
        last_seen_at=row.last_seen_at,
        expires_at=row.expires_at,
        remembered=row.remembered,
        client=row.client,
        user_agent=row.user_agent,
        fresh_at=row.fresh_at or row.created_at,
    )


async def add(db: AsyncConnection, login: Login, secret_digest: str) -> None:
    await db.execute(insert(table).values(**vars(login), secret_digest=secret_digest))


async def by_secret(db: AsyncConnection, secret_digest: str) -> Login | None:
    row = (await db.execute(select(table).where(table.c.secret_digest == secret_digest))).first()
    return _login(row) if row else None


async def by_id(db: AsyncConnection, login_id: str) -> Login | None:
    row = (await db.execute(select(table).where(table.c.id == login_id))).first()
    return _login(row) if row else None


async def of_user(db: AsyncConnection, user_id: str) -> list[Login]:
    query = select(table).where(table.c.user_id == user_id).order_by(table.c.last_seen_at.desc())
    return [_login(row) for row in await db.execute(query)]


async def seen(db: AsyncConnection, login_id: str, at: datetime) -> None:
    await seen_all(db, {login_id: at})


async def seen_all(db: AsyncConnection, when: Mapping[str, datetime]) -> None:
    """By their ids, when logins were used last."""
    if when:
        query = update(table).where(table.c.id == bindparam("one")).values(last_seen_at=bindparam("at"))
        await db.execute(query, [{"one": login_id, "at": at} for login_id, at in when.items()])


async def freshen(db: AsyncConnection, login_id: str, at: datetime, secret_digest: str | None = None) -> None:
    """Its user has just shown who they are, or goes on administering; with a new secret the old one opens nothing."""
    renewed = {} if secret_digest is None else {"secret_digest": secret_digest}
    await db.execute(update(table).where(table.c.id == login_id).values(fresh_at=at, **renewed))


async def end(db: AsyncConnection, login_id: str, owner_id: str) -> bool:
    """Removes the login (and, by the foreign key, its instance grants); whether there was one."""
    query = delete(table).where(table.c.id == login_id, table.c.user_id == owner_id)
    return (await db.execute(query)).rowcount == 1


async def end_all(db: AsyncConnection, user_id: str, *, keep: str | None = None) -> int:
    """All of a user's but `keep`; how many."""
    query = delete(table).where(table.c.user_id == user_id)
    return (await db.execute(query if keep is None else query.where(table.c.id != keep))).rowcount


async def prune(db: AsyncConnection, now: datetime) -> int:
    return (await db.execute(delete(table).where(table.c.expires_at < now))).rowcount
