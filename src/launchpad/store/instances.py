"""Table `instances`. Every change of state goes through `move`, which checks the state it started from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    Select,
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
    union_all,
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
    Column("safe_mode", Boolean, nullable=False, default=False, server_default=false()),
    Column("ended_by", String(254)),
    Column("cause", String(16)),
    Column("oom_count", Integer, nullable=False, default=0, server_default="0"),
    Column("oom_at", Instant),
    Column("oom_program", String(60)),
    Column("oom_bytes", BigInteger),
    Column("oom_limit_bytes", BigInteger),
    Column("launched_memory_bytes", BigInteger),
    Column("memory_warned_at", Instant),
    Column("written_bytes", BigInteger),
    Column("admitted_at", Instant),
    Column("freeze_asked_at", Instant),
    Column("frozen_at", Instant),
    Column("frozen_reason", String(300)),
    Column("frozen_memory_bytes", BigInteger),
    Column("extended_at", Instant),
    Column("grace_until", Instant),
    Column("queue_rank", Float),
    Column("estimated_start_at", Instant),
    Column("passed_until", Instant),
    Column("kept_until", Instant),
    Index("ix_instances_owner_id_created_at", "owner_id", "created_at"),
    Index("ix_instances_created_at_id", "created_at", "id"),
    Index("ix_instances_state_ended_at_id", "state", "ended_at", "id"),
    Index("ix_instances_environment_state_ended_at_id", "environment", "state", "ended_at", "id"),
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
        safe_mode=row.safe_mode,
        ended_by=row.ended_by,
        cause=CauseKind(row.cause) if row.cause else None,
        oom_count=row.oom_count,
        oom_at=row.oom_at,
        oom_program=row.oom_program,
        oom_bytes=row.oom_bytes,
        oom_limit_bytes=row.oom_limit_bytes,
        launched_memory_bytes=row.launched_memory_bytes,
        memory_warned_at=row.memory_warned_at,
        written_bytes=row.written_bytes,
        admitted_at=row.admitted_at,
        freeze_asked_at=row.freeze_asked_at,
        frozen_at=row.frozen_at,
        frozen_reason=row.frozen_reason,
        frozen_memory_bytes=row.frozen_memory_bytes,
        extended_at=row.extended_at,
        grace_until=row.grace_until,
        queue_rank=row.queue_rank,
        estimated_start_at=row.estimated_start_at,
        passed_until=row.passed_until,
        kept_until=row.kept_until,
    )


HELD_BYTES = case(
    (table.c.frozen_at.is_not(None), func.coalesce(table.c.frozen_memory_bytes, table.c.memory_bytes)),
    else_=table.c.memory_bytes,
)
HELD_CPUS = case((table.c.frozen_at.is_not(None), 0.0), else_=table.c.cpus)
_AWAKE = {"freeze_asked_at": None, "frozen_at": None, "frozen_reason": None, "frozen_memory_bytes": None}


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
            stand_in=instance.stand_in,
            safe_mode=instance.safe_mode,
            admitted_at=instance.admitted_at,
        )
    )


async def by_id(db: AsyncConnection, instance_id: str) -> Instance | None:
    """Any owner's; for the runner, the sweep and administrators. Users' requests go through `owned`."""
    row = (await db.execute(select(table).where(table.c.id == instance_id))).first()
    return _instance(row) if row else None


async def by_ids(db: AsyncConnection, instance_ids: Sequence[str]) -> list[Instance]:
    """Any owner's, in the order of their ids in `instance_ids`; what is not there is left out."""
    rows = await db.execute(select(table).where(table.c.id.in_(instance_ids)))
    found = {row.id: _instance(row) for row in rows}
    return [found[instance_id] for instance_id in instance_ids if instance_id in found]


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
    query = _in_any(select(table).where(table.c.owner_id == owner_id), states)
    if before is not None:
        query = query.where(tuple_(table.c.created_at, table.c.id) < (before.at, before.key))
    query = query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
    return [_instance(row) for row in await db.execute(query)]


def _in_any(query: Select[Any], states: Iterable[State]) -> Select[Any]:
    """Without a condition where all are wanted, so that the index of the order is read."""
    wanted = frozenset(states)
    return query if wanted == LIVE | ENDED else query.where(table.c.state.in_(wanted))


