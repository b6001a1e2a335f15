"""What only a server can do to the store: PostgreSQL that is away, restarts, or is held by somebody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import asyncpg
import pytest

from conftest import Clock
from launchpad.domain.naming import new_id
from launchpad.errors import StoreUnavailable
from launchpad.store import kv
from launchpad.store.changes import EVERYTHING, WRITE_LOCK, Change
from launchpad.store.database import Database
from support.databases import PostgresServer, migrated

pytestmark = pytest.mark.postgresql
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[PostgresServer]:
    """One of its own, since it is stopped."""
    server = PostgresServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def url(server: PostgresServer) -> str:
    url = server.create(f"s{new_id()}")
    await migrated(url)
    return url


async def heals(database: Database, clock: Clock) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(StoreUnavailable):
            async with database.transaction() as db:
                await kv.put(db, "after", 1, clock())
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it does not come back")


async def test_a_server_that_is_away_is_unavailable_and_comes_back(
    server: PostgresServer, url: str, clock: Clock
) -> None:
    """Whoever watches hears of it, is not current meanwhile, and forgets everything afterwards."""
    database = Database(url)
    told: list[Change] = []

    def listen(changes: Sequence[Change]) -> None:
        told.extend(changes)

    database.changes.subscribe(listen)
    watching = asyncio.create_task(database.changes.watch())
    async with database.transaction() as db:
        await kv.put(db, "before", 1, clock())
    server.halt()
    with pytest.raises(StoreUnavailable):
        await watching
    assert not database.changes.is_current
    for way in (database.reading, database.transaction):
        with pytest.raises(StoreUnavailable) as caught:
            async with way():
                raise AssertionError("there is no way in")
        assert "socket" not in caught.value.detail, "no words of the driver reach a user"
    server.serve()
    await heals(database, clock)
    told.clear()
    watching = asyncio.create_task(database.changes.watch())
    while EVERYTHING not in told:
        await asyncio.sleep(0.01)
    async with database.reading() as db:
        assert await kv.get(db, "before") == 1
    watching.cancel()
    await asyncio.wait([watching])
    await database.aclose()


async def test_a_writer_that_is_not_ours_takes_its_turn(url: str, clock: Clock) -> None:
    """An administrator's own SQL: its changes are told, and ours come before or after it, not amid it."""
    database = Database(url, busy_seconds=0.3)
    told: list[Change] = []
    database.changes.subscribe(told.extend)
    async with database.transaction():
        pass
    other = await asyncpg.connect(url.replace("+asyncpg", ""))
    stranger = other.transaction()
    await stranger.start()
    await other.execute("INSERT INTO kv VALUES ('by-hand', '1', now())")
    with pytest.raises(StoreUnavailable):
        async with database.transaction():
            raise AssertionError("there is no way in")
    async with database.reading() as db:
        assert await kv.get(db, "by-hand") is None, "readers wait for nobody"
    await stranger.commit()
    await other.close()
    async with database.transaction() as db:
        await kv.put(db, "ours", 1, clock())
    assert told == [Change("kv", "by-hand"), Change("kv", "ours")]
    await database.aclose()


async def test_the_lock_of_writers_ends_with_whoever_held_it(url: str, clock: Clock) -> None:
    other = await asyncpg.connect(url.replace("+asyncpg", ""))
    await other.execute("BEGIN")
    await other.execute(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")
    other.terminate()  # as when a process is killed
    database = Database(url)
    await heals(database, clock)
    await database.aclose()


async def test_a_database_or_user_that_is_not_there_is_unavailable(url: str) -> None:
    for wrong in (url.replace("@/s", "@/none"), url.replace("launchpad@", "nobody@")):
        database = Database(wrong)
        with pytest.raises(StoreUnavailable):
            await database.ping()
        await database.aclose()
