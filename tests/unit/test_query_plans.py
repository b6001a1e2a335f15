"""No query of a large deployment reads a whole table: SQLite's plan of each says which index it takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from conftest import Clock
from launchpad.domain.instances import ENDED, LIVE, State
from launchpad.services.audit import AuditService
from launchpad.services.listings import InstanceFilter, ListingService
from launchpad.store import audit, challenges, gate, held, instance_history, instances, listings, logins, tokens, users
from launchpad.store.database import Database
from support.population import Population, populate

LARGE = (
    "instances",
    "instance_history",
    "users",
    "logins",
    "grants",
    "audit",
    "verifications",
    "challenges",
    "changes",
    "tickets",
)
# What may be read from one end to the other, or as far as a page goes.
ALLOWED = (
    r"SCAN users( USING INDEX .*)?",  # a text inside a word has no index; 10,000 users take 5 ms
    r"SCAN audit",  # from its end, by its key, as far as the page or the part that one search goes through
    r"SCAN audit USING COVERING INDEX ix_audit_at",  # from its end, one entry
    r"SCAN instances USING (COVERING )?INDEX ix_instances_created_at_id",  # in the order of the page
    r"SCAN instance_history USING (COVERING )?INDEX ix_instance_history_(created|ended)_at",  # likewise
)


@pytest.fixture
def large(tmp_path: Path, clock: Clock, database: Database) -> Database:
    """With some rows of every kind; the plan depends on the indexes, not on how many there are."""
    size = Population(users=300, live=60, queued=5, ended=600, audit=600, tries=300)
    populate(tmp_path / "launchpad.db", size, clock())
    return database


@contextmanager
def plans(database: Database) -> Iterator[list[tuple[str, str]]]:
    """Every statement that is carried out meanwhile, with its plan."""
    found: list[tuple[str, str]] = []
    asked = False

    def look(connection: Any, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        nonlocal asked
        if asked or not statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "WITH", "INSERT")):
            return
        asked = True
        try:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
        finally:
            asked = False
        found.extend((statement, str(row[3])) for row in rows)

    engine = database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", look)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", look)


def scans(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those that read a whole table, also by way of an index."""
    whole = re.compile(rf"SCAN ({'|'.join(LARGE)})\b.*")
    allowed = re.compile("|".join(ALLOWED))
    return [(plan, sql) for sql, plan in found if whole.fullmatch(plan) and not allowed.fullmatch(plan)]


@pytest.mark.slow
async def test_lists_and_lookups_take_an_index(large: Database, clock: Clock) -> None:
    service, records = ListingService(large), AuditService(large)
    with plans(large) as found:
        async with large.reading() as db:
            some = (await users.page(db, limit=1))[0]
            await users.by_email(db, some.email)
            await users.page(db, after="person00100@example.org")
            await logins.by_secret(db, "d")
            await logins.of_user(db, some.id)
            await tokens.by_secret(db, "d")
            await instances.of_owner(db, some.id)
            await instances.of_owner(db, some.id, states=LIVE | ENDED)
            await instances.page(db)
            await instances.page(db, states=LIVE | ENDED)
            for owner_id in (some.id, None):
                await instance_history.latest(db, owner_id)
                await instance_history.newest(db, owner_id)
            await instance_history.by_id(db, "i")
            await instance_history.owned(db, "i", some.id)
            await instances.count_starting(db, clock())
            await held.everything(db)
            await instances.in_states(db, State.QUEUED)
            await instances.queue(db)
            await instances.reserved(db)
            await instances.reserved(db, some.id)
            await instances.newest_at(db)
            await instances.ended_and_live(db)
            await listings.queue_positions(db)
            await gate.decide(db, "d", "i")
            await gate.active_grants(db)
            await audit.newest_at(db)
            await audit.was_recorded(db, "a", "c", clock())
        for search in ("", "person00042", "example.org", "rstudio", "none"):
            for states in (LIVE, ENDED, LIVE | ENDED, {State.FAILED}):
                await service.instances(InstanceFilter(search, states), limit=10)
            await service.users(search=search, limit=10, after=None)
            await records.look(limit=10, search=search)
        await service.everyone(with_ended=True, limit=10, before=None)
    assert len(found) > 100
    assert scans(found) == []
    assert any("ix_instance_history_state_ended_at (state=?" in plan for _, plan in found), "ends come in their order"


async def test_what_sign_in_asks_inside_the_write_lock_takes_an_index(large: Database, clock: Clock) -> None:
    with plans(large) as found:
        async with large.transaction() as db:
            await challenges.failures_in_a_row(db, "person00042@example.org")
            since: datetime = clock() - timedelta(hours=1)
            await challenges.nth_newest_failure(db, 5, since=since, client="192.0.2.1")
            await challenges.nth_newest_failure(db, 5, since=since, guesses_only=True)
            await challenges.nth_newest_send(db, 5, since=since)
            await challenges.nth_newest_send(db, 5, since=since, client="192.0.2.1")
            await challenges.nth_newest_send(db, 5, since=since, address="person00042@example.org", browser="b")
            await challenges.by_cookie(db, "c")
            await users.highest_uid(db)
            await challenges.prune(db, since)
            await gate.prune(db, clock())
            await logins.prune(db, clock())
            await audit.prune(db, since, clock())
            await instances.prune(db, since)
    assert scans(found) == []


async def test_the_test_sees_a_scan(large: Database) -> None:
    with plans(large) as found:
        async with large.reading() as db:
            await db.exec_driver_sql("SELECT * FROM instances WHERE reason = 'x'")
            await db.exec_driver_sql("SELECT * FROM verifications WHERE succeeded")
    assert len(scans(found)) == 2
