"""What only SQLite's file can do to the store: a full disk, a folder that is missing, a file that is something else."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import event, text

from conftest import Clock
from launchpad.errors import StoreUnavailable
from launchpad.store import kv
from launchpad.store.database import Database


async def test_a_full_disk_is_unavailable_leaves_no_half_row_and_heals(database: Database, clock: Clock) -> None:
    async def work() -> None:
        async with database.transaction() as db:
            await kv.put(db, "small", 1, clock())
            await db.execute(text("PRAGMA max_page_count = 1"))  # SQLite takes the present size instead
            await kv.put(db, "large", "x" * 1_000_000, clock())

    with pytest.raises(StoreUnavailable):
        await work()
    async with database.transaction() as db:
        assert await kv.get(db, "small") is None
        await db.execute(text("PRAGMA max_page_count = 1000000"))
        await kv.put(db, "large", "x" * 1_000_000, clock())
        assert (await db.execute(text("PRAGMA integrity_check"))).scalar_one() == "ok"


async def test_a_folder_that_is_missing_is_unavailable(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'none' / 'launchpad.db'}")
    with pytest.raises(StoreUnavailable):
        await database.ping()
    await database.aclose()


async def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "launchpad.db").write_bytes(b"this is a text, and a rather long one at that" * 100)
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'launchpad.db'}")
    with pytest.raises(StoreUnavailable):
        await database.ping()
    await database.aclose()


async def test_a_transaction_that_is_cancelled_during_a_query_lets_go_of_the_lock(
    database: Database, tmp_path: Path
) -> None:
    """Also while somebody keeps the error: with its traceback, the query lives that was cancelled."""

    async def write() -> None:
        async with database.transaction() as db:
            await db.execute(text("SELECT id FROM users"))
            await db.execute(text("SELECT 'the one that is cancelled' FROM changes, alembic_version"))

    def cancel(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "is cancelled" in statement:
            writing.cancel()

    async with database.transaction() as db:
        await db.execute(text("INSERT INTO changes (table_name, key) VALUES ('users', 'a'), ('users', 'b')"))
    event.listen(database._engine.sync_engine, "before_cursor_execute", cancel)
    writing = asyncio.create_task(write())
    await asyncio.wait({writing})
    assert writing.cancelled()
    with closing(sqlite3.connect(tmp_path / "launchpad.db", timeout=5, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")


@pytest.mark.slow
async def test_a_database_is_closed_whatever_others_do_with_it_meanwhile(tmp_path: Path) -> None:
    """Those that read, that are cancelled while they connect, and that find no database in the file."""
    for round_ in range(20):
        path = tmp_path / f"{round_}.db"
        if round_ % 2:
            path.write_bytes(b"no database" * 1000)
        database = Database(f"sqlite+aiosqlite:///{path}")

        async def read(database: Database) -> None:
            while True:
                with suppress(StoreUnavailable):
                    await database.ping()
                await asyncio.sleep(0)

        readers = [asyncio.create_task(read(database)) for _ in range(8)]
        await asyncio.sleep(0.002 * round_)
        for reader in readers[::2]:
            reader.cancel()
        async with asyncio.timeout(30):
            await database.aclose()
            for reader in readers[1::2]:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            await database.aclose()
