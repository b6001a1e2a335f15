"""Table `instances`. Every change of state goes through `move`, which checks the state it started from."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Row,
    String,
    Table,
    case,
    delete,
    false,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.causes import CauseKind
from ..domain.instances import ENDED, LIVE, Address, Instance, Stage, State, may_follow
from ..domain.limits import Limits, Use
from ..domain.paging import Place
from .database import Instant, metadata

table = Table(
    "instances",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("owner_id", ForeignKey("users.id"), nullable=False),
    Column("environment", String(31), nullable=False),
    Column("state", String(16), nullable=False),
    Column("stage", String(40), nullable=False),
    Column("reason", String(500)),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("cpus", Float, nullable=False),
    Column("storage_bytes", BigInteger, nullable=False),
    Column("days", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("ended_at", Instant),
    Column("ending_as", String(16)),
    Column("host", String(64)),
    Column("port", Integer),
    Column("image", String(300)),
    Column("stand_in", Boolean, nullable=False, default=False),
    Column("carrier", String(40)),
    Column("safe_mode", Boolean, nullable=False, default=False, server_default=false()),
    Column("ended_by", String(254)),
    Column("cause", String(16)),
    Column("oom_count", Integer, nullable=False, default=0, server_default="0"),
    Column("oom_at", Instant),
    Index("ix_instances_owner_id_created_at", "owner_id", "created_at"),
    Index("ix_instances_state", "state"),
)


def _instance(row: Row[Any]) -> Instance:
    return Instance(
        id=row.id,
        owner_id=row.owner_id,
        environment=row.environment,
        state=State(row.state),
        stage=Stage(row.stage),
        reason=row.reason,
        limits=Limits(row.memory_bytes, row.cpus, row.storage_bytes, row.days),
        created_at=row.created_at,
        expires_at=row.expires_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        ending_as=State(row.ending_as) if row.ending_as else None,
        address=Address(row.host, row.port) if row.port is not None else None,
        image=row.image,
        stand_in=row.stand_in,
        carrier=row.carrier,
        safe_mode=row.safe_mode,
        ended_by=row.ended_by,
        cause=CauseKind(row.cause) if row.cause else None,
        oom_count=row.oom_count,
        oom_at=row.oom_at,
    )


async def add(db: AsyncConnection, instance: Instance) -> None:
    await db.execute(
        insert(table).values(
            id=instance.id,
            owner_id=instance.owner_id,
            environment=instance.environment,
            state=instance.state,
            stage=instance.stage,
            memory_bytes=instance.limits.memory_bytes,
            cpus=instance.limits.cpus,
            storage_bytes=instance.limits.storage_bytes,
            days=instance.limits.days,
            created_at=instance.created_at,
            expires_at=instance.expires_at,
            carrier=instance.carrier,
            stand_in=instance.stand_in,
            safe_mode=instance.safe_mode,
        )
    )


async def by_id(db: AsyncConnection, instance_id: str) -> Instance | None:
    """Any owner's; for the carrier, the sweep and administrators. Users' requests go through `owned`."""
    row = (await db.execute(select(table).where(table.c.id == instance_id))).first()
    return _instance(row) if row else None


async def by_ids(db: AsyncConnection, instance_ids: Collection[str]) -> list[Instance]:
    """Those of them that there are, any owner's."""
    return [_instance(row) for row in await db.execute(select(table).where(table.c.id.in_(instance_ids)))]


async def count_out_of_memory(db: AsyncConnection, instance_id: str, at: datetime, not_since: datetime) -> bool:
    """Records that the kernel ended something in a live instance for memory; one kill may be told several times.

    Args:
        not_since: what was told since then was the same one.
    """
    query = update(table).where(table.c.id == instance_id, table.c.state.in_([State.STARTING, State.RUNNING]))
    anew = or_(table.c.oom_at.is_(None), table.c.oom_at < not_since)
    counted = table.c.oom_count + case((anew, 1), else_=0)
    return (await db.execute(query.values(oom_count=counted, oom_at=at))).rowcount == 1


async def owned(db: AsyncConnection, instance_id: str, owner_id: str) -> Instance | None:
    query = select(table).where(table.c.id == instance_id, table.c.owner_id == owner_id)
    row = (await db.execute(query)).first()
    return _instance(row) if row else None


