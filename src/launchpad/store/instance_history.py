"""Table `instance_history`: every end, once and for ever. It is written in the transaction of the end.

Lists of what has ended are read from here, so the table `instances` need not keep it. A record is immutable, and the
database itself refuses to change or remove one; only when its owner took it off their list is noted, once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    Row,
    Select,
    String,
    Table,
    false,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.causes import CauseKind
from ..domain.history import HistoryRecord, UsedInAll
from ..domain.instances import Instance, Stage, State
from ..domain.limits import Limits
from ..domain.paging import Place
from ..domain.replay import PastInstance
from .schema import Instant, metadata

ROWS_AT_ONCE = 500

table = Table(
    "instance_history",
    metadata,
    Column("instance_id", String(16), primary_key=True),
    # No foreign key: a record outlives the row of its owner, too.
    Column("owner_id", String(16), nullable=False),
    Column("owner_email", String(254), nullable=False),
    Column("lab", String(100)),
    Column("environment", String(31), nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("cpus", Float, nullable=False),
    Column("storage_bytes", BigInteger, nullable=False),
    Column("days", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("admitted_at", Instant),
    Column("started_at", Instant),
    Column("ended_at", Instant, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(500), nullable=False),
    Column("ended_by", String(254)),
    Column("cause", String(16)),
    Column("oom_count", Integer, nullable=False),
    Column("oom_at", Instant),
    Column("oom_program", String(60)),
    Column("oom_bytes", BigInteger),
    Column("oom_limit_bytes", BigInteger),
    Column("launched_memory_bytes", BigInteger),
    Column("image", String(300)),
    Column("stand_in", Boolean, nullable=False),
    Column("safe_mode", Boolean, nullable=False, server_default=false()),
    Column("cpu_seconds", Float),
    Column("peak_memory_bytes", BigInteger),
    Column("removed_at", Instant),
    Index("ix_instance_history_ended_at", "ended_at", "instance_id"),
    Index("ix_instance_history_state_ended_at", "state", "ended_at", "instance_id"),
    Index("ix_instance_history_environment_state_ended_at", "environment", "state", "ended_at", "instance_id"),
    Index("ix_instance_history_created_at", "created_at", "instance_id"),
    Index("ix_instance_history_owner_id_ended_at", "owner_id", "ended_at", "instance_id"),
    Index("ix_instance_history_owner_id_created_at", "owner_id", "created_at", "instance_id"),
)


def _instance(row: Row[Any]) -> Instance:
    return Instance(
        id=row.instance_id,
        owner_id=row.owner_id,
        environment=row.environment,
        state=State(row.state),
        stage=Stage.ENDED,
        reason=row.reason,
        limits=Limits(row.memory_bytes, row.cpus, row.storage_bytes, row.days),
        created_at=row.created_at,
        expires_at=row.expires_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        image=row.image,
        stand_in=row.stand_in,
        safe_mode=row.safe_mode,
        ended_by=row.ended_by,
        cause=CauseKind(row.cause) if row.cause else None,
        oom_count=row.oom_count,
        oom_at=row.oom_at,
        oom_program=row.oom_program,
        oom_bytes=row.oom_bytes,
        oom_limit_bytes=row.oom_limit_bytes,
        launched_memory_bytes=row.launched_memory_bytes,
        admitted_at=row.admitted_at,
    )


async def add(db: AsyncConnection, record: HistoryRecord) -> None:
    """Records an end.

    Raises:
        IntegrityError: it has been recorded already, which is a fault of the program.
    """
    instance, used = record.instance, record.used
    await db.execute(
        insert(table).values(
            instance_id=instance.id,
            owner_id=instance.owner_id,
            owner_email=record.owner_email,
            lab=record.lab,
            environment=instance.environment,
            memory_bytes=instance.limits.memory_bytes,
            cpus=instance.limits.cpus,
            storage_bytes=instance.limits.storage_bytes,
            days=instance.limits.days,
            created_at=instance.created_at,
            expires_at=instance.expires_at,
            admitted_at=instance.admitted_at,
            started_at=instance.started_at,
            ended_at=instance.ended_at,
            state=instance.state,
            reason=instance.reason,
            ended_by=instance.ended_by,
            cause=instance.cause,
            oom_count=instance.oom_count,
            oom_at=instance.oom_at,
            oom_program=instance.oom_program,
            oom_bytes=instance.oom_bytes,
            oom_limit_bytes=instance.oom_limit_bytes,
            launched_memory_bytes=instance.launched_memory_bytes,
            image=instance.image,
            stand_in=instance.stand_in,
            safe_mode=instance.safe_mode,
            cpu_seconds=used.cpu_seconds if used else None,
            peak_memory_bytes=used.peak_memory_bytes if used else None,
        )
    )


async def by_id(db: AsyncConnection, instance_id: str) -> HistoryRecord | None:
    """Anybody's, also when its owner has taken it off their list."""
    row = (await db.execute(select(table).where(table.c.instance_id == instance_id))).first()
    if row is None:
        return None
    used = None if row.cpu_seconds is None else UsedInAll(row.cpu_seconds, row.peak_memory_bytes)
    return HistoryRecord(_instance(row), row.owner_email, row.lab, used, row.removed_at)


