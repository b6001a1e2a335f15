"""The history: every end once and for ever, in the transaction of the end; lists are read from it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from launchpad.domain.causes import CauseKind
from launchpad.domain.history import HistoryRecord, UsedInAll
from launchpad.domain.instances import ENDED, Instance, State
from launchpad.domain.users import User, UserStatus
from launchpad.errors import NotFound
from launchpad.platform import Platform
from launchpad.services.users import UserChange
from launchpad.store import instance_history, instances
from launchpad.store.database import Database
from launchpad.store.revisions import MIGRATIONS
from support.platforms import ACTOR, World, launch, reaches, sign_in


async def running(platform: Platform, owner: User, environment: str = "jupyterlab") -> Instance:
    return await reaches(platform, (await launch(platform, owner, environment)).id, State.RUNNING)


async def stopped(world: World, platform: Platform, owner: User, environment: str = "jupyterlab") -> Instance:
    instance = await running(platform, owner, environment)
    await platform.instances.stop(instance.id, owner, ACTOR, world.clock())
    return await reaches(platform, instance.id, State.STOPPED)


async def record_of(platform: Platform, instance_id: str) -> HistoryRecord:
    async with platform.database.reading() as db:
        found = await instance_history.by_id(db, instance_id)
    assert found is not None
    return found


def ended_rows_without_a_record(world: World) -> list[tuple[object, ...]]:
    ended = ", ".join(f"'{state}'" for state in ENDED)
    return world.rows(
        f"SELECT id FROM instances WHERE state IN ({ended}) AND id NOT IN (SELECT instance_id FROM instance_history)"
    )


async def test_an_end_is_recorded_with_what_it_was_and_whose(world: World, platform: Platform, alice: User) -> None:
    await platform.users.change(alice.id, UserChange(lab="genetics"), ACTOR, world.clock())
    instance = await running(platform, alice)
    world.clock.now += timedelta(hours=2)
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    ended = await reaches(platform, instance.id, State.STOPPED)
    await platform.users.change(alice.id, UserChange(lab="physics"), ACTOR, world.clock())
    record = await record_of(platform, instance.id)
    assert (record.owner_email, record.lab) == ("alice@a.org", "genetics"), "as it ended, not as of now"
    assert record.instance == replace(ended, ending_as=None)
    assert (ended.started_at, ended.ended_at) == (instance.started_at, world.clock())
    assert (ended.admitted_at, ended.reason, ended.ended_by) == (instance.created_at, "stopped by you", "test")


@pytest.mark.slow
async def test_each_way_to_end_is_recorded_once(world: World, platform: Platform, alice: User) -> None:
    """In the queue, while it starts, by a failed start, by itself, by time, by suspension, by taking over."""
    await world.observe(platform)
    people = [(await sign_in(platform, f"p{n}@a.org", client=f"192.0.2.{n}"))[0] for n in range(5)]
    by_itself, expiring, suspended, failing, taken_over = people
    first = await running(platform, by_itself)
    await world.runtime.kill(first.id, exit_code=1, out_of_memory=False)
    await reaches(platform, first.id, State.FAILED)
    second = await running(platform, expiring)
    world.clock.now += timedelta(days=1)
    await platform.sweep.sweep(world.clock())
    await reaches(platform, second.id, State.EXPIRED)
    third = await running(platform, suspended)
    change = UserChange(status=UserStatus.SUSPENDED)
    await platform.users.change(suspended.id, change, ACTOR, world.clock())
    await reaches(platform, third.id, State.STOPPED)
    world.runtime.refusing.add("start")
    fourth = await launch(platform, failing)
    await reaches(platform, fourth.id, State.FAILED)
    world.runtime.refusing.clear()
    fifth = await running(platform, taken_over)
    world.runtime.hold("before remove")
    await platform.instances.stop(fifth.id, taken_over, ACTOR, world.clock())
    await asyncio.wait_for(world.runtime.reached["before remove"].wait(), 10)
    await world.crash(platform)
    world.runtime.release()
    restarted = await world.open()
    await restarted.runner.reconcile_all()
    await reaches(restarted, fifth.id, State.STOPPED)
    found = dict(world.rows("SELECT instance_id, reason FROM instance_history"))
    assert set(found) == {one.id for one in (first, second, third, fourth, fifth)}
    assert all(found.values())
    assert ended_rows_without_a_record(world) == []


@pytest.mark.slow
async def test_what_its_owner_takes_off_the_list_stays_in_the_history(
    world: World, platform: Platform, alice: User
) -> None:
    gone, kept = await stopped(world, platform, alice), await stopped(world, platform, alice)
    await platform.instances.forget(gone.id, alice, world.clock())
    assert [one.id for one in await platform.instances.ended(alice)] == [kept.id]
    assert [one.id for one in await platform.instances.of_owner(alice, with_ended=True)] == [kept.id]
    with pytest.raises(NotFound):
        await platform.instances.get(gone.id, alice)
    with pytest.raises(NotFound):
        await platform.instances.forget(gone.id, alice, world.clock())
    record = await record_of(platform, gone.id)
    assert (record.instance.reason, record.removed_at) == ("stopped by you", world.clock())
    everyone = [one.id for one in await platform.instances.of_everyone(with_ended=True)]
    assert sorted(everyone) == sorted([gone.id, kept.id]), "an administrator sees what was"
    assert (await platform.instances.get_any(gone.id)).state is State.STOPPED


@pytest.mark.slow
async def test_old_rows_go_and_lists_names_and_the_history_stay(world: World, platform: Platform, alice: User) -> None:
    old = await stopped(world, platform, alice)
    world.clock.now += timedelta(days=90)
    await platform.sweep.sweep(world.clock())
    assert world.rows("SELECT id FROM instances") == [(old.id,)], "not a moment too early"
    recent, live = await stopped(world, platform, alice), await running(platform, alice)
    world.clock.now += timedelta(seconds=1)
    await platform.sweep.sweep(world.clock())
    assert sorted(world.rows("SELECT id FROM instances")) == sorted([(recent.id,), (live.id,)])
    assert [one.id for one in await platform.instances.ended(alice)] == [recent.id, old.id]
    assert [one.id for one in await platform.instances.of_owner(alice, with_ended=True)] == [
        *sorted([live.id, recent.id], reverse=True),
        old.id,
    ]
    assert await platform.instances.get(old.id, alice) == (await record_of(platform, old.id)).instance
    assert await platform.instances.names(old.id) == {"environment": "jupyterlab", "owner": "alice@a.org"}
    assert (await platform.instances.stop(old.id, alice, ACTOR, world.clock())).state is State.STOPPED
    await platform.instances.forget(old.id, alice, world.clock())
    assert [one.id for one in await platform.instances.ended(alice)] == [recent.id]


async def test_a_kept_log_is_there_as_long_as_it_was_promised(world: World, platform: Platform, alice: User) -> None:
    instance = await running(platform, alice)
    world.runtime.printed[instance.id] = "what it printed\n"
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    ended = await reaches(platform, instance.id, State.STOPPED)
    for days, text in ((30, "what it printed\n"), (61, "")):
        world.clock.now += timedelta(days=days)
        await platform.sweep.sweep(world.clock())
        assert await platform.instance_logs.of(await platform.instances.get(ended.id, alice)) == text


@pytest.mark.slow
async def test_a_container_left_behind_by_a_pruned_instance_is_removed(
    world: World, platform: Platform, alice: User
) -> None:
    """Its row is gone, and it is known all the same."""
    instance = await running(platform, alice)
    world.runtime.refusing.add("remove")
    row = world.runtime._running[instance.id]
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    world.runtime.refusing.clear()
    await platform.sweep.sweep(world.clock())
    await reaches(platform, instance.id, State.STOPPED)
    world.clock.now += timedelta(days=100)
    await platform.sweep.sweep(world.clock())
    world.runtime._running[instance.id] = row
    outcomes = await platform.sweep.sweep(world.clock())
    assert [(one.instance_id, one.action) for one in outcomes] == [(instance.id, "removed")]


@pytest.mark.slow
async def test_lists_of_ended_ones_go_on_page_by_page(world: World, platform: Platform, alice: User) -> None:
    """Also those of one instant; and two owners do not mix."""
    bob, _ = await sign_in(platform, "bob@a.org")
    mine = [await stopped(world, platform, alice) for _ in range(4)]
    other = await stopped(world, platform, bob)
    expected = sorted((one.id for one in mine), reverse=True)
    lists = (platform.instances.ended, partial(platform.instances.of_owner, with_ended=True))
    for pages in lists:
        seen: list[str] = []
        before = None
        while some := await pages(alice, limit=1, before=before):
            seen += [one.id for one in some]
            before = some[-1].ended_place if pages is lists[0] else some[-1].place
        assert seen == expected
    assert {one.id for one in await platform.instances.ended()} == {*expected, other.id}


async def test_the_database_refuses_to_change_or_remove_a_record(world: World, platform: Platform, alice: User) -> None:
    ended = await stopped(world, platform, alice)
    with closing(sqlite3.connect(world.database_file)) as db:
        for statement in (
            "UPDATE instance_history SET reason = 'another'",
            "UPDATE instance_history SET cpu_seconds = 1",
            "DELETE FROM instance_history",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="never changed or removed"):
                db.execute(statement)
    await platform.instances.forget(ended.id, alice, world.clock())
    async with platform.database.transaction() as db:
        assert not await instance_history.remove_from_list(db, ended.id, alice.id, world.clock()), "once"


class Sampled:
    """What a sampler knows."""

    def used_in_all(self, instance_id: str) -> UsedInAll | None:
        return UsedInAll(cpu_seconds=4321.5, peak_memory_bytes=7 * 1024**3)


async def test_what_was_sampled_stands_in_the_record(world: World, platform: Platform, alice: User) -> None:
    platform.runner._recorder._usage = Sampled()
    ended = await stopped(world, platform, alice)
    assert (await record_of(platform, ended.id)).used == UsedInAll(4321.5, 7 * 1024**3)


@pytest.mark.slow
async def test_an_end_whose_record_cannot_be_written_did_not_happen(
    world: World, platform: Platform, alice: User
) -> None:
    """One transaction: neither an end without a record nor a record without an end."""
    instance = await running(platform, alice)
    with closing(sqlite3.connect(world.database_file)) as db:
        db.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON instance_history BEGIN SELECT RAISE(ABORT, 'a full disk'); END"
        )
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    await asyncio.sleep(0.3)
    assert (await platform.instances.get(instance.id, alice)).state is State.STOPPING
    with closing(sqlite3.connect(world.database_file)) as db:
        db.execute("DROP TRIGGER broken")
    await reaches(platform, instance.id, State.STOPPED)
    assert ended_rows_without_a_record(world) == []


# -- databases of before -----------------------------------------------------------------------------------------------


async def test_the_migration_takes_over_what_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
    engine.dispose()
    with closing(sqlite3.connect(path)) as old, old:
        old.execute(
            "INSERT INTO users (id, email, username, uid, role, status, lab, created_at) "
            "VALUES ('u', 'ada@a.org', 'ada', 200001, 'user', 'active', 'physics', '2026-01-01 00:00:00.000000')"
        )
        for name, state, reason, ended_at in (
            ("failed0", "failed", "out of memory at 8 GB", "2026-01-03 10:00:00.000000"),
            ("stopped0", "stopped", None, None),
            ("running0", "running", None, None),
        ):
            old.execute(
                "INSERT INTO instances (id, owner_id, environment, state, stage, reason, memory_bytes, cpus, "
                "storage_bytes, days, created_at, expires_at, started_at, ended_at, stand_in, cause, oom_count) VALUES "
                "(?, 'u', 'rstudio', ?, 'ended', ?, 8589934592, 2, 1, 1, '2026-01-02 10:00:00.000000', "
                "'2026-01-04 10:00:00.000000', '2026-01-02 10:01:00.000000', ?, 0, 'memory', 3)",
                (name, state, reason, ended_at),
            )
    database = Database(f"sqlite+aiosqlite:///{path}")
    await database.migrate()
    async with database.reading() as db:
        failed, without = await instance_history.by_id(db, "failed0"), await instance_history.by_id(db, "stopped0")
        assert await instance_history.by_id(db, "running0") is None
        row = await instances.by_id(db, "failed0")
    await database.aclose()
    assert failed is not None
    assert without is not None
    assert failed.instance == row
    assert (failed.owner_email, failed.lab, failed.used) == ("ada@a.org", "physics", None)
    assert (failed.instance.cause, failed.instance.oom_count) == (CauseKind.MEMORY, 3)
    assert without.instance.reason == "its reason was not recorded"
    assert without.instance.ended_at == without.instance.created_at