async def page(
    db: AsyncConnection, *, states: Iterable[State] = LIVE, limit: int = 100, before: Place | None = None
) -> list[Instance]:
    """Everyone's, newest first."""
    query = _in_any(select(table), states)
    if before is not None:
        query = query.where(tuple_(table.c.created_at, table.c.id) < (before.at, before.key))
    query = query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
    return [_instance(row) for row in await db.execute(query)]


async def in_states(db: AsyncConnection, *states: State) -> list[Instance]:
    """Everyone's in these states, oldest first."""
    query = select(table).where(table.c.state.in_(states)).order_by(table.c.created_at, table.c.id)
    return [_instance(row) for row in await db.execute(query)]


async def reserved(db: AsyncConnection, owner_id: str | None = None) -> Use:
    """What live instances have reserved: one owner's with those that queue, everyone's without them.

    Of everyone's, frozen ones have no cores and only the memory that counts for them; a quota counts them whole.
    """
    states = LIVE if owner_id is not None else LIVE - {State.QUEUED}
    memory, cpus = (table.c.memory_bytes, table.c.cpus) if owner_id is not None else (HELD_BYTES, HELD_CPUS)
    query = select(func.coalesce(func.sum(memory), 0), func.coalesce(func.sum(cpus), 0), func.count())
    query = query.where(table.c.state.in_(states))
    if owner_id is not None:
        query = query.where(table.c.owner_id == owner_id)
    memory_bytes, cpus, number = (await db.execute(query)).one()
    return Use(int(memory_bytes), float(cpus), number)


async def count_starting(db: AsyncConnection, since: datetime) -> int:
    """How many starts were admitted since then and are not over."""
    query = select(func.count()).select_from(table).where(table.c.state == State.STARTING)
    query = query.where(or_(table.c.admitted_at.is_(None), table.c.admitted_at > since))
    return (await db.execute(query)).scalar_one()


async def newest_at(db: AsyncConnection) -> datetime | None:
    """When the latest instance was asked for, or says it was."""
    query = select(table.c.created_at).order_by(table.c.created_at.desc()).limit(1)
    return (await db.execute(query)).scalar_one_or_none()


async def count_by_state(db: AsyncConnection) -> dict[State, int]:
    rows = await db.execute(select(table.c.state, func.count()).group_by(table.c.state))
    return {State(state): number for state, number in rows}


async def ended_and_live(db: AsyncConnection) -> tuple[dict[State, int], set[str]]:
    """How many have ended in each state, and the ids of those that have not; one statement, so of one moment."""
    ended = select(table.c.state, literal(None, String).label("id"), func.count().label("number"))
    ended = ended.where(table.c.state.in_(ENDED)).group_by(table.c.state)
    live = select(table.c.state, table.c.id, literal(1)).where(table.c.state.in_(LIVE))
    rows = (await db.execute(union_all(ended, live))).all()
    counts = {State(state): number for state, instance_id, number in rows if instance_id is None}
    return counts, {instance_id for _, instance_id, _ in rows if instance_id is not None}


async def queue(db: AsyncConnection) -> list[Instance]:
    """What queues, the next to start first."""
    return sorted(await in_states(db, State.QUEUED), key=lambda one: one.queue_place)


async def queue_ids(db: AsyncConnection) -> list[str]:
    """As `queue`, the ids alone."""
    query = select(table.c.id).where(table.c.state == State.QUEUED)
    query = query.order_by(table.c.queue_rank.is_(None), table.c.queue_rank, table.c.created_at, table.c.id)
    return [str(row.id) for row in await db.execute(query)]


async def queue_position(db: AsyncConnection, instance: Instance) -> int:
    """1 for the next to start. An instance that queues no more would be the last one."""
    ids = await queue_ids(db)
    return ids.index(instance.id) + 1 if instance.id in ids else len(ids) + 1


async def move(db: AsyncConnection, instance_id: str, before: State, after: State, **values: Any) -> bool:
    """Changes the state if it is still `before`; False when another process was quicker.

    Raises:
        ValueError: `after` may not follow `before`, or is an end (see `end`), which is a fault of the program.
    """
    if after in ENDED:
        raise ValueError("an instance is ended by end()")
    return await _move(db, instance_id, before, after, values)


