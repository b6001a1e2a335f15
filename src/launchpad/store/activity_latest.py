"""Table `instance_activity`: what was seen last of each instance, for processes that do not sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, String, Table, Text, bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from .schema import Instant, metadata

IDS_A_QUERY = 500

table = Table(
    "instance_activity",
    metadata,
    # No foreign key: a request may be noted of an instance that has just gone.
    Column("instance_id", String(16), primary_key=True),
    Column("last_person_at", Instant),
    Column("last_work_at", Instant),
    Column("sampled_at", Instant),
    Column("sample", Text),
)


@dataclass(frozen=True)
class SeenLast:
    """`sample` is JSON, as its writer has it."""

    last_person_at: datetime | None = None
    last_work_at: datetime | None = None
    sampled_at: datetime | None = None
    sample: str | None = None


async def all_of(db: AsyncConnection) -> dict[str, SeenLast]:
    """Of every instance that is known, by its id."""
    rows = await db.execute(select(table))
    return {row.instance_id: SeenLast(row.last_person_at, row.last_work_at, row.sampled_at, row.sample) for row in rows}


async def persons(db: AsyncConnection) -> dict[str, datetime]:
    """When a person last did something in each instance, by its id."""
    rows = await db.execute(
        select(table.c.instance_id, table.c.last_person_at).where(table.c.last_person_at.is_not(None))
    )
    return {row.instance_id: row.last_person_at for row in rows}


async def last_person_at(db: AsyncConnection, instance_id: str) -> datetime | None:
    """When a person last did something in one instance, as far as it is written."""
    query = select(table.c.last_person_at).where(table.c.instance_id == instance_id)
    return (await db.execute(query)).scalar_one_or_none()


async def note_persons(db: AsyncConnection, seen: Mapping[str, datetime]) -> None:
    """A person did something in these instances; an older word changes nothing."""
    known = await persons(db)
    later = {one: at for one, at in seen.items() if one not in known or known[one] < at}
    await _put(db, {one: {"last_person_at": at} for one, at in later.items()})


async def note_samples(db: AsyncConnection, samples: Mapping[str, SeenLast]) -> None:
    """What was sampled; what persons did is left as it is."""
    await _put(
        db,
        {
            one: {"last_work_at": seen.last_work_at, "sampled_at": seen.sampled_at, "sample": seen.sample}
            for one, seen in samples.items()
        },
    )


async def forget(db: AsyncConnection, instance_ids: Sequence[str]) -> None:
    """Of instances that have ended; their series stay."""
    for at in range(0, len(instance_ids), IDS_A_QUERY):
        await db.execute(delete(table).where(table.c.instance_id.in_(instance_ids[at : at + IDS_A_QUERY])))


async def _put(db: AsyncConnection, values: Mapping[str, Mapping[str, object]]) -> None:
    if not values:
        return
    there = set(await db.scalars(select(table.c.instance_id)))
    columns = next(iter(values.values())).keys()
    known = [{"key": one, **columns_of} for one, columns_of in values.items() if one in there]
    if known:
        changes: dict[str, Any] = {name: bindparam(name) for name in columns}
        await db.execute(update(table).where(table.c.instance_id == bindparam("key")).values(changes), known)
    new = [{"instance_id": one, **columns_of} for one, columns_of in values.items() if one not in there]
    if new:
        await db.execute(insert(table), new)
