"""The feed of changes: whatever changes a row of a table that is fed, in this process or another, is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from launchpad.domain.announcements import Announcement
from launchpad.domain.home_use import MeasuredUse
from launchpad.domain.instances import Instance, Stage, State
from launchpad.domain.limits import Limits
from launchpad.domain.naming import new_id
from launchpad.domain.shares import Share
from launchpad.domain.signin import ApiToken, Login
from launchpad.domain.users import Role, User, UserStatus
from launchpad.errors import StoreUnavailable
from launchpad.store import announcements, gate, home_libraries, home_use, instances, kv, logins, shares, tokens, users
from launchpad.store.changes import EVERYTHING, FED, KEPT, PRUNED_EVERY, Change
from launchpad.store.database import Database
from support.databases import on_every_database

pytestmark = on_every_database
PATIENCE_SECONDS = 30
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


class Told(list[Change]):
    """A listener that keeps what it is told."""

    def __call__(self, changes: Sequence[Change]) -> None:
        self.extend(changes)

    def of(self, table: str) -> set[str]:
        return {change.key for change in self if change.table == table}


@pytest.fixture
def told(database: Database) -> Told:
    told = Told()
    database.changes.subscribe(told)
    return told


@asynccontextmanager
async def watching(database: Database) -> AsyncIterator[None]:
    """As a process of the platform does all the time."""
    task = asyncio.create_task(database.changes.watch())
    try:
        await until(lambda: database.changes.is_current)
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, "it does not happen"
        await asyncio.sleep(0.01)


def put_here(url: str, prefix: str, number: int) -> None:
    """In a process of its own: one transaction for each key."""

    async def run() -> None:
        database = Database(url)
        for n in range(number):
            async with database.transaction() as db:
                await kv.put(db, f"{prefix}{n}", n, NOW)
        await database.aclose()

    asyncio.run(run())


async def in_another_process(*jobs: tuple[str, str, int]) -> None:
    with ProcessPoolExecutor(len(jobs), mp_context=get_context("spawn")) as processes:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(processes, put_here, *job) for job in jobs))


def alice_at(now: datetime) -> User:
    return User(new_id(), "alice@example.org", "alice", 200_001, Role.USER, UserStatus.ACTIVE, None, now)


async def signed_in(db: AsyncConnection) -> tuple[User, Login, Instance]:
    """A user with a login that was let into an instance by the grant `g`."""
    user = alice_at(NOW)
    login = Login(new_id(), user.id, NOW, NOW, NOW + timedelta(days=1), False, "192.0.2.1", "Firefox", NOW)
    size = Limits(1024**3, 1.0, 1024**3, 1)
    instance = Instance(
        id=new_id(),
        owner_id=user.id,
        environment="rstudio",
        state=State.STARTING,
        stage=Stage.HOME,
        reason=None,
        limits=size,
        created_at=NOW,
        expires_at=NOW + timedelta(days=1),
    )
    await users.add(db, user)
    await logins.add(db, login, "d")
    await instances.add(db, instance)
    await gate.add_grant(db, "g", instance.id, login.id, NOW)
    return user, login, instance


# -- what this process changes -----------------------------------------------------------------------------------------


async def test_what_is_committed_is_told_before_the_transaction_returns(database: Database, told: Told) -> None:
    async with database.transaction() as db:
        await kv.put(db, "a", 1, NOW)
        assert told == [], "nobody else sees it yet"
    assert told == [Change("kv", "a")], "once, whatever was done to the row"


async def test_what_is_taken_back_is_not_told(database: Database, told: Told) -> None:
    async def fail() -> None:
        async with database.transaction() as db:
            await kv.put(db, "a", 1, NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with database.transaction() as db:
        await kv.put(db, "b", 1, NOW)
    assert told == [Change("kv", "b")]


async def test_a_transaction_that_changes_nothing_tells_nothing(database: Database, told: Told) -> None:
    position = database.changes.position
    async with database.transaction() as db:
        assert await kv.get(db, "a") is None
    assert told == []
    assert database.changes.position == position


async def test_a_row_of_every_table_is_told_when_it_comes_changes_and_goes(database: Database, told: Told) -> None:
    async with database.transaction() as db:
        user, login, instance = await signed_in(db)
        await tokens.add(db, ApiToken("t" * 16, user.id, "laptop", NOW, None), "digest")
        await kv.put(db, "k", 1, NOW)
        await announcements.add(db, Announcement("b" * 16, "New disks", NOW, None, None, NOW, "cli"))
        await home_use.put(db, {user.id: MeasuredUse(1, None, None, NOW)})
        await home_libraries.put(db, user.id, {"R": {"4.2": 1}}, NOW)
        await shares.add(db, Share("s" * 16, user.id, "a", "file", None, ("b@example.org",), NOW, NOW))
    rows = [
        Change("users", user.id),
        Change("logins", login.id),
        Change("instances", instance.id),
        Change("grants", "g"),
        Change("tokens", "t" * 16),
        Change("kv", "k"),
        Change("announcements", "b" * 16),
        Change("home_use", user.id),
        Change("home_libraries", user.id),
        Change("shares", "s" * 16),
    ]
    assert {change.table for change in rows} == set(FED) - {"instance_history"}, "which only grows; see test_pages_kept"
    assert told == rows, "in the order in which they came"
    for statement in ("UPDATE {} SET {} = {}", "DELETE FROM {}"):
        for table, key in reversed(rows):
            told.clear()
            column = FED[table]
            async with database.transaction() as db:
                sql = statement.format(table, column, column) + f" WHERE {column} = '{key}'"
                assert (await db.execute(text(sql))).rowcount == 1, "the rows that triggers write do not count"
            assert Change(table, key) in told, statement


async def test_a_row_whose_key_changes_is_told_by_both(database: Database, told: Told) -> None:
    async with database.transaction() as db:
        await kv.put(db, "before", 1, NOW)
    told.clear()
    async with database.transaction() as db:
        await db.execute(text("UPDATE kv SET key = 'after'"))
    assert told == [Change("kv", "before"), Change("kv", "after")]


async def test_what_goes_with_another_row_is_told_too(database: Database, told: Told) -> None:
    """The gate hears of a grant that ends with its login."""
    async with database.transaction() as db:
        user, login, _ = await signed_in(db)
    told.clear()
    async with database.transaction() as db:
        assert await logins.end(db, login.id, user.id)
    assert set(told) == {Change("logins", login.id), Change("grants", "g")}


async def test_whoever_reads_when_told_finds_it_changed(database: Database) -> None:
    found: list[asyncio.Task[object]] = []

    async def look() -> object:
        async with database.reading() as db:
            return await kv.get(db, "a")

    database.changes.subscribe(lambda changes: found.append(asyncio.create_task(look())))
    async with database.transaction() as db:
        await kv.put(db, "a", 1, NOW)
    assert await asyncio.gather(*found) == [1]


async def test_position_grows_with_everything_that_is_told(database: Database) -> None:
    before = database.changes.position
    async with database.transaction() as db:
        await kv.put(db, "a", 1, NOW)
        assert database.changes.position == before
    assert database.changes.position > before


async def test_a_listener_that_fails_keeps_no_other_from_being_told(database: Database) -> None:
    told = Told()

    def fail(_changes: Sequence[Change]) -> None:
        raise ZeroDivisionError

    async def change() -> None:
        async with database.transaction() as db:
            await kv.put(db, "a", 1, NOW)

    for listener in (fail, told, fail):
        database.changes.subscribe(listener)
    with pytest.raises(ZeroDivisionError):
        await change()
    assert told == [Change("kv", "a")]


async def test_whoever_has_ended_the_subscription_is_told_nothing_more(database: Database) -> None:
    told = Told()
    unsubscribe = database.changes.subscribe(told)
    unsubscribe()
    unsubscribe()
    async with database.transaction() as db:
        await kv.put(db, "a", 1, NOW)
    assert told == []


# -- what others change ------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_what_another_process_changes_is_noticed(database: Database, database_url: str, told: Told) -> None:
    async with watching(database):
        await in_another_process((database_url, "a", 3))
        await until(lambda: told.of("kv") == {"a0", "a1", "a2"})


@pytest.mark.slow  # several processes
async def test_nothing_is_missed_while_several_processes_write(
    database: Database, database_url: str, told: Told
) -> None:
    async with watching(database):
        work = asyncio.create_task(in_another_process((database_url, "a", 60), (database_url, "b", 60)))
        for n in range(60):
            async with database.transaction() as db:
                await kv.put(db, f"c{n}", n, NOW)
            assert f"c{n}" in told.of("kv")
        await work
        expected = {f"{who}{n}" for who in "abc" for n in range(60)}
        await until(lambda: told.of("kv") == expected)


@pytest.mark.slow
async def test_changes_of_others_are_told_by_the_next_own_transaction_at_the_latest(
    database: Database, database_url: str, told: Told
) -> None:
    async with database.transaction():
        pass  # from here on it knows what there was
    await in_another_process((database_url, "a", 1))
    async with database.transaction() as db:
        await kv.put(db, "b", 1, NOW)
    assert told == [Change("kv", "a0"), Change("kv", "b")]


async def test_watching_begins_with_everything_since_nobody_knows_what_was_before(
    database: Database, told: Told
) -> None:
    for _ in range(2):
        told.clear()
        async with watching(database):
            assert told == [EVERYTHING]


async def test_whoever_watches_as_the_second_takes_over_from_the_first(database: Database, told: Told) -> None:
    first = asyncio.create_task(database.changes.watch())
    await until(lambda: database.changes.is_current)
    async with watching(database):
        assert told == [EVERYTHING], "one looks for all"
        first.cancel()
        await asyncio.wait([first])
        await until(lambda: database.changes.is_current)
        assert told == [EVERYTHING, EVERYTHING]


# -- gaps, and how current it is ---------------------------------------------------------------------------------------


async def test_whoever_is_too_far_behind_is_told_to_forget_everything(
    database: Database, database_url: str, told: Told
) -> None:
    other = Database(database_url)
    async with database.transaction() as db:
        await kv.put(db, "a", 1, NOW)
    for n in range(3):
        async with other.transaction() as db:
            await kv.put(db, f"b{n}", n, NOW)
            await db.execute(text("DELETE FROM changes WHERE key = 'a'"))
    told.clear()
    async with database.transaction() as db:
        await kv.put(db, "c", 1, NOW)
    assert told == [EVERYTHING]
    told.clear()
    async with database.transaction() as db:
        await kv.put(db, "d", 1, NOW)
    assert told == [Change("kv", "d")], "and knows from there on"
    await other.aclose()


async def test_whoever_knows_more_than_there_is_is_told_to_forget_everything(
    database: Database, database_url: str, told: Told
) -> None:
    """The database is another one than before."""
    async with watching(database):
        async with database.transaction() as db:
            await kv.put(db, "a", 1, NOW)
        told.clear()
        other = Database(database_url)
        async with other.transaction() as db:
            await kv.put(db, "b", 1, NOW)
            await db.execute(text("DELETE FROM changes"))
        await until(lambda: told == [EVERYTHING])
        await other.aclose()


async def test_old_changes_are_removed(database: Database) -> None:
    async with database.transaction() as db:
        await db.execute(
            text(
                "INSERT INTO changes (table_name, key) WITH RECURSIVE n(i) AS "
                f"(SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {2 * KEPT}) SELECT 'kv', 'x' FROM n"
            )
        )
    async with database.reading() as db:
        number = (await db.execute(text("SELECT count(*) FROM changes"))).scalar_one()
    assert KEPT <= number <= KEPT + PRUNED_EVERY


@pytest.mark.slow  # waits for a clock
async def test_it_is_current_only_while_it_watches(database: Database) -> None:
    assert not database.changes.is_current
    async with watching(database):
        assert database.changes.is_current
        await asyncio.sleep(1)
        await until(lambda: database.changes.is_current)
        time.sleep(0.6)  # noqa: ASYNC251 - the loop hangs
        assert not database.changes.is_current
        await until(lambda: database.changes.is_current)
    assert not database.changes.is_current


async def test_it_is_not_current_where_nobody_knows_whether_a_commit_has_happened(
    database: Database, told: Told
) -> None:
    """A task that is cancelled while it commits."""

    async def change() -> None:
        async with database.transaction() as db:
            await kv.put(db, "a", 1, NOW)

    def cancel(_connection: Connection) -> None:
        task.cancel()

    async with watching(database):
        engine = database._engine.sync_engine
        task = asyncio.create_task(change())
        event.listen(engine, "commit", cancel)
        await asyncio.wait([task])
        assert task.cancelled()
        assert not database.changes.is_current
        event.remove(engine, "commit", cancel)
        async with database.reading() as db:
            committed = await kv.get(db, "a") is not None
        await until(lambda: database.changes.is_current)
        if committed:
            await until(lambda: Change("kv", "a") in told)


async def test_a_database_that_does_not_answer_ends_the_watching(database: Database, database_url: str) -> None:
    missing = Database(database_url.replace("/launchpad.db", "/missing/launchpad.db").replace("@/", "@/missing_"))
    with pytest.raises(StoreUnavailable):
        await missing.changes.watch()
    assert not missing.changes.is_current
    await missing.aclose()


async def test_every_table_that_is_fed_has_its_triggers(database: Database, every_database: str) -> None:
    """A migration that makes a table anew takes them away."""
    catalogue = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    expected = {f"changes_of_{table}_{event}" for table in FED for event in ("insert", "update", "delete")}
    if every_database == "postgresql":
        catalogue = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
        expected = {f"changes_of_{table}" for table in FED}
    async with database.reading() as db:
        found = {str(row[0]) for row in await db.execute(text(catalogue))}
    assert {name for name in found if name.startswith("changes_of_")} == expected
