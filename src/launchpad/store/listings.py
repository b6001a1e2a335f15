"""Administrators' lists over several tables: everyone's instances by owner, environment and state, and the users.

A page of a list costs about as much as its rows, whatever the tables hold: every query is read from an index in the
order of the list, and stops at the page's end. Where that cannot be, since few rows are wanted and they stand far
apart, the few are looked up one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, Select, func, or_, select, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.instances import ENDED, LIVE, Instance, State
from ..domain.paging import Place
from . import instance_history, instances, users
from .schema import contains

FEW_OWNERS = 500  # whose instances are looked up one by one


async def active(
    db: AsyncConnection, states: Iterable[State], search: str, *, limit: int, before: Place | None
) -> list[Instance]:
    """Live ones, the newest first; `search` looks in the owner's address and in the environment's name."""
    columns = instances.table.c
    query = select(columns.id).where(columns.state.in_([state for state in states if state in LIVE]))
    if search:
        query = query.join(users.table, users.table.c.id == columns.owner_id)
        query = query.where(or_(contains(users.table.c.email, search), contains(columns.environment, search)))
    if before is not None:
        query = query.where(tuple_(columns.created_at, columns.id) < (before.at, before.key))
    query = query.order_by(columns.created_at.desc(), columns.id.desc()).limit(limit)
    return await instances.by_ids(db, [row.id for row in await db.execute(query)])


async def ended(
    db: AsyncConnection, states: Iterable[State], search: str, *, limit: int, before: Place | None
) -> list[Instance]:
    """Ended ones, the latest end first; `search` as of `active`."""
    wanted = [state for state in states if state in ENDED]
    if not search:
        parts = _in_order(wanted, [], limit, before)
    else:
        owned = contains(users.table.c.email, search)
        query = select(users.table.c.id).where(owned).limit(FEW_OWNERS + 1)
        owners = [row.id for row in await db.execute(query)]
        columns = instance_history.table.c
        if len(owners) > FEW_OWNERS:
            of_one = select(users.table.c.id).where(users.table.c.id == columns.owner_id, owned).exists()
            parts = _in_order(wanted, [of_one], limit, before)
        elif owners:
            parts = [_of_few(owners, wanted, limit, before)]
        else:
            parts = []
        for name in await _environments(db):
            if search.lower() in name.lower():
                parts += _in_order(wanted, [columns.environment == name], limit, before)
    if not parts:
        return []
    found = union_all(*(select(part.subquery()) for part in parts)).subquery()
    query = select(found.c.instance_id).distinct().add_columns(found.c.ended_at)
    query = query.order_by(found.c.ended_at.desc(), found.c.instance_id.desc()).limit(limit)
    return await instance_history.by_ids(db, [row.instance_id for row in await db.execute(query)])


Ends = Select[str, datetime | None]


def _ends(limit: int, before: Place | None) -> Ends:
    columns = instance_history.table.c
    query: Ends = select(columns.instance_id, columns.ended_at)
    if before is not None:
        query = query.where(tuple_(columns.ended_at, columns.instance_id) < (before.at, before.key))
    return query.order_by(columns.ended_at.desc(), columns.instance_id.desc()).limit(limit)


def _in_order(
    states: Iterable[State], only: Collection[ColumnElement[bool]], limit: int, before: Place | None
) -> list[Ends]:
    """From the indexes that begin with the state, or the environment and the state: one query each."""
    return [_ends(limit, before).where(instance_history.table.c.state == state, *only) for state in states]


def _of_few(owners: Collection[str], states: Iterable[State], limit: int, before: Place | None) -> Ends:
    """From the index that begins with the owner; `coalesce` keeps the database from taking that of the states."""
    columns = instance_history.table.c
    among = func.coalesce(columns.state, "").in_(list(states))
    return _ends(limit, before).where(columns.owner_id.in_(owners), among)


async def _environments(db: AsyncConnection) -> list[str]:
    """Of all instances there ever were, also those the catalogue has no more: from one index entry to the next."""
    column = instance_history.table.c.environment
    names = select(func.min(column).label("name")).cte("names", recursive=True)
    following = select(func.min(column)).where(column > names.c.name).scalar_subquery()
    names = names.union_all(select(following).where(names.c.name.is_not(None)))
    return [row.name for row in await db.execute(select(names.c.name)) if row.name is not None]


async def count_live(db: AsyncConnection, owner_ids: Collection[str]) -> dict[str, int]:
    """How many live instances each of these owners has; those without any are left out."""
    columns = instances.table.c
    query = select(columns.owner_id, func.count().label("number")).group_by(columns.owner_id)
    query = query.where(columns.state.in_(LIVE), columns.owner_id.in_(owner_ids))
    return {row.owner_id: row.number for row in await db.execute(query)}


async def queue_positions(db: AsyncConnection) -> dict[str, int]:
    """The queue: 1 for the next to start."""
    return {instance_id: position for position, instance_id in enumerate(await instances.queue_ids(db), start=1)}
