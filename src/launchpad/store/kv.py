"""Table `kv`: the few values that are one for the whole deployment, such as the limits set in the console."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Column, String, Table, Text, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from .database import Instant, metadata

table = Table(
    "kv",
    metadata,
    Column("key", String(60), primary_key=True),
    Column("value", Text, nullable=False),
    Column("changed_at", Instant, nullable=False),
)


async def get(db: AsyncConnection, key: str) -> Any:
    """The value, or None when there is none."""
    value = (await db.execute(select(table.c.value).where(table.c.key == key))).scalar_one_or_none()
    return None if value is None else json.loads(value)


async def put(db: AsyncConnection, key: str, value: Any, now: datetime) -> None:
    await db.execute(delete(table).where(table.c.key == key))
    await db.execute(insert(table).values(key=key, value=json.dumps(value), changed_at=now))


async def remove(db: AsyncConnection, key: str) -> None:
    """Removes a value; nothing where there is none."""
    await db.execute(delete(table).where(table.c.key == key))
