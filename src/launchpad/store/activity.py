"""Table `activity_series`: what instances did, as chunks of points. It outlives the instances."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import Column, Integer, LargeBinary, String, Table, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.activity import Point, Step, merged, step_of
from ..domain.activity_codec import CHUNK_SECONDS, KEPT, chunk_of, chunks_between, packed, unpacked
from .schema import metadata

CHUNKS_A_QUERY = 200

Part = TypeVar("Part")

table = Table(
    "activity_series",
    metadata,
    # In this order: what is written at one time lies together, and what is too old is one piece.
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("begins_at", Integer, primary_key=True, autoincrement=False),
    Column("instance_id", String(16), primary_key=True),
    Column("points", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)


async def add(db: AsyncConnection, step: Step, points: Mapping[str, Sequence[Point]]) -> None:
    """Adds points to the series of instances, by their ids; one of a time that is there already takes its place."""
    new: dict[int, dict[str, list[Point]]] = {}
    for instance_id, theirs in points.items():
        for point in theirs:
            new.setdefault(chunk_of(point.at, step), {}).setdefault(instance_id, []).append(point)
    for begins_at, of_chunk in new.items():
        ids = list(of_chunk)
        for part in _parts(ids):
            here = table.c.step == step, table.c.begins_at == begins_at, table.c.instance_id.in_(part)
            rows = await db.execute(select(table.c.instance_id, table.c.points).where(*here))
            there = {row.instance_id: unpacked(row.points, begins_at, step) for row in rows}
            await db.execute(delete(table).where(*here))
            values = [
                {
                    "step": int(step),
                    "begins_at": begins_at,
                    "instance_id": one,
                    "points": packed([*there.get(one, ()), *of_chunk[one]], begins_at, step),
                }
                for one in part
            ]
            await db.execute(insert(table), values)


async def of(db: AsyncConnection, instance_id: str, step: Step, since: datetime, until: datetime) -> list[Point]:
    """An instance's points from `since` until before `until`, in the order of time."""
    found: list[Point] = []
    for part in _parts(chunks_between(since, until, step)):
        query = select(table.c.begins_at, table.c.points).where(
            table.c.step == step, table.c.begins_at.in_(part), table.c.instance_id == instance_id
        )
        rows = await db.execute(query.order_by(table.c.begins_at))
        found += [point for row in rows for point in unpacked(row.points, row.begins_at, step)]
    return [point for point in found if since <= point.at < until]


async def of_all(db: AsyncConnection, step: Step, since: datetime, until: datetime) -> dict[str, list[Point]]:
    """The same of every instance that has any, by its id."""
    query = select(table.c.instance_id, table.c.begins_at, table.c.points).where(
        table.c.step == step,
        table.c.begins_at >= chunk_of(since, step),
        table.c.begins_at < int(until.timestamp()),
    )
    found: dict[str, list[Point]] = {}
    for row in await db.execute(query.order_by(table.c.begins_at)):
        points = [one for one in unpacked(row.points, row.begins_at, step) if since <= one.at < until]
        if points:
            found.setdefault(row.instance_id, []).extend(points)
    return found


async def chunks(
    db: AsyncConnection, step: Step, since: datetime, until: datetime
) -> AsyncIterator[tuple[str, int, bytes]]:
    """Every instance's chunks that have a moment of this time in them: the id, the chunk's beginning, its points.

    In the order of the beginnings, and never many of them at once.
    """
    query = select(table.c.instance_id, table.c.begins_at, table.c.points).where(
        table.c.step == step,
        table.c.begins_at >= chunk_of(since, step),
        table.c.begins_at < int(until.timestamp()),
    )
    async with db.stream(query.order_by(table.c.begins_at, table.c.instance_id)) as rows:
        async for some in rows.partitions(CHUNKS_A_QUERY):
            for row in some:
                yield row.instance_id, row.begins_at, row.points


async def roll_up(db: AsyncConnection, fine: Step, coarse: Step, since: datetime, until: datetime) -> None:
    """Makes points of a coarser step of those of a finer one. Idempotent.

    Args:
        since, until: beginnings of coarse steps; the one that begins at `until` is not made.
    """
    for instance_id, points in (await of_all(db, fine, since, until)).items():
        whole: dict[datetime, list[Point]] = {}
        for point in points:
            whole.setdefault(step_of(point.at, coarse), []).append(point)
        await add(db, coarse, {instance_id: [merged(theirs, at) for at, theirs in whole.items()]})


async def prune(db: AsyncConnection, now: datetime) -> None:
    """Removes chunks that are too old as a whole."""
    for step, kept in KEPT.items():
        end = int((now - kept - timedelta(seconds=CHUNK_SECONDS[step])).timestamp())
        await db.execute(delete(table).where(table.c.step == step, table.c.begins_at < end))


def _parts(of: Sequence[Part]) -> Iterator[Sequence[Part]]:
    for at in range(0, len(of), CHUNKS_A_QUERY):
        yield of[at : at + CHUNKS_A_QUERY]
