"""Tables `challenges` (codes that were sent) and `verifications` (tries, for the limits)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Column, Index, Integer, Row, String, Table, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.signin import SignInChallenge
from .database import Instant, metadata

table = Table(
    "challenges",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("address", String(254), nullable=False),
    Column("client", String(64), nullable=False),
    Column("cookie_digest", String(64), nullable=False, unique=True),
    Column("code_digest", String(64), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("used_at", Instant),
    Column("browser", String(64)),  # digest of a browser that the address is known to use; else whoever asked
    Index("ix_challenges_address_created_at", "address", "created_at"),
    Index("ix_challenges_client_created_at", "client", "created_at"),
    Index("ix_challenges_created_at", "created_at"),
)

verifications = Table(
    "verifications",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("client", String(64), nullable=False),
    Column("address", String(254), nullable=False),
    Column("succeeded", Boolean, nullable=False),
    Column("at", Instant, nullable=False),
    Index("ix_verifications_client_at", "client", "at"),
    Index("ix_verifications_at", "at"),
    Index("ix_verifications_address_id", "address", "id"),
)


def _challenge(row: Row[Any]) -> SignInChallenge:
    return SignInChallenge(
        id=row.id,
        address=row.address,
        cookie_digest=row.cookie_digest,
        code_digest=row.code_digest,
        attempts=row.attempts,
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
    )


async def add(db: AsyncConnection, challenge: SignInChallenge, client: str, browser: str | None = None) -> None:
    await db.execute(
        insert(table).values(
            id=challenge.id,
            address=challenge.address,
            client=client,
            browser=browser,
            cookie_digest=challenge.cookie_digest,
            code_digest=challenge.code_digest,
            attempts=challenge.attempts,
            created_at=challenge.created_at,
            expires_at=challenge.expires_at,
        )
    )


async def by_cookie(db: AsyncConnection, cookie_digest: str) -> SignInChallenge | None:
    row = (await db.execute(select(table).where(table.c.cookie_digest == cookie_digest))).first()
    return _challenge(row) if row else None


async def spend_attempt(db: AsyncConnection, challenge_id: str, allowed: int, now: datetime) -> bool:
    """Counts one try, atomically; False when the challenge is dead: used, expired or out of tries."""
    result = await db.execute(
        update(table)
        .where(
            table.c.id == challenge_id,
            table.c.attempts < allowed,
            table.c.used_at.is_(None),
            table.c.expires_at > now,
        )
        .values(attempts=table.c.attempts + 1)
    )
    return result.rowcount == 1


async def use(db: AsyncConnection, challenge_id: str, now: datetime) -> bool:
    """Marks the challenge as used; True for exactly one caller."""
    query = update(table).where(table.c.id == challenge_id, table.c.used_at.is_(None)).values(used_at=now)
    return (await db.execute(query)).rowcount == 1


async def nth_newest_send(
    db: AsyncConnection,
    n: int,
    *,
    since: datetime,
    address: str | None = None,
    client: str | None = None,
    browser: str | None = None,
) -> datetime | None:
    """When the n-th newest code since then was asked for; None when there are fewer.

    Of an address by strangers, or from one of its browsers; or by a client.
    """
    query = select(table.c.created_at).where(table.c.created_at > since)
    if address is not None:
        query = query.where(table.c.address == address, table.c.browser == browser)  # None: IS NULL
    if client is not None:
        query = query.where(table.c.client == client)
    query = query.order_by(table.c.created_at.desc()).offset(n - 1).limit(1)
    return (await db.execute(query)).scalar_one_or_none()


async def record_verification(db: AsyncConnection, client: str, address: str, succeeded: bool, now: datetime) -> None:
    """A try. `succeeded` is False only where a code was held against a live challenge and was wrong.

    Without `address` it was held against none: it failed, too, but was no guess at anybody's code.
    """
    await db.execute(insert(verifications).values(client=client, address=address, succeeded=succeeded, at=now))


async def nth_newest_failure(
    db: AsyncConnection, n: int, *, since: datetime, client: str | None = None, guesses_only: bool = False
) -> datetime | None:
    """When the n-th newest failed try since then was; None when there are fewer. `guesses_only`: at somebody's code."""
    guess = verifications.c.succeeded.is_(False)
    query = select(verifications.c.at).where(verifications.c.at > since)
    query = query.where(guess if guesses_only else or_(guess, verifications.c.address == ""))
    if client is not None:
        query = query.where(verifications.c.client == client)
    return (await db.execute(query.order_by(verifications.c.at.desc()).offset(n - 1).limit(1))).scalar_one_or_none()


async def failures_in_a_row(db: AsyncConnection, address: str) -> int:
    """Failed tries on an address since its last success."""
    last_success = (
        select(func.max(verifications.c.id))
        .where(verifications.c.address == address, verifications.c.succeeded.is_(True))
        .scalar_subquery()
    )
    query = (
        select(func.count())
        .select_from(verifications)
        .where(verifications.c.address == address, verifications.c.succeeded.is_(False))
        .where(verifications.c.id > func.coalesce(last_success, 0))
    )
    return (await db.execute(query)).scalar_one()


async def prune(db: AsyncConnection, before: datetime) -> int:
    """Forgets challenges and tries from before that instant; returns how many."""
    gone = (await db.execute(delete(table).where(table.c.created_at < before))).rowcount
    return gone + (await db.execute(delete(verifications).where(verifications.c.at < before))).rowcount
