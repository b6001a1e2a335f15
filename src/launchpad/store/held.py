"""What live instances hold, and for which lab: what admission decides by, from one look at two tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.instances import LIVE, State
from ..domain.limits import Limits
from . import instances, users


@dataclass(frozen=True)
class Held:
    """One live instance that does not queue; `lab` is its owner's.

    `limits` is its size, and `counts` what of it counts for the server's capacity: less while it is frozen.
    """

    owner_id: str
    lab: str | None
    state: State
    limits: Limits
    counts: Limits
    since: datetime
    ends_at: datetime


async def everything(db: AsyncConnection) -> list[Held]:
    """Of everything live that does not queue."""
    own, owner = instances.table.c, users.table.c
    query = select(
        own.owner_id,
        owner.lab,
        own.state,
        own.memory_bytes,
        own.cpus,
        own.storage_bytes,
        own.days,
        own.admitted_at,
        own.created_at,
        own.expires_at,
        own.grace_until,
        instances.HELD_BYTES.label("held_bytes"),
        instances.HELD_CPUS.label("held_cpus"),
    )
    query = query.join(users.table, owner.id == own.owner_id)
    query = query.where(own.state.in_(sorted(LIVE - {State.QUEUED})))
    return [
        Held(
            owner_id=row.owner_id,
            lab=row.lab,
            state=State(row.state),
            limits=Limits(row.memory_bytes, row.cpus, row.storage_bytes, row.days),
            counts=Limits(int(row.held_bytes), float(row.held_cpus), row.storage_bytes, row.days),
            since=row.admitted_at or row.created_at,
            ends_at=max(row.expires_at, row.grace_until or row.expires_at),
        )
        for row in await db.execute(query)
    ]
