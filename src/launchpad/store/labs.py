"""Tables `labs`, `lab_members` and `lab_requests`: research groups and courses, who is in them, and who asks to be."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Column, ForeignKey, Row, String, Table, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.labs import JoinRequest, Lab, LabMember, ListedLab, OwnLab
from . import users
from .schema import Instant, contains, metadata

table = Table(
    "labs",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(30), nullable=False, unique=True),
    Column("key", String(100), nullable=False, unique=True),
    Column("title", String(100), nullable=False),
    Column("created_at", Instant, nullable=False),
)

membership = Table(
    "lab_members",
    metadata,
    Column("lab_id", ForeignKey("labs.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("is_lead", Boolean, nullable=False),
    Column("joined_at", Instant, nullable=False),
)

asking = Table(
    "lab_requests",
    metadata,
    Column("lab_id", ForeignKey("labs.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("asked_at", Instant, nullable=False),
    Column("mailed_at", Instant, nullable=False),
)

_user = users.table


def _lab(row: Row[Any]) -> Lab:
    return Lab(row.id, row.name, row.key, row.title, row.created_at)


# -- labs --------------------------------------------------------------------------------------------------------------


async def add(db: AsyncConnection, lab: Lab) -> None:
    await db.execute(insert(table).values(vars(lab)))


async def by_name(db: AsyncConnection, name: str) -> Lab | None:
    row = (await db.execute(select(table).where(table.c.name == name))).first()
    return _lab(row) if row else None


async def by_key(db: AsyncConnection, key: str) -> Lab | None:
    row = (await db.execute(select(table).where(table.c.key == key))).first()
    return _lab(row) if row else None


async def is_taken(db: AsyncConnection, name: str) -> bool:
    """Whether a lab has that as its name or its key."""
    query = select(table.c.id).where(or_(table.c.name == name, table.c.key == name)).limit(1)
    return (await db.execute(query)).first() is not None


async def set_title(db: AsyncConnection, lab_id: str, title: str) -> None:
    await db.execute(update(table).where(table.c.id == lab_id).values(title=title))


async def page(
    db: AsyncConnection, *, search: str = "", limit: int = 50, after: str | None = None
) -> Sequence[ListedLab]:
    """Labs by name, from behind the name `after`; `search` looks in name, key and title."""
    query = select(table).order_by(table.c.name).limit(limit)
    if after is not None:
        query = query.where(table.c.name > after)
    if search:
        query = query.where(or_(*(contains(column, search) for column in (table.c.name, table.c.key, table.c.title))))
    labs = [_lab(row) for row in await db.execute(query)]
    ids = [one.id for one in labs]
    leads, members = await _leads(db, ids), await _counts(db, membership, ids)
    requests = await _counts(db, asking, ids)
    return [ListedLab(one, leads.get(one.id, ()), members.get(one.id, 0), requests.get(one.id, 0)) for one in labs]


async def _leads(db: AsyncConnection, lab_ids: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    query = (
        select(membership.c.lab_id, _user.c.email)
        .join(_user, _user.c.id == membership.c.user_id)
        .where(membership.c.lab_id.in_(lab_ids), membership.c.is_lead)
        .order_by(_user.c.email)
    )
    found: dict[str, tuple[str, ...]] = {}
    for row in await db.execute(query):
        found[row.lab_id] = (*found.get(row.lab_id, ()), row.email)
    return found


async def _counts(db: AsyncConnection, rows: Table, lab_ids: Collection[str]) -> Mapping[str, int]:
    counted = select(rows.c.lab_id, func.count().label("number")).group_by(rows.c.lab_id)
    query = counted.where(rows.c.lab_id.in_(lab_ids))
    return {row.lab_id: row.number for row in await db.execute(query)}


# -- members -----------------------------------------------------------------------------------------------------------


def _member(row: Row[Any]) -> LabMember:
    return LabMember(users.user_of(row), row.is_lead, row.joined_at, row.lab == row.key)


_members = (
    select(_user, membership.c.is_lead, membership.c.joined_at, table.c.key)
    .join(membership, membership.c.user_id == _user.c.id)
    .join(table, table.c.id == membership.c.lab_id)
)


async def members(db: AsyncConnection, lab_id: str) -> list[LabMember]:
    """The leads first, then by e-mail address."""
    query = _members.where(membership.c.lab_id == lab_id).order_by(membership.c.is_lead.desc(), _user.c.email)
    return [_member(row) for row in await db.execute(query)]


async def member(db: AsyncConnection, lab_id: str, user_id: str) -> LabMember | None:
    query = _members.where(membership.c.lab_id == lab_id, membership.c.user_id == user_id)
    row = (await db.execute(query)).first()
    return _member(row) if row else None


async def of_user(db: AsyncConnection, user_id: str) -> list[OwnLab]:
    """Somebody's labs, the one they have been in longest first."""
    query = (
        select(table, membership.c.is_lead, _user.c.lab)
        .join(membership, membership.c.lab_id == table.c.id)
        .join(_user, _user.c.id == membership.c.user_id)
        .where(membership.c.user_id == user_id)
        .order_by(membership.c.joined_at, table.c.name)
    )
    rows = (await db.execute(query)).all()
    numbers = await _counts(db, membership, [row.id for row in rows])
    return [OwnLab(_lab(row), row.is_lead, row.lab == row.key, numbers[row.id]) for row in rows]


