"""Table `outgoing_mails`: mails that have not been handed over yet, each encrypted under a key that is not in here.

A mail can hold a sign-in code, so nothing of it is readable in the database or in a backup of it; a row goes when the
mail has been sent, given up, or is of no use any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Column, Integer, LargeBinary, String, Table, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from .database import Instant, metadata

table = Table(
    "outgoing_mails",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False, index=True),
    Column("expires_at", Instant, nullable=False),
)


@dataclass(frozen=True)
class OutgoingMail:
    """`attempts` counts the tries that have begun. It is of use until `expires_at`."""

    id: str
    sealed: bytes
    attempts: int
    created_at: datetime
    due_at: datetime
    expires_at: datetime


async def add(db: AsyncConnection, mail: OutgoingMail) -> None:
    await db.execute(insert(table).values(vars(mail)))


async def claim(db: AsyncConnection, now: datetime, until: datetime, longest_pause: timedelta) -> OutgoingMail | None:
    """The mail that has been due for longest, with one more attempt counted; nobody else gets it before `until`.

    Args:
        longest_pause: no mail waits longer than this for its next try: one that seems to is due, too, since the clock
            has been set back.
    """
    due = or_(table.c.due_at <= now, table.c.due_at > now + longest_pause)
    row = (await db.execute(select(table).where(due).order_by(table.c.due_at, table.c.id).limit(1))).first()
    if row is None:
        return None
    mail = OutgoingMail(**{**row._mapping, "attempts": row.attempts + 1, "due_at": until})
    await db.execute(update(table).where(table.c.id == mail.id).values(attempts=mail.attempts, due_at=until))
    return mail


async def postpone(db: AsyncConnection, mail_id: str, due_at: datetime) -> None:
    await db.execute(update(table).where(table.c.id == mail_id).values(due_at=due_at))


async def remove(db: AsyncConnection, mail_id: str) -> None:
    await db.execute(delete(table).where(table.c.id == mail_id))


async def count(db: AsyncConnection) -> int:
    return (await db.execute(select(func.count()).select_from(table))).scalar_one()


async def first_due(db: AsyncConnection) -> datetime | None:
    """When the next one is due; None when there is none."""
    first: datetime | None = await db.scalar(select(func.min(table.c.due_at)))
    return first
