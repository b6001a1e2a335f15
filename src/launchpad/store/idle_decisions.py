"""Table `idle_decisions`: what the idle policy decided of instances, and why. Kept for a while, also of ended ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, Row, String, Table, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.idle_decisions import IdleDecision
from ..domain.policy import Verdict, Why
from .schema import Instant, metadata

IDS_A_QUERY = 500

table = Table(
    "idle_decisions",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    # No foreign key: decisions outlive the rows of the instances that they ended.
    Column("instance_id", String(16), nullable=False),
    Column("owner_id", String(16), nullable=False),
    Column("environment", String(31), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("why", String(32), nullable=False),
    Column("rule", String(500), nullable=False),
    Column("evidence", String(500), nullable=False),
    Column("idle_since", Instant),
    Index("ix_idle_decisions_at", "at"),
    Index("ix_idle_decisions_instance_id_id", "instance_id", "id"),
)


def _decision(row: Row[Any]) -> IdleDecision:
    return IdleDecision(
        instance_id=row.instance_id,
        owner_id=row.owner_id,
        environment=row.environment,
        at=row.at,
        verdict=Verdict(row.verdict),
        why=Why(row.why),
        rule=row.rule,
        evidence=row.evidence,
        idle_since=row.idle_since,
        id=row.id,
    )


async def add(db: AsyncConnection, *decisions: IdleDecision) -> None:
    """At least one."""
    rows = [
        {
            "at": one.at,
            "instance_id": one.instance_id,
            "owner_id": one.owner_id,
            "environment": one.environment,
            "verdict": one.verdict.value,
            "why": one.why.value,
            "rule": one.rule[:500],
            "evidence": one.evidence[:500],
            "idle_since": one.idle_since,
        }
        for one in decisions
    ]
    await db.execute(insert(table), rows)


async def of_instance(
    db: AsyncConnection, instance_id: str, owner_id: str, *, limit: int, before_id: int | None = None
) -> list[IdleDecision]:
    """Of an owner's instance, the newest first."""
    query = select(table).where(table.c.instance_id == instance_id, table.c.owner_id == owner_id)
    if before_id is not None:
        query = query.where(table.c.id < before_id)
    return [_decision(row) for row in await db.execute(query.order_by(table.c.id.desc()).limit(limit))]


async def page(db: AsyncConnection, *, limit: int, before_id: int | None = None) -> list[IdleDecision]:
    """Everyone's, the newest first."""
    query = select(table)
    if before_id is not None:
        query = query.where(table.c.id < before_id)
    return [_decision(row) for row in await db.execute(query.order_by(table.c.id.desc()).limit(limit))]


async def latest_of(db: AsyncConnection, instance_ids: Sequence[str]) -> dict[str, IdleDecision]:
    """The newest of each of these instances that has one."""
    found = {}
    for at in range(0, len(instance_ids), IDS_A_QUERY):
        few = instance_ids[at : at + IDS_A_QUERY]
        newest = select(func.max(table.c.id)).where(table.c.instance_id.in_(few)).group_by(table.c.instance_id)
        for row in await db.execute(select(table).where(table.c.id.in_(newest))):
            found[row.instance_id] = _decision(row)
    return found


async def count_since(db: AsyncConnection, at: datetime) -> dict[Verdict, int]:
    """How many there were since then, by what was done."""
    query = select(table.c.verdict, func.count()).where(table.c.at >= at).group_by(table.c.verdict)
    return {Verdict(verdict): number for verdict, number in await db.execute(query)}


async def prune(db: AsyncConnection, before: datetime) -> int:
    """Removes those of before an instant."""
    return (await db.execute(delete(table).where(table.c.at < before))).rowcount