async def by_ids(db: AsyncConnection, instance_ids: Sequence[str]) -> list[Instance]:
    """In the order of the ids; those that have no record are left out."""
    rows = await db.execute(select(table).where(table.c.instance_id.in_(instance_ids)))
    found = {row.instance_id: _instance(row) for row in rows}
    return [found[instance_id] for instance_id in instance_ids if instance_id in found]


async def owned(db: AsyncConnection, instance_id: str, owner_id: str) -> Instance | None:
    """None also when its owner has taken it off their list."""
    query = _listed(owner_id).where(table.c.instance_id == instance_id)
    row = (await db.execute(query)).first()
    return _instance(row) if row else None


async def latest(
    db: AsyncConnection, owner_id: str | None = None, *, limit: int = 100, before: Place | None = None
) -> list[Instance]:
    """One owner's list or everyone's, the latest end first; a page begins behind the `ended_place` of one."""
    query = _listed(owner_id)
    if before is not None:
        query = query.where(tuple_(table.c.ended_at, table.c.instance_id) < (before.at, before.key))
    query = query.order_by(table.c.ended_at.desc(), table.c.instance_id.desc()).limit(limit)
    return [_instance(row) for row in await db.execute(query)]


async def newest(
    db: AsyncConnection, owner_id: str | None = None, *, limit: int = 100, before: Place | None = None
) -> list[Instance]:
    """One owner's list or everyone's, what was launched last first; a page begins behind the `place` of one."""
    query = _listed(owner_id)
    if before is not None:
        query = query.where(tuple_(table.c.created_at, table.c.instance_id) < (before.at, before.key))
    query = query.order_by(table.c.created_at.desc(), table.c.instance_id.desc()).limit(limit)
    return [_instance(row) for row in await db.execute(query)]


async def past(db: AsyncConnection, since: datetime) -> AsyncIterator[PastInstance]:
    """All that were running and ended after `since`, few at a time."""
    columns = table.c
    query = select(
        *(columns.instance_id, columns.owner_email, columns.lab, columns.environment),
        *(columns.memory_bytes, columns.cpus, columns.started_at, columns.ended_at),
    ).where(columns.ended_at > since, columns.started_at.is_not(None))
    async with db.stream(query) as rows:
        async for some in rows.partitions(ROWS_AT_ONCE):
            for row in some:
                yield PastInstance(*row)


async def remove_from_list(db: AsyncConnection, instance_id: str, owner_id: str, at: datetime) -> bool:
    """Takes it off its owner's list; the record stays."""
    query = update(table).where(
        table.c.instance_id == instance_id, table.c.owner_id == owner_id, table.c.removed_at.is_(None)
    )
    return (await db.execute(query.values(removed_at=at))).rowcount == 1


def _listed(owner_id: str | None) -> Select[Any]:
    """What stands in one owner's list; for administrators (None) everything."""
    query = select(table)
    return query if owner_id is None else query.where(table.c.owner_id == owner_id, table.c.removed_at.is_(None))
