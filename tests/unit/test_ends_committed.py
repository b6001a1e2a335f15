"""An end, who asked for it and why are committed together, and what a suspension ends with the suspension itself."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from launchpad.domain.instances import Instance, State
from launchpad.domain.users import User, UserStatus
from launchpad.platform import Platform
from launchpad.runtime.base import Container
from launchpad.services.users import UserChange
from support.platforms import ACTOR, World, launch, reaches, sign_in

SUSPENDED = UserChange(status=UserStatus.SUSPENDED)


async def running(platform: Platform, owner: User, environment: str = "jupyterlab") -> Instance:
    return await reaches(platform, (await launch(platform, owner, environment)).id, State.RUNNING)


def states(world: World) -> dict[str, str]:
    return dict(world.rows("SELECT id, state FROM instances"))


def refuse_audit_of(world: World, action: str) -> None:
    """From now on the database refuses audit entries of that action, as a full disk would."""
    with closing(sqlite3.connect(world.database_file)) as db:
        db.execute(
            f"CREATE TRIGGER refuse BEFORE INSERT ON audit WHEN NEW.action = '{action}' "
            "BEGIN SELECT RAISE(ABORT, 'a full disk'); END"
        )


def accept_audit(world: World) -> None:
    with closing(sqlite3.connect(world.database_file)) as db:
        db.execute("DROP TRIGGER refuse")


@pytest.mark.slow
async def test_a_crash_right_after_a_suspension_leaves_nothing_of_theirs_running(
    world: World, platform: Platform, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the process does after the commit, it does not do."""
    first, second = await running(platform, alice), await running(platform, alice, "rstudio")
    monkeypatch.setattr(platform.runner, "ends_committed", lambda instance_ids: None)  # it dies here
    world.runtime.hold("before stop")
    await platform.users.change(alice.id, SUSPENDED, ACTOR, world.clock())
    assert states(world) == {first.id: "stopping", second.id: "stopping"}
    assert world.rows("SELECT subject FROM audit WHERE action = 'instance.stopped' ORDER BY subject") == sorted(
        [(first.id,), (second.id,)]
    )
    await world.crash(platform)
    world.runtime.release()
    restarted = await world.open()
    await world.observe(restarted)  # as the portal does first of all
    for one in (first, second):
        stopped = await reaches(restarted, one.id, State.STOPPED)
        assert stopped.reason == "stopped, since your account was suspended"
    assert await world.runtime.list_containers() == []


async def test_a_suspension_that_is_not_committed_stops_nothing(world: World, platform: Platform, alice: User) -> None:
    instance = await running(platform, alice)
    refuse_audit_of(world, "user.changed")
    with pytest.raises(IntegrityError, match="a full disk"):
        await platform.users.change(alice.id, SUSPENDED, ACTOR, world.clock())
    assert states(world) == {instance.id: "running"}
    accept_audit(world)
    await platform.users.change(alice.id, SUSPENDED, ACTOR, world.clock())
    await reaches(platform, instance.id, State.STOPPED)


@pytest.mark.slow
async def test_what_queues_and_what_starts_ends_with_the_suspension(tmp_path: Path) -> None:
    world = World(tmp_path, {"capacity": {"memory": "1g", "cpus": 100}})
    platform = await world.open()
    alice, _ = await sign_in(platform, "alice@a.org")
    bob, _ = await sign_in(platform, "bob@a.org")
    world.runtime.hold("before start")
    starting, queued = await launch(platform, alice), await launch(platform, alice, "rstudio")
    behind = await launch(platform, bob)
    assert (starting.state, queued.state) == (State.STARTING, State.QUEUED)
    await platform.users.change(alice.id, SUSPENDED, ACTOR, world.clock())
    assert states(world)[queued.id] == "stopped"
    await reaches(platform, starting.id, State.STOPPED)
    world.runtime.release()
    await reaches(platform, behind.id, State.RUNNING)
    assert [one.instance_id for one in await world.runtime.list_containers()] == [behind.id]
    await world.close()


@pytest.mark.parametrize("action", ["instance.stopped", "instance.expired"])
async def test_an_end_whose_audit_entry_cannot_be_written_did_not_happen(
    world: World, platform: Platform, alice: User, action: str
) -> None:
    instance = await running(platform, alice)
    refuse_audit_of(world, action)
    world.clock.now += timedelta(days=1 if action == "instance.expired" else 0)
    ending = (
        platform.sweep.sweep(world.clock())
        if action == "instance.expired"
        else platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    )
    with pytest.raises(IntegrityError, match="a full disk"):
        await ending
    assert states(world) == {instance.id: "running"}
    accept_audit(world)
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    await reaches(platform, instance.id, State.STOPPED)
    assert world.rows("SELECT actor FROM audit WHERE action = 'instance.stopped'") == [("test",)]


@pytest.mark.slow
async def test_a_sweep_inspects_only_what_differs_from_its_row(
    world: World, platform: Platform, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One list for all; a container that runs where its row says is not asked for on its own."""
    people = [(await sign_in(platform, f"p{n}@a.org", client=f"192.0.2.{n}"))[0] for n in range(5)]
    found = [await running(platform, one) for one in people]
    inspected: list[str] = []
    lists = 0
    find, list_containers = world.runtime.find, world.runtime.list_containers

    async def noted_find(instance_id: str) -> Container | None:
        inspected.append(instance_id)
        return await find(instance_id)

    async def noted_list() -> list[Container]:
        nonlocal lists
        lists += 1
        return await list_containers()

    monkeypatch.setattr(world.runtime, "find", noted_find)
    monkeypatch.setattr(world.runtime, "list_containers", noted_list)
    assert await platform.sweep.sweep(world.clock()) == []
    assert (lists, inspected) == (1, [])
    await world.runtime.kill(found[3].id, exit_code=3)
    await platform.sweep.sweep(world.clock())
    assert (lists, set(inspected)) == (2, {found[3].id})
    failed = await reaches(platform, found[3].id, State.FAILED)
    assert failed.reason == "JupyterLab ended by itself with exit code 3"


async def test_a_stop_during_the_engines_part_of_a_start_leaves_no_container_behind(
    world: World, platform: Platform, alice: User
) -> None:
    """The engine goes on with what it was asked for, whether or not anybody waits for the answer."""
    world.runtime.hold_starts()
    instance = await launch(platform, alice)

    async def asked() -> None:
        while not world.runtime.reached["before start"].is_set():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(asked(), 20)
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    await reaches(platform, instance.id, State.STOPPED)
    world.runtime.release_starts()
    await platform.runner.wait()
    assert await world.runtime.list_containers() == []