async def end(
    db: AsyncConnection,
    instance_id: str,
    before: State,
    after: State,
    *,
    reason: str,
    ended_at: datetime,
    **values: Any,
) -> bool:
    """Ends it if it is still `before`; False when another process was quicker. The history gets it by whoever calls.

    Raises:
        ValueError: `after` is no end that may follow `before`, or there is no reason: a fault of the program.
    """
    if after not in ENDED or not reason:
        raise ValueError("an end has its state and its reason")
    values |= {"reason": reason, "ended_at": ended_at}
    values |= {"host": None, "port": None, "stage": Stage.ENDED}
    return await _move(db, instance_id, before, after, values)


async def _move(db: AsyncConnection, instance_id: str, before: State, after: State, values: dict[str, Any]) -> bool:
    if not may_follow(before, after):
        raise ValueError(f"an instance cannot go from {before} to {after}")
    if before is State.RUNNING:
        values = {**_AWAKE, **values}  # what ends is awake, so that it can save
    query = update(table).where(table.c.id == instance_id, table.c.state == before).values(state=after, **values)
    return (await db.execute(query)).rowcount == 1


async def note(db: AsyncConnection, instance_id: str, **values: Any) -> None:
    """Writes columns that do not change the state: stage, image, expires_at, host, port, and others."""
    if "state" in values:
        raise ValueError("the state is changed by move()")
    await db.execute(update(table).where(table.c.id == instance_id).values(**values))


async def advance(db: AsyncConnection, instance_id: str, stage: Stage, **values: Any) -> bool:
    """Notes how far a start is; False when it is none any more."""
    query = update(table).where(table.c.id == instance_id, table.c.state == State.STARTING)
    return (await db.execute(query.values(stage=stage, **values))).rowcount == 1


async def ask_freeze(db: AsyncConnection, instance_id: str, at: datetime, reason: str) -> bool:
    """Records that a running instance is to be frozen; False when it does not run, or is to be or is frozen already."""
    query = update(table).where(
        table.c.id == instance_id, table.c.state == State.RUNNING, table.c.freeze_asked_at.is_(None)
    )
    return (await db.execute(query.values(freeze_asked_at=at, frozen_reason=reason[:300]))).rowcount == 1


async def set_frozen(
    db: AsyncConnection, instance_id: str, asked_at: datetime, at: datetime, memory_bytes: int | None
) -> bool:
    """Records that it is; False when that is not wanted any more.

    Args:
        asked_at: which wish to freeze this is.
        memory_bytes: what counts of its memory meanwhile; None: its size.
    """
    query = update(table).where(
        table.c.id == instance_id, table.c.state == State.RUNNING, table.c.freeze_asked_at == asked_at
    )
    return (await db.execute(query.values(frozen_at=at, frozen_memory_bytes=memory_bytes))).rowcount == 1


async def thaw(db: AsyncConnection, instance_id: str) -> bool:
    """Records that a running instance is to be awake; False when nothing was to freeze it."""
    query = update(table).where(table.c.id == instance_id, table.c.freeze_asked_at.is_not(None))
    return (await db.execute(query.values(**_AWAKE))).rowcount == 1


async def to_be_frozen(db: AsyncConnection) -> list[Instance]:
    """Those that are frozen or are to be, the first asked for first."""
    query = select(table).where(table.c.state == State.RUNNING, table.c.freeze_asked_at.is_not(None))
    return [_instance(row) for row in await db.execute(query.order_by(table.c.freeze_asked_at, table.c.id))]


async def set_queue(
    db: AsyncConnection, instance_id: str, rank: float, stage: Stage, estimated_start_at: datetime | None
) -> None:
    """Notes the place of one that queues, what it waits for, and when it probably starts."""
    query = update(table).where(table.c.id == instance_id, table.c.state == State.QUEUED)
    await db.execute(query.values(queue_rank=rank, stage=stage, estimated_start_at=estimated_start_at))


async def forget(db: AsyncConnection, instance_id: str, owner_id: str) -> bool:
    """Removes the row of an ended instance; its record in the history stays."""
    query = delete(table).where(table.c.id == instance_id, table.c.owner_id == owner_id, table.c.state.in_(ENDED))
    return (await db.execute(query)).rowcount == 1


async def prune(db: AsyncConnection, before: datetime) -> int:
    """Removes the rows of what ended before an instant; their records in the history stay."""
    query = delete(table).where(table.c.state.in_(ENDED), table.c.ended_at < before)
    return (await db.execute(query)).rowcount
