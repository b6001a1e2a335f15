"""Table `audit`: who did what to what, from where. Rows are added to a chain, and forgotten when they are old."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    Index,
    Integer,
    String,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.audit import EVERYONE, AuditRecord, ChainedEntry, Entry, Link, genesis, mac_of, seal_of
from . import kv
from .audit_chain import OPTION, Tail
from .schema import Instant, contains, metadata

BATCH = 5000  # rows that are in memory at once while the chain is made or followed
PRUNED = "audit_pruned"  # in `kv`: the last entry that was forgotten since it was old

table = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("actor", String(254), nullable=False),
    Column("client", String(64), nullable=False),
    Column("action", String(60), nullable=False),
    Column("subject", String(254), nullable=False),
    Column("details", Text, nullable=False),
    Column("owner_id", String(16), nullable=True),
    Column("continues_id", Integer, nullable=True),
    Column("mac", String(64), nullable=False, server_default=text("''")),
    Index("ix_audit_at", "at"),
    Index("ix_audit_owner_id_id", "owner_id", "id"),
    Index("ix_audit_continues_id", "continues_id"),
)
# Made once: what every entry asks for is not put together, nor compiled, anew.
_ADD = insert(table)
_NEWEST = select(table.c.id, table.c.mac).order_by(table.c.id.desc()).limit(1)
_ENTRY = (*(table.c[name] for name in Entry._fields), table.c.mac)


async def add(
    db: AsyncConnection,
    *,
    at: datetime,
    actor: str,
    client: str,
    action: str,
    subject: str,
    details: Mapping[str, Any],
    owner_id: str | None = None,
    continues_id: int | None = None,
) -> int:
    """Appends an entry to the chain; returns its id, which is one more than the last one's.

    Args:
        owner_id: whose instances, files or account somebody else acted on or looked at (see `Actor.on`).
        continues_id: the entry whose looks it counts on.
    """
    tail = await _tail(db)
    before = tail.last or genesis(tail.key)
    entry = Entry(before.id + 1, at, actor, client, action, subject, json.dumps(dict(details)), owner_id, continues_id)
    link = Link(entry.id, mac_of(tail.key, before, entry))
    await db.execute(_ADD, {**entry._asdict(), "mac": link.mac})
    tail.added.append(link)
    return link.id


async def _tail(db: AsyncConnection) -> Tail:
    """Of this transaction, with the last link of the chain as it is under the lock of all writers."""
    connection = db.sync_connection
    tail = connection.get_execution_options().get(OPTION) if connection is not None else None
    if not isinstance(tail, Tail):
        raise TypeError("an entry of the audit is written in transaction() of a Database that has the chain's key")
    if tail.before is None:
        tail.before = await newest_link(db) or genesis(tail.key)
    return tail


async def newest_link(db: AsyncConnection) -> Link | None:
    """The end of the chain; None: there are no entries."""
    row = (await db.execute(_NEWEST)).first()
    return None if row is None else Link(row.id, row.mac)


async def page(
    db: AsyncConnection, *, limit: int = 100, before_id: int | None = None, from_id: int = 0, search: str = ""
) -> list[AuditRecord]:
    """Newest first, from before the record `before_id` back to `from_id`.

    `search` looks in actor, action, subject and details.
    """
    query = select(table).order_by(table.c.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(table.c.id < before_id)
    if from_id:
        query = query.where(table.c.id >= from_id)
    if search:
        texts = [contains(column, search) for column in (table.c.actor, table.c.action, table.c.subject)]
        # In the details, JSON writes letters other than ASCII's as numbers.
        query = query.where(or_(*texts, contains(table.c.details, json.dumps(search)[1:-1])))
    return [_record(row) for row in await db.execute(query)]


async def of_owner(
    db: AsyncConnection, owner_id: str, since: datetime, *, limit: int, before_id: int | None = None, everyone: bool
) -> list[AuditRecord]:
    """What others did with somebody's things, or looked at, the newest first; what only counts on is left out.

    Args:
        everyone: also what concerned everybody at once, from `since` on.
    """
    whose = table.c.owner_id.in_((owner_id, EVERYONE)) if everyone else table.c.owner_id == owner_id
    query = select(table).where(whose, table.c.continues_id.is_(None)).order_by(table.c.id.desc()).limit(limit)
    if everyone:
        query = query.where(or_(table.c.owner_id == owner_id, table.c.at >= since))
    if before_id is not None:
        query = query.where(table.c.id < before_id)
    return [_record(row) for row in await db.execute(query)]


async def continuations(db: AsyncConnection, ids: Iterable[int]) -> list[AuditRecord]:
    """The entries that count on these."""
    query = select(table).where(table.c.continues_id.in_(tuple(ids))).order_by(table.c.id)
    return [_record(row) for row in await db.execute(query)]


def _record(row: Any) -> AuditRecord:
    return AuditRecord(
        row.id,
        row.at,
        row.actor,
        row.client,
        row.action,
        row.subject,
        json.loads(row.details),
        row.owner_id,
        row.continues_id,
    )


async def first_and_last(db: AsyncConnection) -> tuple[int, int]:
    """The ids of the oldest and the newest record; 0 and 0 without any."""
    ends = (select(end(table.c.id)).scalar_subquery() for end in (func.min, func.max))  # one query would read them all
    first, last = (await db.execute(select(*ends))).one()
    return first or 0, last or 0


async def newest_at(db: AsyncConnection) -> datetime | None:
    """When the latest record was made, or says it was."""
    return (await db.execute(select(table.c.at).order_by(table.c.at.desc()).limit(1))).scalar_one_or_none()


async def was_recorded(db: AsyncConnection, action: str, client: str, since: datetime) -> bool:
    query = select(table.c.id).where(table.c.action == action, table.c.client == client, table.c.at > since).limit(1)
    return (await db.execute(query)).first() is not None


async def concerned(db: AsyncConnection, action: str, subject: str, since: datetime) -> bool:
    """Whether that was done to, or for, `subject` since then."""
    query = select(table.c.id).where(table.c.at > since, table.c.action == action, table.c.subject == subject).limit(1)
    return (await db.execute(query)).first() is not None


async def count_since(db: AsyncConnection, actions: Iterable[str], at: datetime) -> dict[str, int]:
    """How often each of these was done since then."""
    wanted = tuple(actions)
    query = select(table.c.action, func.count()).where(table.c.at >= at, table.c.action.in_(wanted))
    counted = {row[0]: int(row[1]) for row in await db.execute(query.group_by(table.c.action))}
    return {action: counted.get(action, 0) for action in wanted}


# -- the chain ---------------------------------------------------------------------------------------------------------


async def prune(db: AsyncConnection, before: datetime, now: datetime) -> int:
    """Forgets the entries from before an instant, and seals where the chain begins from now on; returns how many.

    Only from the chain's beginning on, and never its last entry: where the clock was set back, younger ids can be of
    older instants, and they stay until everything before them may go.
    """
    kept = select(table.c.id).where(table.c.at >= before).order_by(table.c.id).limit(1)
    first_kept = (await db.execute(kept)).scalar_one_or_none()
    if first_kept is None:
        first_kept = (await db.execute(select(func.max(table.c.id)))).scalar_one()
    if first_kept is None:
        return 0
    older = select(table.c.id, table.c.mac).where(table.c.id < first_kept).order_by(table.c.id.desc()).limit(1)
    last = (await db.execute(older)).first()
    if last is None:
        return 0
    key = (await _tail(db)).key
    seal = seal_of(key, PRUNED, last.id, last.mac, before.isoformat())
    value = {"id": last.id, "mac": last.mac, "before": before.isoformat(), "seal": seal}
    await kv.put(db, PRUNED, value, now)
    return (await db.execute(delete(table).where(table.c.id <= last.id))).rowcount


async def pruned(db: AsyncConnection, key: bytes) -> tuple[Link, datetime] | None:
    """The last entry that was forgotten since it was old, and of before when all of these were; None: none was.

    Raises:
        ValueError: what is said of it was not written by the platform.
    """
    value = await kv.get(db, PRUNED)
    if value is None:
        return None
    try:
        link, before = Link(int(value["id"]), str(value["mac"])), datetime.fromisoformat(value["before"])
        right = value["seal"] == seal_of(key, PRUNED, link.id, link.mac, value["before"])
    except (KeyError, TypeError) as error:
        raise ValueError("incomplete") from error
    if not right:
        raise ValueError("the seal is wrong")
    return link, before


async def chained(db: AsyncConnection, *, after_id: int, limit: int = BATCH) -> list[ChainedEntry]:
    """The next entries behind an id, in the order of the chain."""
    query = select(*_ENTRY).where(table.c.id > after_id).order_by(table.c.id).limit(limit)
    return [ChainedEntry(Entry(*row[:-1]), row.mac) for row in await db.execute(query)]


async def link_at(db: AsyncConnection, entry_id: int) -> Link | None:
    """An entry's place in the chain; None: there is no such entry."""
    mac = (await db.execute(select(table.c.mac).where(table.c.id == entry_id))).scalar_one_or_none()
    return None if mac is None else Link(entry_id, mac)


async def count(db: AsyncConnection) -> int:
    return int((await db.execute(select(func.count()).select_from(table))).scalar_one())


async def is_chained(db: AsyncConnection) -> bool:
    """Whether any entry has a place in a chain. It reads all entries where none has."""
    query = select(table.c.id).where(table.c.mac != "").limit(1)
    return (await db.execute(query)).first() is not None


async def chain_anew(db: AsyncConnection, key: bytes) -> Link:
    """Makes the chain of the entries as they are, from the first one on; returns its end. In bounded memory."""
    last = genesis(key)
    await kv.remove(db, PRUNED)
    given = update(table).where(table.c.id == bindparam("entry")).values(mac=bindparam("its_mac"))
    while batch := await chained(db, after_id=last.id):
        rows = []
        for one in batch:
            last = Link(one.entry.id, mac_of(key, last, one.entry))
            rows.append({"entry": last.id, "its_mac": last.mac})
        await db.execute(given, rows)
    return last