async def of_owner(
    db: AsyncConnection,
    owner_id: str,
    *,
    states: Iterable[State] = LIVE,
    limit: int = 100,
    before: Place | None = None,
) -> list[Instance]:
    """Newest first."""
    query = select(table).where(table.c.owner_id == owner_id, table.c.state.in_(list(states)))
    if before is not None:
        query = query.where(tuple_(table.c.created_at, table.c.id) < (before.at, before.key))
    query = query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
    return [_instance(row) for row in await db.execute(query)]


async def page(
    db: AsyncConnection, *, states: Iterable[State] = LIVE, limit: int = 100, before: Place | None = None
) -> list[Instance]:
    """Everyone's, newest first."""
    query = select(table).where(table.c.state.in_(list(states)))
    if before is not None:
        query = query.where(tuple_(table.c.created_at, table.c.id) < (before.at, before.key))
    query = query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
    return [_instance(row) for row in await db.execute(query)]


async def ended(
    db: AsyncConnection, owner_id: str | None = None, *, limit: int = 100, before: Place | None = None
) -> list[Instance]:
    """One owner's ended ones or everyone's, the latest end first; a page begins behind the `ended_place` of one."""
    query = select(table).where(table.c.state.in_(list(ENDED)))
    if owner_id is not None:
        query = query.where(table.c.owner_id == owner_id)
    if before is not None:
        query = query.where(tuple_(table.c.ended_at, table.c.id) < (before.at, before.key))
    query = query.order_by(table.c.ended_at.desc(), table.c.id.desc()).limit(limit)
    return [_instance(row) for row in await db.execute(query)]


async def in_states(db: AsyncConnection, *states: State) -> list[Instance]:
    """Everyone's in these states, oldest first."""
    query = select(table).where(table.c.state.in_(states)).order_by(table.c.created_at, table.c.id)
    return [_instance(row) for row in await db.execute(query)]


async def reserved(db: AsyncConnection, owner_id: str | None = None) -> Use:
    """What live instances have reserved: one owner's with those that queue, everyone's without them."""
    states = LIVE if owner_id is not None else LIVE - {State.QUEUED}
    query = select(
        func.coalesce(func.sum(table.c.memory_bytes), 0), func.coalesce(func.sum(table.c.cpus), 0), func.count()
    ).where(table.c.state.in_(states))
    if owner_id is not None:
        query = query.where(table.c.owner_id == owner_id)
    memory_bytes, cpus, number = (await db.execute(query)).one()
    return Use(int(memory_bytes), float(cpus), number)


async def newest_at(db: AsyncConnection) -> datetime | None:
    """When the latest instance was asked for, or says it was."""
    query = select(table.c.created_at).order_by(table.c.created_at.desc()).limit(1)
    return (await db.execute(query)).scalar_one_or_none()


async def count_by_state(db: AsyncConnection) -> dict[State, int]:
    rows = await db.execute(select(table.c.state, func.count()).group_by(table.c.state))
    return {State(state): number for state, number in rows}


async def queue_position(db: AsyncConnection, instance: Instance) -> int:
    """1 for the next to start."""
    ahead = select(func.count()).select_from(table)
    ahead = ahead.where(
        table.c.state == State.QUEUED,
        tuple_(table.c.created_at, table.c.id) < tuple_(literal(instance.created_at, Instant), instance.id),
    )
    return (await db.execute(ahead)).scalar_one() + 1


async def move(db: AsyncConnection, instance_id: str, before: State, after: State, **values: Any) -> bool:
    """Changes the state if it is still `before`; False when another process was quicker.

    Raises:
        ValueError: `after` may not follow `before`, which is a fault of the program.
    """
    if not may_follow(before, after):
        raise ValueError(f"an instance cannot go from {before} to {after}")
    if after in ENDED:
        values |= {"host": None, "port": None, "stage": Stage.ENDED, "carrier": None}
    query = update(table).where(table.c.id == instance_id, table.c.state == before).values(state=after, **values)
    return (await db.execute(query)).rowcount == 1


async def note(db: AsyncConnection, instance_id: str, **values: Any) -> None:
    """Writes columns that do not change the state: stage, image, carrier, expires_at, host, port."""
    if "state" in values:
        raise ValueError("the state is changed by move()")
    await db.execute(update(table).where(table.c.id == instance_id).values(**values))


async def forget(db: AsyncConnection, instance_id: str, owner_id: str) -> bool:
    """Removes the record of an ended instance."""
    query = delete(table).where(table.c.id == instance_id, table.c.owner_id == owner_id, table.c.state.in_(ENDED))
    return (await db.execute(query)).rowcount == 1
