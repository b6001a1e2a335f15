"""Tables `tickets` (one-time ways into an instance) and `grants` (what a ticket became: an instance cookie)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, ForeignKey, Index, String, Table, bindparam, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.instances import Address, State
from . import instances, logins, users
from .database import Instant, metadata

tickets = Table(
    "tickets",
    metadata,
    Column("secret_digest", String(64), primary_key=True),
    Column("instance_id", ForeignKey("instances.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("login_id", ForeignKey("logins.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("expires_at", Instant, nullable=False),
    Index("ix_tickets_expires_at", "expires_at"),
)

grants = Table(
    "grants",
    metadata,
    Column("secret_digest", String(64), primary_key=True),
    Column("instance_id", ForeignKey("instances.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("login_id", ForeignKey("logins.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", Instant, nullable=False),
)


@dataclass(frozen=True)
class Ticket:
    instance_id: str
    login_id: str
    expires_at: datetime


@dataclass(frozen=True)
class GateRow:
    """All that one request's decision needs, from one query. `freeze_asked_at`: it is frozen, or is to be."""

    instance_state: str
    reason: str | None
    environment: str
    host: str | None
    port: int | None
    owner_id: str
    username: str
    uid: int
    user_status: str
    login_id: str
    login_user_id: str
    login_expires_at: datetime
    login_last_seen_at: datetime
    login_remembered: bool
    freeze_asked_at: datetime | None
    owner_email: str


@dataclass(frozen=True)
class ActiveGrant:
    """An instance that runs or is being stopped, and one login that was let into it; None where none was."""

    instance_id: str
    address: Address
    is_running: bool
    user_status: str
    login_id: str | None
    login_expires_at: datetime | None
    login_last_seen_at: datetime | None
    login_remembered: bool | None


async def add_ticket(db: AsyncConnection, secret_digest: str, ticket: Ticket) -> None:
    await db.execute(insert(tickets).values(secret_digest=secret_digest, **vars(ticket)))


async def take_ticket(db: AsyncConnection, secret_digest: str) -> Ticket | None:
    """The ticket, which is gone afterwards: of two who come with it, one gets it."""
    row = (
        await db.execute(
            delete(tickets)
            .where(tickets.c.secret_digest == secret_digest)
            .returning(tickets.c.instance_id, tickets.c.login_id, tickets.c.expires_at)
        )
    ).first()
    return Ticket(row.instance_id, row.login_id, row.expires_at) if row else None


async def add_grant(
    db: AsyncConnection, secret_digest: str, instance_id: str, login_id: str, created_at: datetime
) -> None:
    """A login has one grant an instance; an older one stops working."""
    await db.execute(delete(grants).where(grants.c.instance_id == instance_id, grants.c.login_id == login_id))
    await db.execute(
        insert(grants).values(
            secret_digest=secret_digest, instance_id=instance_id, login_id=login_id, created_at=created_at
        )
    )


async def environment_of(db: AsyncConnection, instance_id: str) -> str | None:
    """The environment of the instance that a ticket or grant is for."""
    column = instances.table.c.environment
    return await db.scalar(select(column).where(instances.table.c.id == instance_id))


_DECIDE = (
    select(
        instances.table.c.state,
        instances.table.c.reason,
        instances.table.c.environment,
        instances.table.c.host,
        instances.table.c.port,
        instances.table.c.owner_id,
        users.table.c.username,
        users.table.c.uid,
        users.table.c.status,
        logins.table.c.id,
        logins.table.c.user_id,
        logins.table.c.expires_at,
        logins.table.c.last_seen_at,
        logins.table.c.remembered,
        instances.table.c.freeze_asked_at,
        users.table.c.email,
    )
    .select_from(grants)
    .join(instances.table, instances.table.c.id == grants.c.instance_id)
    .join(logins.table, logins.table.c.id == grants.c.login_id)
    .join(users.table, users.table.c.id == instances.table.c.owner_id)
    .where(grants.c.secret_digest == bindparam("secret_digest"), grants.c.instance_id == bindparam("instance_id"))
)


async def decide(db: AsyncConnection, secret_digest: str, instance_id: str) -> GateRow | None:
    """What the grant and the instance belong to, or None when there is no such grant for that instance."""
    row = (await db.execute(_DECIDE, {"secret_digest": secret_digest, "instance_id": instance_id})).first()
    return GateRow(*tuple(row)) if row else None


_ACTIVE_GRANTS = (
    select(
        instances.table.c.id,
        instances.table.c.host,
        instances.table.c.port,
        instances.table.c.state,
        users.table.c.status,
        logins.table.c.id,
        logins.table.c.expires_at,
        logins.table.c.last_seen_at,
        logins.table.c.remembered,
    )
    .select_from(instances.table)
    .join(users.table, users.table.c.id == instances.table.c.owner_id)
    .outerjoin(grants, grants.c.instance_id == instances.table.c.id)
    .outerjoin(logins.table, logins.table.c.id == grants.c.login_id)
    .where(instances.table.c.state.in_((State.RUNNING, State.STOPPING)), instances.table.c.port.is_not(None))
)


async def active_grants(db: AsyncConnection) -> list[ActiveGrant]:
    """Every instance whose container may be up, with every login that holds its cookie, live or not."""
    rows = [tuple(row) for row in await db.execute(_ACTIVE_GRANTS)]
    return [
        ActiveGrant(instance_id, Address(host, port), state == State.RUNNING, *rest)
        for instance_id, host, port, state, *rest in rows
    ]


async def prune(db: AsyncConnection, now: datetime) -> int:
    return (await db.execute(delete(tickets).where(tickets.c.expires_at < now))).rowcount