async def join(db: AsyncConnection, lab_id: str, user_id: str, is_lead: bool, at: datetime) -> None:
    await db.execute(insert(membership).values(lab_id=lab_id, user_id=user_id, is_lead=is_lead, joined_at=at))


async def set_lead(db: AsyncConnection, lab_id: str, user_id: str, is_lead: bool) -> None:
    one = (membership.c.lab_id == lab_id, membership.c.user_id == user_id)
    await db.execute(update(membership).where(*one).values(is_lead=is_lead))


async def leave(db: AsyncConnection, lab_id: str, user_id: str) -> bool:
    """False: they were not in it."""
    one = (membership.c.lab_id == lab_id, membership.c.user_id == user_id)
    return (await db.execute(delete(membership).where(*one))).rowcount == 1


# -- requests to join --------------------------------------------------------------------------------------------------


def _request(row: Row[Any]) -> JoinRequest:
    return JoinRequest(users.user_of(row), row.asked_at, row.mailed_at)


_requests = select(_user, asking.c.asked_at, asking.c.mailed_at).join(asking, asking.c.user_id == _user.c.id)


async def requests(db: AsyncConnection, lab_id: str) -> list[JoinRequest]:
    """The oldest first."""
    query = _requests.where(asking.c.lab_id == lab_id).order_by(asking.c.asked_at, _user.c.email)
    return [_request(row) for row in await db.execute(query)]


async def request_of(db: AsyncConnection, lab_id: str, user_id: str) -> JoinRequest | None:
    row = (await db.execute(_requests.where(asking.c.lab_id == lab_id, asking.c.user_id == user_id))).first()
    return _request(row) if row else None


async def count_requests_of(db: AsyncConnection, user_id: str) -> int:
    query = select(func.count()).select_from(asking).where(asking.c.user_id == user_id)
    return (await db.execute(query)).scalar_one()


async def ask(db: AsyncConnection, lab_id: str, user_id: str, at: datetime) -> None:
    await db.execute(insert(asking).values(lab_id=lab_id, user_id=user_id, asked_at=at, mailed_at=at))


async def mailed(db: AsyncConnection, lab_id: str, user_id: str, at: datetime) -> None:
    one = (asking.c.lab_id == lab_id, asking.c.user_id == user_id)
    await db.execute(update(asking).where(*one).values(mailed_at=at))


async def settle(db: AsyncConnection, lab_id: str, user_id: str) -> bool:
    """The request is answered, and gone; False: there was none."""
    one = (asking.c.lab_id == lab_id, asking.c.user_id == user_id)
    return (await db.execute(delete(asking).where(*one))).rowcount == 1
