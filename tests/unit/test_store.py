"""The store on real databases: migrations, transactions, contention, and what each table's module promises.

All of it holds on SQLite and on PostgreSQL, but for what is a file's own (tests/unit/test_store_file.py).
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from multiprocessing import get_context

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from conftest import Clock
from launchpad.domain.instances import ENDED, LIVE, Address, Instance, Stage, State
from launchpad.domain.limits import Limits, Quota, Use
from launchpad.domain.mail import FailureKind, MailFailure
from launchpad.domain.naming import new_id
from launchpad.domain.paging import Place
from launchpad.domain.signin import ApiToken, Login, SignInChallenge
from launchpad.domain.users import Role, User, UserStatus
from launchpad.errors import StoreUnavailable
from launchpad.store import audit, challenges, gate, instances, kv, logins, mail_failures, tokens, users
from launchpad.store.database import Database, metadata
from launchpad.store.gate import Ticket
from support.databases import on_every_database

pytestmark = on_every_database
GB = 1024**3


def migrate_here(url: str) -> str:
    """In a process of its own."""

    async def run() -> None:
        database = Database(url)
        await database.migrate()
        await database.aclose()

    try:
        asyncio.run(run())
    except StoreUnavailable as error:
        return f"{error.detail} ({error.__cause__})"
    return "migrated"


async def add_user(database: Database, name: str, now: datetime, **values: object) -> User:
    async with database.transaction() as db:
        highest = await users.highest_uid(db)
        user = User(
            id=new_id(),
            email=f"{name}@example.org",
            username=name,
            uid=(highest or 200_000) + 1,
            role=Role.USER,
            status=UserStatus.ACTIVE,
            lab=None,
            created_at=now,
        )
        user = replace(user, **values)  # type: ignore[arg-type]
        await users.add(db, user)
    return user


def instance_of(owner: User, now: datetime, state: State = State.STARTING) -> Instance:
    return Instance(
        id=new_id(),
        owner_id=owner.id,
        environment="rstudio",
        state=state,
        stage=Stage.HOME,
        reason=None,
        limits=Limits(8 * GB, 2.0, 64 * GB, 1),
        created_at=now,
        expires_at=now + timedelta(days=1),
    )


async def add_instance(database: Database, owner: User, now: datetime, state: State = State.STARTING) -> Instance:
    one = instance_of(owner, now, state)
    async with database.transaction() as db:
        await instances.add(db, one)
    return one


async def add_login(database: Database, user: User, now: datetime, digest: str = "d") -> Login:
    login = Login(new_id(), user.id, now, now, now + timedelta(days=1), False, "192.0.2.1", "Firefox", now)
    async with database.transaction() as db:
        await logins.add(db, login, digest)
    return login


def challenge_at(now: datetime, **values: object) -> SignInChallenge:
    challenge = SignInChallenge(
        id=new_id(),
        address="alice@example.org",
        cookie_digest=new_id(),
        code_digest="c",
        attempts=0,
        created_at=now,
        expires_at=now + timedelta(minutes=10),
    )
    return replace(challenge, **values)  # type: ignore[arg-type]


# -- migrations --------------------------------------------------------------------------------------------------------


async def test_the_migrations_make_exactly_the_tables_that_the_code_declares(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        found: list[object] = compare_metadata(context, metadata)
        return found

    async with database.reading() as db:
        assert await db.run_sync(differences) == []
        names = set(await db.run_sync(lambda connection: inspect(connection).get_table_names()))
    assert names == set(metadata.tables) | {"alembic_version"}


async def test_migrating_again_changes_nothing(database: Database, clock: Clock) -> None:
    user = await add_user(database, "alice", clock())
    await database.migrate()
    async with database.reading() as db:
        assert await users.by_id(db, user.id) == user


@pytest.mark.slow  # processes that load all of it
def test_processes_that_migrate_at_once_all_succeed(empty_url: str) -> None:
    with ProcessPoolExecutor(6, mp_context=get_context("spawn")) as processes:
        said = list(processes.map(migrate_here, [empty_url] * 6))
    assert said == ["migrated"] * 6


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(database: Database) -> None:
    async with database.transaction() as db:
        await db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreUnavailable, match="newer version of this program"):
        await database.migrate()
    async with database.reading() as db:
        assert (await db.execute(text("SELECT version_num FROM alembic_version"))).scalar_one() == "9999"


async def test_a_migration_that_fails_leaves_no_table_behind(empty_url: str) -> None:
    database = Database(empty_url)
    async with database._engine.begin() as db:
        await db.execute(text("CREATE TABLE users (id INTEGER)"))
    with pytest.raises(StoreUnavailable):
        await database.migrate()
    async with database.reading() as db:
        assert await db.run_sync(lambda connection: inspect(connection).get_table_names()) == ["users"]
    await database.aclose()


# -- transactions ------------------------------------------------------------------------------------------------------


async def test_a_transaction_commits_on_leaving(database: Database, clock: Clock) -> None:
    async with database.transaction() as db:
        await kv.put(db, "a", 1, clock())
    async with database.reading() as db:
        assert await kv.get(db, "a") == 1


async def test_an_error_inside_takes_everything_back(database: Database, clock: Clock) -> None:
    async def work() -> None:
        async with database.transaction() as db:
            await kv.put(db, "a", 1, clock())
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        await work()
    async with database.reading() as db:
        assert await kv.get(db, "a") is None


async def test_being_cancelled_inside_takes_everything_back_and_frees_the_lock(
    database: Database, clock: Clock
) -> None:
    inside = asyncio.Event()

    async def work() -> None:
        async with database.transaction() as db:
            await kv.put(db, "a", 1, clock())
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5), database.transaction() as db:
        assert await kv.get(db, "a") is None


@pytest.mark.slow
async def test_what_a_transaction_reads_stays_true_while_it_writes(
    database: Database, database_url: str, clock: Clock
) -> None:
    """Two Database objects stand for two processes: counters that both read and write lose nothing."""
    other = Database(database_url)

    async def count_up(database: Database) -> None:
        for _ in range(20):
            async with database.transaction() as db:
                await kv.put(db, "n", (await kv.get(db, "n") or 0) + 1, clock())

    await asyncio.gather(count_up(database), count_up(other), count_up(database), count_up(other))
    async with database.reading() as db:
        assert await kv.get(db, "n") == 80
    await other.aclose()


async def test_a_reader_sees_one_state_while_others_write(database: Database, database_url: str, clock: Clock) -> None:
    other = Database(database_url)
    async with database.reading() as db:
        assert await kv.get(db, "a") is None
        async with other.transaction() as writing:
            await kv.put(writing, "a", 1, clock())
        assert await kv.get(db, "a") is None, "the view is that of its beginning"
    async with database.reading() as db:
        assert await kv.get(db, "a") == 1
    await other.aclose()


async def test_a_reader_whose_rows_come_piece_by_piece_sees_one_state(
    database: Database, database_url: str, clock: Clock
) -> None:
    other = Database(database_url)

    async def names(db: AsyncConnection) -> list[str]:
        async with db.stream(text("SELECT key FROM kv WHERE key LIKE 'piece-%' ORDER BY key")) as rows:
            return [row.key async for row in rows]

    async def put(key: str) -> None:
        async with other.transaction() as db:
            await kv.put(db, key, 1, clock())

    await put("piece-1")
    async with database.reading() as db:
        before = await names(db)
        await put("piece-2")
        assert await names(db) == before == ["piece-1"]
        found = await db.execute(text("SELECT count(*) FROM kv WHERE key LIKE 'piece-%'"))
        assert found.scalar_one() == 1, "nor by a statement that answers at once"
    await other.aclose()


async def test_readers_do_not_wait_for_a_writer(database: Database, clock: Clock) -> None:
    async with database.transaction() as writing:
        await kv.put(writing, "a", 1, clock())
        async with asyncio.timeout(2), database.reading() as db:
            assert await kv.get(db, "a") is None


async def test_f7_a_database_that_stays_locked_is_unavailable_after_a_bounded_wait(
    database: Database, database_url: str
) -> None:
    hasty = Database(database_url, busy_seconds=0.2)
    async with database.transaction():
        began = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            async with hasty.transaction():
                raise AssertionError("there is no way in")
        assert 0.15 < time.monotonic() - began < 5
    assert caught.value.retry_after_seconds
    assert "locked" not in caught.value.detail, "no words of the driver reach a user"
    async with hasty.transaction():
        pass  # it recovers by itself
    await hasty.aclose()


async def test_a_writer_waits_for_another_process_to_finish(
    database: Database, database_url: str, clock: Clock
) -> None:
    other = Database(database_url)
    entered = asyncio.Event()

    async def wait_for_the_lock() -> None:
        async with other.transaction() as db:
            entered.set()
            await kv.put(db, "a", 2, clock())

    async with database.transaction() as db:
        waiting = asyncio.create_task(wait_for_the_lock())
        await kv.put(db, "a", 1, clock())
        assert not entered.is_set()
    await waiting
    async with database.reading() as db:
        assert await kv.get(db, "a") == 2
    await other.aclose()


async def test_a_row_that_names_nobody_is_refused_as_a_fault(database: Database, clock: Clock) -> None:
    """Foreign keys hold; such an error is ours, so it is not passed off as an unavailable store."""
    nobody = User("0" * 16, "x@x.org", "x", 1, Role.USER, UserStatus.ACTIVE, None, clock())
    with pytest.raises(IntegrityError):
        await add_instance(database, nobody, clock())


async def test_instants_come_back_aware_and_in_utc(database: Database, clock: Clock) -> None:
    in_singapore = clock().astimezone(timezone(timedelta(hours=8)))
    user = await add_user(database, "alice", in_singapore)
    async with database.reading() as db:
        found = await users.by_id(db, user.id)
    assert found is not None
    assert found.created_at == clock()
    assert found.created_at.utcoffset() == timedelta(0)


async def test_an_instant_without_a_zone_is_refused(database: Database, clock: Clock) -> None:
    with pytest.raises(Exception, match="no time zone"):
        await add_user(database, "alice", clock().replace(tzinfo=None))


# -- challenges --------------------------------------------------------------------------------------------------------


async def test_of_fifty_wrong_tries_at_once_only_the_allowed_ones_count(
    database: Database, database_url: str, clock: Clock
) -> None:
    """S6, with two processes: exactly 5 are evaluated, and then the right code fails too."""
    other = Database(database_url)
    challenge = challenge_at(clock())
    async with database.transaction() as db:
        await challenges.add(db, challenge, "192.0.2.1")

    async def spend(database: Database) -> bool:
        async with database.transaction() as db:
            return await challenges.spend_attempt(db, challenge.id, 5, clock())

    spent = await asyncio.gather(*(spend(database if number % 2 else other) for number in range(50)))
    assert sum(spent) == 5
    assert not await spend(database)
    await other.aclose()


async def test_a_challenge_is_used_by_exactly_one(database: Database, database_url: str, clock: Clock) -> None:
    other = Database(database_url)
    challenge = challenge_at(clock())
    async with database.transaction() as db:
        await challenges.add(db, challenge, "192.0.2.1")

    async def use(database: Database) -> bool:
        async with database.transaction() as db:
            return await challenges.use(db, challenge.id, clock())

    assert sum(await asyncio.gather(*(use(database if number % 2 else other) for number in range(50)))) == 1
    async with database.transaction() as db:
        assert not await challenges.spend_attempt(db, challenge.id, 5, clock()), "a used code is dead"
    await other.aclose()


async def test_an_expired_challenge_spends_nothing(database: Database, clock: Clock) -> None:
    challenge = challenge_at(clock())
    async with database.transaction() as db:
        await challenges.add(db, challenge, "192.0.2.1")
        assert not await challenges.spend_attempt(db, challenge.id, 5, challenge.expires_at)
        assert await challenges.spend_attempt(db, challenge.id, 5, challenge.expires_at - timedelta(seconds=1))
        found = await challenges.by_cookie(db, challenge.cookie_digest)
    assert found == replace(challenge, attempts=1)


async def test_sends_are_counted_by_address_and_by_client(database: Database, clock: Clock) -> None:
    start = clock()
    async with database.transaction() as db:
        for address, client in (("a@x.org", "c1"), ("a@x.org", "c2"), ("b@x.org", "c1")):
            await challenges.add(db, challenge_at(clock.forward(minutes=1), address=address), client)
        nth, minute = challenges.nth_newest_send, timedelta(minutes=1)
        for n, at in ((1, start + 2 * minute), (2, start + minute), (3, None)):
            assert await nth(db, n, since=start, address="a@x.org") == at
        for n, at in ((1, start + 3 * minute), (2, start + minute), (3, None)):
            assert await nth(db, n, since=start, client="c1") == at
        assert await nth(db, 1, since=start + minute, client="c1") == start + 3 * minute
        assert await nth(db, 2, since=start + minute, client="c1") is None
        assert await nth(db, 3, since=start) == start + minute
        assert await nth(db, 4, since=start) is None


async def test_failures_in_a_row_begin_anew_after_a_success(database: Database, clock: Clock) -> None:
    async with database.transaction() as db:
        assert await challenges.failures_in_a_row(db, "a@x.org") == 0
        for succeeded in (False, False, True, False, False, False):
            await challenges.record_verification(db, "c1", "a@x.org", succeeded, clock())
        await challenges.record_verification(db, "c1", "b@x.org", False, clock())
        assert await challenges.failures_in_a_row(db, "a@x.org") == 3
        before = clock() - timedelta(seconds=1)
        nth = challenges.nth_newest_failure
        assert await nth(db, 6, since=before, client="c1") == clock()
        assert await nth(db, 7, since=before, client="c1") is None, "six of seven failed"
        assert await nth(db, 1, since=before, client="c2") is None
        await challenges.record_verification(db, "c1", "", True, clock.forward(seconds=1))
        assert await nth(db, 7, since=before, client="c1") is not None, "at no code: it fails for its client"
        assert await nth(db, 7, since=before, guesses_only=True) is None, "and is no guess"
        assert await nth(db, 6, since=before, guesses_only=True) is not None


async def test_pruning_forgets_old_challenges_and_tries_only(database: Database, clock: Clock) -> None:
    old, new = challenge_at(clock()), challenge_at(clock() + timedelta(hours=2))
    async with database.transaction() as db:
        for challenge in (old, new):
            await challenges.add(db, challenge, "c1")
            await challenges.record_verification(db, "c1", "a@x.org", False, challenge.created_at)
        assert await challenges.prune(db, clock() + timedelta(hours=1)) == 2
        assert await challenges.by_cookie(db, old.cookie_digest) is None
        assert await challenges.by_cookie(db, new.cookie_digest) == new


# -- instances ---------------------------------------------------------------------------------------------------------


async def test_of_those_who_move_an_instance_at_once_one_wins(
    database: Database, database_url: str, clock: Clock
) -> None:
    other = Database(database_url)
    one = await add_instance(database, await add_user(database, "alice", clock()), clock())

    async def move(database: Database, after: State) -> bool:
        async with database.transaction() as db:
            if after in ENDED:
                return await instances.end(db, one.id, State.STARTING, after, reason="gone", ended_at=clock())
            return await instances.move(db, one.id, State.STARTING, after)

    wishes = [State.RUNNING, State.STOPPING, State.FAILED] * 7
    won = await asyncio.gather(*(move(database if n % 2 else other, after) for n, after in enumerate(wishes)))
    assert sum(won) == 1
    async with database.reading() as db:
        found = await instances.by_id(db, one.id)
    assert found is not None
    assert found.state is wishes[won.index(True)]
    await other.aclose()


async def test_a_step_that_the_life_does_not_know_is_a_fault(database: Database, clock: Clock) -> None:
    one = await add_instance(database, await add_user(database, "alice", clock()), clock())
    async with database.transaction() as db:
        with pytest.raises(ValueError, match="cannot go from starting to stopped"):
            await instances.end(db, one.id, State.STARTING, State.STOPPED, reason="gone", ended_at=clock())
        with pytest.raises(ValueError, match="cannot go from running to starting"):
            await instances.move(db, one.id, State.RUNNING, State.STARTING)
        with pytest.raises(ValueError, match=r"ended by end\(\)"):
            await instances.move(db, one.id, State.STARTING, State.FAILED, reason="gone")
        for state, reason in ((State.FAILED, ""), (State.STOPPING, "gone")):
            with pytest.raises(ValueError, match="its reason"):
                await instances.end(db, one.id, State.STARTING, state, reason=reason, ended_at=clock())
        with pytest.raises(ValueError, match="move"):
            await instances.note(db, one.id, state=State.RUNNING)


async def test_an_instance_comes_back_as_it_was_put_in(database: Database, clock: Clock) -> None:
    one = await add_instance(database, await add_user(database, "alice", clock()), clock())
    async with database.reading() as db:
        assert await instances.by_id(db, one.id) == one
        assert await instances.owned(db, one.id, one.owner_id) == one
        assert await instances.owned(db, one.id, "0" * 16) is None, "somebody else's is not found"


async def test_an_end_gives_up_its_address(database: Database, clock: Clock) -> None:
    """A port that another container gets later must not lead there."""
    one = await add_instance(database, await add_user(database, "alice", clock()), clock())
    async with database.transaction() as db:
        await instances.move(
            db, one.id, State.STARTING, State.RUNNING, host="127.0.0.1", port=20001, started_at=clock()
        )
        running = await instances.by_id(db, one.id)
        assert running is not None
        assert running.address == Address("127.0.0.1", 20001)
        await instances.end(db, one.id, State.RUNNING, State.FAILED, reason="gone", ended_at=clock())
        ended = await instances.by_id(db, one.id)
    assert ended is not None
    assert (ended.address, ended.stage, ended.reason) == (None, Stage.ENDED, "gone")


async def test_everyones_promise_leaves_out_the_queue_a_users_own_does_not(database: Database, clock: Clock) -> None:
    alice, bob = await add_user(database, "alice", clock()), await add_user(database, "bob", clock())
    for owner in (alice, bob):
        for state in State:
            await add_instance(database, owner, clock(), state)
    each = instance_of(alice, clock()).limits
    async with database.reading() as db:
        assert await instances.reserved(db) == Use(6 * each.memory_bytes, 6 * each.cpus, 6)
        assert await instances.reserved(db, alice.id) == Use(4 * each.memory_bytes, 4 * each.cpus, 4)
        assert await instances.count_by_state(db) == dict.fromkeys(State, 2)


async def test_nothing_is_promised_at_first(database: Database) -> None:
    async with database.reading() as db:
        assert await instances.reserved(db) == Use(0, 0.0, 0)


async def test_own_instances_come_newest_first_and_page_by_page(database: Database, clock: Clock) -> None:
    alice, bob = await add_user(database, "alice", clock()), await add_user(database, "bob", clock())
    made = [await add_instance(database, alice, clock.forward(minutes=1)) for _ in range(5)]
    await add_instance(database, bob, clock.forward(minutes=1))
    ended = await add_instance(database, alice, clock.forward(minutes=1), State.STOPPED)
    newest_first = [one.id for one in reversed(made)]
    async with database.reading() as db:
        first = await instances.of_owner(db, alice.id, limit=2)
        rest = await instances.of_owner(db, alice.id, limit=9, before=first[-1].place)
        assert [one.id for one in [*first, *rest]] == newest_first
        assert [one.id for one in await instances.of_owner(db, alice.id, states=LIVE | ENDED)] == [
            ended.id,
            *newest_first,
        ]
        assert len(await instances.page(db)) == 6
        assert next(one.id for one in await instances.in_states(db, State.STARTING)) == made[0].id


async def test_the_queue_is_served_in_the_order_of_asking(database: Database, clock: Clock) -> None:
    alice = await add_user(database, "alice", clock())
    waiting = [await add_instance(database, alice, clock.forward(seconds=1), State.QUEUED) for _ in range(3)]
    async with database.reading() as db:
        assert [await instances.queue_position(db, one) for one in waiting] == [1, 2, 3]
        assert [one.id for one in await instances.in_states(db, State.QUEUED)] == [one.id for one in waiting]


@pytest.mark.parametrize("state", State)
async def test_only_an_ended_instance_is_forgotten_and_only_by_its_owner(
    database: Database, clock: Clock, state: State
) -> None:
    one = await add_instance(database, await add_user(database, "alice", clock()), clock(), state)
    async with database.transaction() as db:
        assert not await instances.forget(db, one.id, "0" * 16)
        assert await instances.forget(db, one.id, one.owner_id) is (state in ENDED)


# -- the gate ----------------------------------------------------------------------------------------------------------


async def test_a_ticket_is_taken_by_exactly_one(database: Database, database_url: str, clock: Clock) -> None:
    other = Database(database_url)
    alice = await add_user(database, "alice", clock())
    one, login = await add_instance(database, alice, clock()), await add_login(database, alice, clock())
    ticket = Ticket(one.id, login.id, clock() + timedelta(seconds=30))
    async with database.transaction() as db:
        await gate.add_ticket(db, "t", ticket)

    async def take(database: Database) -> Ticket | None:
        async with database.transaction() as db:
            return await gate.take_ticket(db, "t")

    taken = await asyncio.gather(*(take(database if number % 2 else other) for number in range(30)))
    assert [one for one in taken if one is not None] == [ticket]
    await other.aclose()


async def test_the_gate_knows_a_grant_only_for_its_own_instance(database: Database, clock: Clock) -> None:
    alice = await add_user(database, "alice", clock())
    mine, second = await add_instance(database, alice, clock()), await add_instance(database, alice, clock())
    login = await add_login(database, alice, clock())
    async with database.transaction() as db:
        await gate.add_grant(db, "g", mine.id, login.id, clock())
        row = await gate.decide(db, "g", mine.id)
        assert row is not None
        assert (row.instance_state, row.owner_id, row.login_id, row.login_user_id, row.username, row.user_status) == (
            "starting",
            alice.id,
            login.id,
            alice.id,
            "alice",
            "active",
        )
        assert (row.login_expires_at, row.login_last_seen_at) == (login.expires_at, login.last_seen_at)
        assert await gate.decide(db, "g", second.id) is None
        assert await gate.decide(db, "h", mine.id) is None


async def test_a_new_grant_ends_the_older_one_of_the_same_login(database: Database, clock: Clock) -> None:
    alice = await add_user(database, "alice", clock())
    one, login = await add_instance(database, alice, clock()), await add_login(database, alice, clock())
    async with database.transaction() as db:
        await gate.add_grant(db, "old", one.id, login.id, clock())
        await gate.add_grant(db, "new", one.id, login.id, clock())
        assert await gate.decide(db, "old", one.id) is None
        assert await gate.decide(db, "new", one.id) is not None


async def test_a_login_takes_its_tickets_and_grants_along_when_it_ends(database: Database, clock: Clock) -> None:
    alice = await add_user(database, "alice", clock())
    one, login = await add_instance(database, alice, clock()), await add_login(database, alice, clock())
    async with database.transaction() as db:
        await gate.add_ticket(db, "t", Ticket(one.id, login.id, clock() + timedelta(seconds=30)))
        await gate.add_grant(db, "g", one.id, login.id, clock())
        assert await logins.end(db, login.id, alice.id)
        assert await gate.take_ticket(db, "t") is None
        assert await gate.decide(db, "g", one.id) is None


async def test_pruning_forgets_tickets_whose_time_is_up_only(database: Database, clock: Clock) -> None:
    alice = await add_user(database, "alice", clock())
    one, login = await add_instance(database, alice, clock()), await add_login(database, alice, clock())
    async with database.transaction() as db:
        for name, seconds in (("old", -1), ("new", 30)):
            await gate.add_ticket(db, name, Ticket(one.id, login.id, clock() + timedelta(seconds=seconds)))
        assert await gate.prune(db, clock()) == 1
        assert await gate.take_ticket(db, "new") is not None


# -- logins and tokens -------------------------------------------------------------------------------------------------


async def test_a_login_is_found_by_its_digest_and_ended_by_its_owner(database: Database, clock: Clock) -> None:
    alice, bob = await add_user(database, "alice", clock()), await add_user(database, "bob", clock())
    login = await add_login(database, alice, clock(), "one")
    later = await add_login(database, alice, clock.forward(hours=1), "two")
    async with database.transaction() as db:
        assert await logins.by_secret(db, "one") == login
        assert await logins.by_secret(db, "three") is None
        assert await logins.of_user(db, alice.id) == [later, login]
        assert not await logins.end(db, login.id, bob.id), "not somebody else's"
        await logins.seen(db, login.id, clock())
        seen = await logins.by_id(db, login.id)
        assert seen is not None
        assert seen.last_seen_at == clock()
        assert await logins.end_all(db, alice.id) == 2
        assert await logins.of_user(db, alice.id) == []


async def test_pruning_forgets_logins_whose_time_is_up_only(database: Database, clock: Clock) -> None:
    alice = await add_user(database, "alice", clock())
    await add_login(database, alice, clock(), "old")
    await add_login(database, alice, clock.forward(hours=1), "new")
    async with database.transaction() as db:
        assert await logins.prune(db, clock.forward(hours=23, minutes=30)) == 1
        assert await logins.by_secret(db, "new") is not None


async def test_a_token_is_found_by_its_digest_and_removed_by_its_owner(database: Database, clock: Clock) -> None:
    alice, bob = await add_user(database, "alice", clock()), await add_user(database, "bob", clock())
    token = ApiToken(new_id(), alice.id, "laptop", clock(), None)
    async with database.transaction() as db:
        await tokens.add(db, token, "digest")
        assert await tokens.by_secret(db, "digest") == token
        await tokens.used(db, token.id, clock())
        assert await tokens.of_user(db, alice.id) == [replace(token, last_used_at=clock())]
        assert not await tokens.remove(db, token.id, bob.id)
        assert await tokens.remove(db, token.id, alice.id)
        assert await tokens.by_secret(db, "digest") is None


# -- users -------------------------------------------------------------------------------------------------------------


async def test_a_user_comes_back_as_put_in(database: Database, clock: Clock) -> None:
    alice = await add_user(database, "alice", clock(), lab="Genomics", quota=Quota(8 * GB, 2.5, 64 * GB, 0))
    async with database.reading() as db:
        assert await users.by_id(db, alice.id) == alice
        assert await users.by_email(db, alice.email) == alice
        assert await users.by_ids(db, {alice.id, "0" * 16}) == {alice.id: alice}
        assert await users.by_email(db, "nobody@example.org") is None


@pytest.mark.parametrize("column", ["email", "username", "uid"])
async def test_no_two_users_share_what_must_be_their_own(database: Database, clock: Clock, column: str) -> None:
    alice = await add_user(database, "alice", clock())
    with pytest.raises(IntegrityError):
        await add_user(database, "bob", clock(), **{column: getattr(alice, column)})
    async with database.reading() as db:
        assert await users.count(db) == 1


async def test_what_is_chosen_once_is_not_overwritten(database: Database, clock: Clock) -> None:
    alice = await add_user(database, "alice", clock())
    changed = replace(
        alice, role=Role.ADMIN, lab="X", quota=Quota(instances=3), uid=1, username="root", email="x@x.org"
    )
    async with database.transaction() as db:
        await users.save(db, changed)
        assert await users.by_id(db, alice.id) == replace(alice, role=Role.ADMIN, lab="X", quota=Quota(instances=3))


async def test_users_are_listed_by_address_page_by_page(database: Database, clock: Clock) -> None:
    for name in ("dora", "alice", "carol", "bob"):
        await add_user(database, name, clock())
    async with database.reading() as db:
        first = await users.page(db, limit=3)
        assert [user.username for user in first] == ["alice", "bob", "carol"]
        assert [user.username for user in await users.page(db, limit=3, after=first[-1].email)] == ["dora"]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", ["alice", "bob", "c_rl"]),
        ("ALI", ["alice"]),
        ("example.org", ["alice", "bob", "c_rl"]),
        ("genom", ["bob"]),
        ("GENOM", ["bob"]),
        ("_", ["c_rl"]),
        ("%", []),
        ("'; DROP TABLE users; --", []),
    ],
)
async def test_a_search_looks_in_address_username_and_lab(
    database: Database, clock: Clock, search: str, found: list[str]
) -> None:
    await add_user(database, "alice", clock())
    await add_user(database, "bob", clock(), lab="Genomics")
    await add_user(database, "c_rl", clock())
    async with database.reading() as db:
        assert [user.username for user in await users.page(db, search=search)] == found


async def test_only_active_administrators_count(database: Database, clock: Clock) -> None:
    await add_user(database, "alice", clock(), role=Role.ADMIN)
    await add_user(database, "bob", clock(), role=Role.ADMIN, status=UserStatus.SUSPENDED)
    await add_user(database, "carol", clock())
    async with database.reading() as db:
        assert await users.count_active_admins(db) == 1
        assert await users.usernames_taken(db, ["alice", "dora"]) == {"alice"}


# -- audit and kv ------------------------------------------------------------------------------------------------------


async def add_records(database: Database, clock: Clock, number: int) -> None:
    async with database.transaction() as db:
        for n in range(1, number + 1):
            who = "Alice@example.org" if n % 2 else "sweep"
            await audit.add(
                db, at=clock.forward(seconds=1), actor=who, client="c", action="a.b", subject=f"s{n}", details={"n": n}
            )


async def test_the_record_is_read_newest_first_without_gaps_while_it_grows(database: Database, clock: Clock) -> None:
    await add_records(database, clock, 5)
    async with database.reading() as db:
        first = await audit.page(db, limit=2)
    await add_records(database, clock, 1)
    async with database.reading() as db:
        rest = await audit.page(db, limit=9, before_id=first[-1].id)
    assert [record.subject for record in [*first, *rest]] == ["s5", "s4", "s3", "s2", "s1"]
    assert rest[0].details == {"n": 3}
    assert rest[0].at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("search", "number"), [("alice", 2), ("ALICE", 2), ("a.b", 4), ("s3", 1), ("%", 0), ("_", 0), (": 2", 1), ("q", 0)]
)
async def test_a_search_looks_in_actor_action_subject_and_details(
    database: Database, clock: Clock, search: str, number: int
) -> None:
    await add_records(database, clock, 4)
    async with database.reading() as db:
        assert len(await audit.page(db, search=search)) == number


@pytest.mark.parametrize("value", [0, "", [], {"a": [1, "ü"]}, 1.5, True])
async def test_a_kept_value_comes_back_as_it_was_and_the_last_one_counts(
    database: Database, clock: Clock, value: object
) -> None:
    async with database.transaction() as db:
        await kv.put(db, "key", "before", clock())
        await kv.put(db, "key", value, clock())
        assert await kv.get(db, "key") == value
        assert await kv.get(db, "other") is None


async def test_what_concerned_somebody_is_found_by_action_and_time(database: Database, clock: Clock) -> None:
    await add_records(database, clock, 1)
    async with database.reading() as db:
        assert await audit.concerned(db, "a.b", "s1", clock() - timedelta(seconds=1))
        assert not await audit.concerned(db, "a.b", "s1", clock())
        assert not await audit.concerned(db, "a.c", "s1", clock() - timedelta(seconds=1))
        assert not await audit.concerned(db, "a.b", "s", clock() - timedelta(seconds=1))


# -- mail that did not arrive ------------------------------------------------------------------------------------------


async def fail_to(database: Database, address: str, status: str | None, now: datetime) -> None:
    async with database.transaction() as db:
        await mail_failures.record(db, address, FailureKind.BOUNCED, status, now)


async def test_an_address_has_one_row_which_tells_the_newest_and_counts(database: Database, clock: Clock) -> None:
    first = clock()
    await fail_to(database, "a@x.org", "5.2.2", first)
    await fail_to(database, "b@x.org", None, clock.forward(hours=1))
    async with database.transaction() as db:
        await mail_failures.record(db, "a@x.org", FailureKind.REFUSED, "5.1.1", clock.forward(hours=1))
        found = await mail_failures.of_addresses(db, ["a@x.org", "c@x.org"])
        assert await mail_failures.count(db) == 2
    assert found == {"a@x.org": MailFailure("a@x.org", FailureKind.REFUSED, "5.1.1", 2, first, clock())}


async def test_two_processes_that_note_failures_at_once_lose_none(
    database: Database, database_url: str, clock: Clock
) -> None:
    other = Database(database_url)
    await asyncio.gather(*(fail_to((database, other)[n % 2], "a@x.org", "5.1.1", clock()) for n in range(20)))
    async with database.reading() as db:
        assert (await mail_failures.of_addresses(db, ["a@x.org"]))["a@x.org"].count == 20
    await other.aclose()


async def test_failures_are_listed_newest_first_page_by_page(database: Database, clock: Clock) -> None:
    for name in ("old@x.org", "c@x.org", "a@x.org", "b@x.org"):
        await fail_to(database, name, None, clock())
        if name == "old@x.org":
            clock.forward(hours=1)  # the others are of one instant
    async with database.reading() as db:
        first = await mail_failures.page(db, limit=2)
        place = Place.parse(str(first[-1].place))
        rest = await mail_failures.page(db, limit=9, before=place)
    assert [one.address for one in [*first, *rest]] == ["a@x.org", "b@x.org", "c@x.org", "old@x.org"]


@pytest.mark.parametrize(("search", "number"), [("", 2), ("A_B@", 1), ("x.org", 2), ("%", 0), ("_", 1)])
async def test_a_search_looks_in_the_address(database: Database, clock: Clock, search: str, number: int) -> None:
    for name in ("a_b@x.org", "acb@x.org"):
        await fail_to(database, name, None, clock())
    async with database.reading() as db:
        assert len(await mail_failures.page(db, search=search)) == number


async def test_a_failure_is_forgotten_by_address_or_when_it_is_old(database: Database, clock: Clock) -> None:
    await fail_to(database, "old@x.org", None, clock())
    await fail_to(database, "again@x.org", None, clock())
    await fail_to(database, "again@x.org", None, clock.forward(days=2))
    await fail_to(database, "gone@x.org", None, clock())
    async with database.transaction() as db:
        assert await mail_failures.forget(db, "gone@x.org")
        assert not await mail_failures.forget(db, "gone@x.org")
        assert await mail_failures.prune(db, clock() - timedelta(days=1)) == 1
        assert [one.address for one in await mail_failures.page(db)] == ["again@x.org"]
