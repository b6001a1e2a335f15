"""Administrators' lists of what homes take up, over users and their homes: in any order, page by page, and by lab."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Float, case, cast, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.home_lists import After, Counts, LabHomes, Sort, UserHome
from ..domain.home_use import NEARLY_FULL
from ..domain.instances import NEARLY
from ..domain.users import User
from . import home_use, users

UNKNOWN = -(2**62)  # in an order, of what nobody knows: below every number, and within 64 bits
PER_MILLE = 1000

_use, _user = home_use.table.c, users.table.c


def _value(sort: Sort) -> ColumnElement[Any]:
    if sort is Sort.EMAIL:
        return _user.email
    # Of whole thousandths, since a page begins behind a value that has to come back as it was.
    whole = case((_use.limit_bytes >= PER_MILLE, _use.limit_bytes / cast(PER_MILLE, Float)))
    share = cast(_use.used_bytes / whole, _use.used_bytes.type)
    of = {
        Sort.USED: _use.used_bytes,
        Sort.SHARE: share,
        Sort.LIMIT: _use.limit_bytes,
        Sort.WEEK: _use.grown_week_bytes,
        Sort.MONTH: _use.grown_month_bytes,
    }
    return func.coalesce(of[sort], UNKNOWN)


async def page(
    db: AsyncConnection, sort: Sort, *, search: str = "", limit: int = 50, after: After | None = None
) -> list[UserHome]:
    """Users with their homes; `search` as of `users.page`."""
    value = _value(sort)
    query = select(users.table, *_of_homes(), value.label("value"))
    query = query.outerjoin(home_use.table, _use.user_id == _user.id)
    if search:
        query = query.where(users.found_by(search))
    upwards = sort is Sort.EMAIL
    if after is not None:
        here, there = tuple_(value, _user.id), tuple_(after.value, after.user_id)
        query = query.where(here > there if upwards else here < there)
    order = (value, _user.id) if upwards else (value.desc(), _user.id.desc())
    found = []
    for row in await db.execute(query.order_by(*order).limit(limit)):
        use = None if row.home_measured_at is None else home_use.measured(_Home(row))
        found.append(UserHome(users.user_of(row), use, After(row.value, row.id)))
    return found


def _of_homes() -> list[ColumnElement[Any]]:
    return [column.label(f"home_{column.name}") for column in home_use.table.columns]


class _Home:
    """A row's columns of `home_use`, which the join has given other names."""

    def __init__(self, row: Any) -> None:
        self._row = row

    def __getattr__(self, name: str) -> Any:
        return getattr(self._row, f"home_{name}")


async def by_lab(db: AsyncConnection) -> list[LabHomes]:
    """Every lab, the one that takes up most first."""
    used = func.coalesce(func.sum(_use.used_bytes), 0)
    query = (
        select(
            _user.lab,
            func.count().label("people"),
            used.label("used"),
            func.coalesce(func.sum(_use.limit_bytes), 0).label("allowed"),
            func.coalesce(func.sum(_use.grown_week_bytes), 0).label("week"),
            func.coalesce(func.sum(_use.grown_month_bytes), 0).label("month"),
        )
        .outerjoin(home_use.table, _use.user_id == _user.id)
        .group_by(_user.lab)
        .order_by(used.desc(), _user.lab)
    )
    return [
        LabHomes(row.lab, row.people, int(row.used), int(row.allowed), int(row.week), int(row.month))
        for row in await db.execute(query)
    ]


async def due(db: AsyncConnection, before: datetime, limit: int) -> list[User]:
    """Users whose homes nobody has asked for since then; those that never were come first."""
    query = select(users.table).outerjoin(home_use.table, _use.user_id == _user.id)
    query = query.where(or_(_use.looked_at.is_(None), _use.looked_at < before))
    query = query.order_by(_use.looked_at.is_not(None), _use.looked_at, _user.id).limit(limit)
    return [users.user_of(row) for row in await db.execute(query)]


async def counts(db: AsyncConnection) -> Counts:
    """Of everybody's that were asked for."""
    share = _use.used_bytes / case((_use.limit_bytes > 0, cast(_use.limit_bytes, Float)))

    def number(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    query = select(
        number(share >= NEARLY).label("full"),
        number((share >= NEARLY_FULL) & (share < NEARLY)).label("nearly"),
        number(share < NEARLY_FULL).label("room"),
        number(_use.used_bytes.is_not(None) & share.is_(None)).label("without"),
        number(_use.used_bytes.is_(None)).label("unknown"),
        func.coalesce(func.sum(_use.used_bytes), 0).label("used"),
    ).where(_use.user_id != home_use.DISK)
    row = (await db.execute(query)).one()
    return Counts(*(int(number) for number in row))
