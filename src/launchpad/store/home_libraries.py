"""Table `home_libraries`: the libraries of packages that were found in each home, and what its owner dismissed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Column, String, Table, Text, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.libraries import Libraries
from .schema import Instant, metadata

DISMISSED_KEPT = 50

table = Table(
    "home_libraries",
    metadata,
    Column("user_id", String(16), primary_key=True),
    Column("found", Text, nullable=False),
    Column("dismissed", Text, nullable=False),
    Column("looked_at", Instant, nullable=False),
)


async def of(db: AsyncConnection, user_id: str) -> tuple[Libraries, Sequence[str]] | None:
    """What was found, and the keys of what was dismissed; None: nobody has looked yet."""
    row = (await db.execute(select(table).where(table.c.user_id == user_id))).first()
    return (json.loads(row.found), json.loads(row.dismissed)) if row is not None else None


async def put(db: AsyncConnection, user_id: str, found: Libraries, now: datetime) -> None:
    """Writes down what was found; what was dismissed stays."""
    values = {"found": json.dumps(found, sort_keys=True), "looked_at": now}
    if await of(db, user_id) is None:
        await db.execute(insert(table).values(user_id=user_id, dismissed="[]", **values))
    else:
        await db.execute(update(table).where(table.c.user_id == user_id).values(values))


async def dismiss(db: AsyncConnection, user_id: str, key: str) -> None:
    """Adds what its owner does not want to be told of any more; of very many the oldest go."""
    known = await of(db, user_id)
    if known is None:
        return
    keys = [*(one for one in known[1] if one != key), key][-DISMISSED_KEPT:]
    await db.execute(update(table).where(table.c.user_id == user_id).values(dismissed=json.dumps(keys)))
