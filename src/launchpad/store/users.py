"""Table `users`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Float,
    Integer,
    Row,
    String,
    Table,
    bindparam,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.limits import Quota
from ..domain.users import Role, User, UserStatus
from .schema import Instant, contains, metadata

table = Table(
    "users",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("email", String(254), nullable=False, unique=True),
    Column("username", String(32), nullable=False, unique=True),
    Column("uid", BigInteger, nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("lab", String(100)),
    Column("quota_memory_bytes", BigInteger),
    Column("quota_cpus", Float),
    Column("quota_storage_bytes", BigInteger),
    Column("quota_instances", Integer),
    Column("created_at", Instant, nullable=False),
    Column("last_seen_at", Instant),
    Column("time_zone", String(64)),
)


def user_of(row: Row[Any]) -> User:
    """Out of a row with the table's columns."""
    return User(
        id=row.id,
        email=row.email,
        username=row.username,
        uid=row.uid,
        role=Role(row.role),
        status=UserStatus(row.status),
        lab=row.lab,
        created_at=row.created_at,
        last_seen_at=row.last_seen_at,
        quota=Quota(
            memory_bytes=row.quota_memory_bytes,
            cpus=row.quota_cpus,
            storage_bytes=row.quota_storage_bytes,
            instances=row.quota_instances,
        ),
        time_zone=row.time_zone,
    )


async def by_id(db: AsyncConnection, user_id: str) -> User | None:
    row = (await db.execute(select(table).where(table.c.id == user_id))).first()
    return user_of(row) if row else None


async def by_email(db: AsyncConnection, email: str) -> User | None:
    row = (await db.execute(select(table).where(table.c.email == email))).first()
    return user_of(row) if row else None


async def by_emails(db: AsyncConnection, emails: set[str]) -> dict[str, User]:
    rows = await db.execute(select(table).where(table.c.email.in_(emails)))
    return {row.email: user_of(row) for row in rows}


async def by_ids(db: AsyncConnection, user_ids: set[str]) -> dict[str, User]:
    rows = await db.execute(select(table).where(table.c.id.in_(user_ids)))
    return {row.id: user_of(row) for row in rows}


async def page(db: AsyncConnection, *, search: str = "", limit: int = 50, after: str | None = None) -> list[User]:
    """Users by e-mail address, from behind the address `after`; `search` looks in address, username and lab."""
    query = select(table).order_by(table.c.email).limit(limit)
    if after is not None:
        query = query.where(table.c.email > after)
    if search:
        query = query.where(found_by(search))
    return [user_of(row) for row in await db.execute(query)]


def found_by(search: str) -> ColumnElement[bool]:
    """What a search for users looks in."""
    return or_(*(contains(column, search) for column in (table.c.email, table.c.username, table.c.lab)))


async def active_admins(db: AsyncConnection) -> list[User]:
    query = select(table).where(table.c.role == Role.ADMIN, table.c.status == UserStatus.ACTIVE)
    return [user_of(row) for row in await db.execute(query.order_by(table.c.email))]


async def with_status(db: AsyncConnection, status: UserStatus) -> list[User]:
    query = select(table).where(table.c.status == status).order_by(table.c.id)
    return [user_of(row) for row in await db.execute(query)]


async def usernames_taken(db: AsyncConnection, candidates: list[str]) -> set[str]:
    rows = await db.execute(select(table.c.username).where(table.c.username.in_(candidates)))
    return {row.username for row in rows}


async def highest_uid(db: AsyncConnection) -> int | None:
    highest: int | None = (await db.execute(select(func.max(table.c.uid)))).scalar_one()
    return highest


async def count(db: AsyncConnection) -> int:
    return (await db.execute(select(func.count()).select_from(table))).scalar_one()


async def count_active_admins(db: AsyncConnection) -> int:
    query = select(func.count()).select_from(table)
    query = query.where(table.c.role == Role.ADMIN, table.c.status == UserStatus.ACTIVE)
    return (await db.execute(query)).scalar_one()


async def add(db: AsyncConnection, user: User) -> None:
    await db.execute(
        insert(table).values(
            id=user.id,
            email=user.email,
            username=user.username,
            uid=user.uid,
            role=user.role,
            status=user.status,
            lab=user.lab,
            created_at=user.created_at,
            last_seen_at=user.last_seen_at,
            **_quota_columns(user.quota),
        )
    )


async def save(db: AsyncConnection, user: User) -> None:
    """Writes what an administrator may change: role, status, lab, quota."""
    values: Mapping[str, Any] = {
        "role": user.role,
        "status": user.status,
        "lab": user.lab,
        **_quota_columns(user.quota),
    }
    await db.execute(update(table).where(table.c.id == user.id).values(**values))


async def set_lab(db: AsyncConnection, user_id: str, key: str | None) -> None:
    """Which of somebody's labs counts; None: they are in none."""
    await db.execute(update(table).where(table.c.id == user_id).values(lab=key))


async def set_time_zone(db: AsyncConnection, user_id: str, time_zone: str, *, only_if_unknown: bool = False) -> bool:
    """False: it was known already, and stays."""
    query = update(table).where(table.c.id == user_id)
    if only_if_unknown:
        query = query.where(table.c.time_zone.is_(None))
    return (await db.execute(query.values(time_zone=time_zone))).rowcount == 1


async def seen(db: AsyncConnection, user_id: str, at: datetime) -> None:
    await seen_all(db, {user_id: at})


async def seen_all(db: AsyncConnection, when: Mapping[str, datetime]) -> None:
    """By their ids, when users were there last."""
    if when:
        query = update(table).where(table.c.id == bindparam("one")).values(last_seen_at=bindparam("at"))
        await db.execute(query, [{"one": user_id, "at": at} for user_id, at in when.items()])


def _quota_columns(quota: Quota) -> dict[str, Any]:
    return {
        "quota_memory_bytes": quota.memory_bytes,
        "quota_cpus": quota.cpus,
        "quota_storage_bytes": quota.storage_bytes,
        "quota_instances": quota.instances,
    }
