"""Tables `passkeys` and `passkey_challenges` (what a device is to sign, once)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    LargeBinary,
    Row,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.passkeys import Passkey
from .database import Instant, metadata

table = Table(
    "passkeys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("credential_id", String(1400), nullable=False, unique=True),  # at most 1023 bytes (WebAuthn 2, 4)
    Column("public_key", LargeBinary, nullable=False),
    Column("sign_count", BigInteger, nullable=False),
    Column("name", String(60), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("last_used_at", Instant),
)

challenges = Table(
    "passkey_challenges",
    metadata,
    Column("key", String(80), primary_key=True),
    Column("challenge", LargeBinary, nullable=False),
    Column("expires_at", Instant, nullable=False),
)


def _passkey(row: Row[Any]) -> Passkey:
    return Passkey(
        id=row.id,
        user_id=row.user_id,
        credential_id=row.credential_id,
        public_key=row.public_key,
        sign_count=row.sign_count,
        name=row.name,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
    )


async def add(db: AsyncConnection, passkey: Passkey) -> None:
    await db.execute(insert(table).values(**vars(passkey)))


async def of_user(db: AsyncConnection, user_id: str) -> list[Passkey]:
    query = select(table).where(table.c.user_id == user_id).order_by(table.c.created_at, table.c.id)
    return [_passkey(row) for row in await db.execute(query)]


async def count(db: AsyncConnection, user_id: str) -> int:
    query = select(func.count()).select_from(table).where(table.c.user_id == user_id)
    return (await db.execute(query)).scalar_one()


async def by_credential(db: AsyncConnection, credential_id: str) -> Passkey | None:
    row = (await db.execute(select(table).where(table.c.credential_id == credential_id))).first()
    return _passkey(row) if row else None


async def used(db: AsyncConnection, passkey_id: str, sign_count: int, at: datetime) -> None:
    await db.execute(update(table).where(table.c.id == passkey_id).values(sign_count=sign_count, last_used_at=at))


async def remove(db: AsyncConnection, passkey_id: str, owner_id: str) -> Passkey | None:
    """The passkey, which is gone afterwards; None when it is not one of the owner's."""
    row = (
        await db.execute(delete(table).where(table.c.id == passkey_id, table.c.user_id == owner_id).returning(*table.c))
    ).first()
    return _passkey(row) if row else None


async def remove_all(db: AsyncConnection, owner_id: str) -> int:
    return (await db.execute(delete(table).where(table.c.user_id == owner_id))).rowcount


async def keep_challenge(db: AsyncConnection, key: str, challenge: bytes, expires_at: datetime) -> None:
    """One a key; an older one is replaced."""
    await db.execute(delete(challenges).where(challenges.c.key == key))
    await db.execute(insert(challenges).values(key=key, challenge=challenge, expires_at=expires_at))


async def take_challenge(db: AsyncConnection, key: str, now: datetime) -> bytes | None:
    """The challenge, which is gone afterwards: of many who come with it, one gets it."""
    gone = delete(challenges).where(challenges.c.key == key)
    row = (await db.execute(gone.returning(challenges.c.challenge, challenges.c.expires_at))).first()
    return row.challenge if row and now < row.expires_at else None


async def prune(db: AsyncConnection, now: datetime) -> int:
    return (await db.execute(delete(challenges).where(challenges.c.expires_at < now))).rowcount
