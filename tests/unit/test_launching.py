"""From a click to a container that answers: launches, quotas, the queue, stops, extensions, and ends by themselves."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from launchpad.domain.instances import Instance, Stage, State
from launchpad.domain.limits import Quota
from launchpad.domain.users import User, UserStatus
from launchpad.errors import (
    Conflict,
    EngineUnavailable,
    Forbidden,
    ImageMissing,
    InvalidInput,
    LaunchpadError,
    NotFound,
    QuotaExceeded,
)
from launchpad.platform import Platform
from launchpad.runtime.fake import GB
from launchpad.services.users import UserChange
from support.databases import on_every_database
from support.platforms import ACTOR, World, launch, reaches, sign_in, until


async def people(world: World, platform: Platform, number: int) -> list[User]:
    return [(await sign_in(platform, f"person{n}@a.org", client=f"192.0.2.{n}"))[0] for n in range(number)]


async def with_quota(world: World, platform: Platform, user: User, quota: Quota) -> User:
    return await platform.users.change(user.id, UserChange(quota=quota), ACTOR, world.clock())


async def launched(platform: Platform, owner: User, environment: str = "jupyterlab") -> Instance:
    """One that runs."""
    instance = await launch(platform, owner, environment)
    return await reaches(platform, instance.id, State.RUNNING)


@on_every_database
async def test_a_launch_returns_before_the_engine_starts_and_shows_its_stages_in_order(
    world: World, platform: Platform, alice: User
) -> None:
    steps = {
        "before home": Stage.HOME,
        "before ensure_network": Stage.CONTAINER,
        "before start": Stage.CONTAINER,
    }
    for step in steps:
        world.runtime.hold(step)
    instance = await launch(platform, alice)
    assert (instance.state, instance.stage) == (State.STARTING, Stage.HOME)
    for step, stage in steps.items():
        await asyncio.wait_for(world.runtime.reached[step].wait(), 10)
        there = await platform.instances.get(instance.id, alice)
        assert (there.state, there.stage, there.address) == (State.STARTING, stage, None)
        world.runtime.gates.pop(step).set()
    running = await reaches(platform, instance.id, State.RUNNING)
    assert (running.stage, running.reason, running.started_at) == (Stage.READY, None, world.clock())
    assert running.image == "jupyter/datascience-notebook:2023-10-20"
    assert running.expires_at == world.clock() + timedelta(days=1)
    async with aiohttp.ClientSession() as http, http.get(f"http://{running.address}/") as answer:
        assert await answer.text() == instance.id


@pytest.mark.root  # it belongs to its user
@on_every_database
async def test_a_home_is_made_with_the_first_launch(world: World, platform: Platform, alice: User) -> None:
    await launched(platform, alice)
    found = (world.homes_root / "alice").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (alice.uid, alice.uid, 0o700)


@pytest.mark.slow
async def test_a_second_instance_does_not_shrink_the_home_of_the_first(
    world: World, platform: Platform, alice: User
) -> None:
    """One home has one limit: who runs with 64 GB would find it full once a launch with 16 GB had set it anew."""
    large = await launch(platform, alice, storage_bytes=64 * GB)
    await reaches(platform, large.id, State.RUNNING)
    small = await launch(platform, alice, "rstudio", storage_bytes=16 * GB)
    await reaches(platform, small.id, State.RUNNING)
    assert world.home_limits == {"alice": 64 * GB}
    for instance in (large, small):
        await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
        await reaches(platform, instance.id, State.STOPPED)
    again = await launch(platform, alice, storage_bytes=16 * GB)
    await reaches(platform, again.id, State.RUNNING)
    assert world.home_limits == {"alice": 16 * GB}, "alone, it is what was chosen"


@pytest.mark.slow
async def test_an_application_that_does_not_start_in_a_full_home_says_so(
    world: World, platform: Platform, alice: User
) -> None:
    world.runtime.deaf = True
    for used, reason in (
        (64 * GB, "; and your home folder is full (64 GB of 16 GB), so launch with more storage if you may"),
        (3 * GB, ""),
    ):
        world.home_use["alice"] = used
        instance = await launch(platform, alice, storage_bytes=16 * GB)
        await until(lambda instance=instance: world.runtime.find(instance.id))  # type: ignore[misc]
        await world.runtime.kill(instance.id, exit_code=3)
        failed = await reaches(platform, instance.id, State.FAILED)
        assert failed.reason == f"JupyterLab ended by itself with exit code 3{reason}"


@on_every_database
async def test_who_is_suspended_while_a_launch_is_on_its_way_gets_none(
    world: World, platform: Platform, alice: User
) -> None:
    """The request was let in before; what it asks for is decided by what holds now."""
    world.runtime.hold("before image_exists")
    world.runtime.reached["before image_exists"].clear()
    launching = asyncio.create_task(launch(platform, alice))
    await asyncio.wait_for(world.runtime.reached["before image_exists"].wait(), 10)
    await platform.users.change(alice.id, UserChange(status=UserStatus.SUSPENDED), ACTOR, world.clock())
    world.runtime.release()
    with pytest.raises(Forbidden, match="suspended"):
        await launching
    assert world.rows("SELECT count(*) FROM instances") == [(0,)]
    await platform.users.change(alice.id, UserChange(status=UserStatus.ACTIVE), ACTOR, world.clock())
    await launched(platform, alice)


@on_every_database
async def test_two_clicks_are_one_instance(world: World, platform: Platform, alice: User) -> None:
    world.runtime.hold("before start")
    first, second = await launch(platform, alice), await launch(platform, alice)
    assert first.id == second.id
    world.runtime.release()
    await reaches(platform, first.id, State.RUNNING)
    assert (await launch(platform, alice)).id == first.id
    assert (await launch(platform, alice, memory_bytes=GB, days=7)).id == first.id, "the same size, said aloud"


@pytest.mark.slow
@on_every_database
async def test_two_hundred_clicks_of_one_user_are_one_instance(world: World, platform: Platform, alice: User) -> None:
    other = await world.open()
    found = await asyncio.gather(*(launch((platform, other)[n % 2], alice) for n in range(200)))
    assert len({instance.id for instance in found}) == 1
    await reaches(platform, found[0].id, State.RUNNING)
    assert world.runtime.starts == [found[0].id]
    assert world.rows("SELECT count(*) FROM instances") == [(1,)]
    assert world.rows("SELECT count(*) FROM audit WHERE action = 'instance.launched'") == [(1,)]


@on_every_database
async def test_another_size_while_one_runs_is_a_conflict(platform: Platform, alice: User) -> None:
    await launched(platform, alice)
    sizes: list[dict[str, Any]] = [{"memory_bytes": 2 * GB}, {"cpus": 2.0}, {"storage_bytes": 16 * GB}]
    for size in sizes:
        with pytest.raises(Conflict, match="Stop it first"):
            await launch(platform, alice, **size)


@on_every_database
async def test_two_environments_run_beside_each_other_and_a_third_instance_is_over_the_limit(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    platform = await world.open()
    alice, _ = await sign_in(platform, "alice@a.org")
    alice = await with_quota(world, platform, alice, Quota(instances=1))
    await launched(platform, alice)
    with pytest.raises(QuotaExceeded) as refused:
        await launch(platform, alice, "rstudio")
    assert list(refused.value.fields) == ["instances"]
    alice = await with_quota(world, platform, alice, Quota())
    await launched(platform, alice, "rstudio")
    await world.close()


async def test_what_is_not_offered_is_refused_with_its_field(world: World, platform: Platform, alice: User) -> None:
    sizes: dict[str, dict[str, Any]] = {
        "memory": {"memory_bytes": 3 * GB},
        "cpus": {"cpus": 64.0},
        "storage": {"storage_bytes": 1},
        "days": {"days": 365},
    }
    for field, size in sizes.items():
        with pytest.raises(InvalidInput) as refused:
            await launch(platform, alice, **size)
        assert list(refused.value.fields) == [field]
    with pytest.raises(InvalidInput) as refused:
        await launch(platform, alice, "matlab")
    assert list(refused.value.fields) == ["environment"]
    assert world.rows("SELECT * FROM instances") == []


@on_every_database
@pytest.mark.parametrize(
    ("quota", "size", "field"),
    [
        (Quota(memory_bytes=2 * GB), {"memory_bytes": 2 * GB}, "memory"),
        (Quota(cpus=2), {"cpus": 2.0}, "cpus"),
        (Quota(storage_bytes=16 * GB), {"storage_bytes": 64 * GB}, "storage"),
        (Quota(instances=1), {}, "instances"),
        (Quota(instances=0), {}, "instances"),
    ],
)
async def test_quotas_count_all_of_a_users_live_instances(
    world: World, platform: Platform, alice: User, quota: Quota, size: dict[str, Any], field: str
) -> None:
    if field not in ("storage",) and quota.instances != 0:
        await launched(platform, alice, "rstudio")  # 1 GB, one core
    alice = await with_quota(world, platform, alice, quota)
    with pytest.raises(QuotaExceeded) as refused:
        await launch(platform, alice, **size)
    assert list(refused.value.fields) == [field]
    assert field in refused.value.detail.lower()


async def test_a_size_the_server_never_has_is_refused_and_does_not_wait_for_ever(tmp_path: Path) -> None:
    world = World(tmp_path, {"capacity": {"memory": "1g", "cpus": 100}})
    platform = await world.open()
    alice, _ = await sign_in(platform, "alice@a.org")
    with pytest.raises(QuotaExceeded, match="choose a smaller size"):
        await launch(platform, alice, memory_bytes=4 * GB)
    await world.close()


# -- the queue ---------------------------------------------------------------------------------------------------------


async def queue(tmp_path: Path, places: int, waiting: int) -> tuple[World, Platform, list[User], list[Instance]]:
    world = World(tmp_path, {"capacity": {"memory": f"{places}g", "cpus": 1000}})
    platform = await world.open()
    users = await people(world, platform, places + waiting)
    found = []
    for user in users:
        world.clock.now += timedelta(seconds=1)
        found.append(await launch(platform, user))
    await platform.runner.wait()
    return world, platform, users, found


@pytest.mark.slow
@on_every_database
async def test_who_finds_no_room_waits_in_order_and_starts_when_room_is_made(tmp_path: Path) -> None:
    world, platform, users, found = await queue(tmp_path, places=1, waiting=2)
    assert [one.state for one in found] == [State.STARTING, State.QUEUED, State.QUEUED]
    assert [one.stage for one in found[1:]] == [Stage.WAITING] * 2
    assert [await platform.instances.queue_position(one) for one in found[1:]] == [1, 2]
    assert await platform.instances.queue_position(await platform.instances.get_any(found[0].id)) is None
    world.clock.now += timedelta(hours=5)
    await platform.instances.stop(found[0].id, users[0], ACTOR, world.clock())
    second = await reaches(platform, found[1].id, State.RUNNING)
    assert second.expires_at == world.clock() + timedelta(days=1), "the time waited is not taken off"
    assert await platform.instances.queue_position(found[2]) == 1
    assert (await launch(platform, users[0])).state is State.QUEUED, "nobody overtakes those who wait"
    await world.close()


async def queue_of_two(world: World, platform: Platform, users: list[User]) -> tuple[Instance, Instance]:
    """The first runs; the second waits for more than there is beside it, and the third behind that."""
    running = await launch(platform, users[0])
    await reaches(platform, running.id, State.RUNNING)
    large = await launch(platform, users[1], memory_bytes=4 * GB)
    world.clock.now += timedelta(seconds=1)
    return large, await launch(platform, users[2])


@pytest.mark.slow
@on_every_database
async def test_who_gives_up_waiting_lets_those_behind_start(tmp_path: Path) -> None:
    """The first in the queue is too large for the room there is; when it goes, the next one fits."""
    world = World(tmp_path, {"capacity": {"memory": "4g", "cpus": 1000}})
    platform = await world.open()
    users = await people(world, platform, 3)
    large, small = await queue_of_two(world, platform, users)
    assert (large.state, small.state) == (State.QUEUED, State.QUEUED)
    stopped = await platform.instances.stop(large.id, users[1], ACTOR, world.clock())
    assert (stopped.state, stopped.reason) == (State.STOPPED, "stopped by you")
    await reaches(platform, small.id, State.RUNNING)
    await world.close()


@pytest.mark.slow
async def test_who_waits_for_more_than_there_is_any_longer_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """The administrator has taken memory away since: that one is told, and the next one starts."""
    world = World(tmp_path, {"capacity": {"memory": "4g", "cpus": 1000}})
    platform = await world.open()
    users = await people(world, platform, 3)
    large, small = await queue_of_two(world, platform, users)
    world.settings["capacity"] = {"memory": "2g", "cpus": 1000}
    await platform.lease.release()
    restarted = await world.open()
    await restarted.sweep.sweep(world.clock())
    failed = await restarted.instances.get_any(large.id)
    assert (failed.state, failed.reason, failed.ended_at) == (
        State.FAILED,
        "this server can no longer provide this size; launch a smaller one",
        world.clock(),
    )
    await reaches(restarted, small.id, State.RUNNING)
    await world.close()


@on_every_database
async def test_queue_positions_differ_even_for_launches_of_the_same_instant(tmp_path: Path) -> None:
    world = World(tmp_path, {"capacity": {"memory": "1g", "cpus": 1000}})
    platform = await world.open()
    found = [await launch(platform, user) for user in await people(world, platform, 4)]
    positions = [await platform.instances.queue_position(one) for one in found[1:]]
    assert sorted(position or 0 for position in positions) == [1, 2, 3]
    await world.close()


@pytest.mark.slow  # 60 people, 40 starts
@on_every_database
@pytest.mark.parametrize("processes", [1, 2])
async def test_f10_sixty_users_for_twenty_places_exactly_twenty_run_and_the_rest_waits(
    tmp_path: Path, processes: int
) -> None:
    world = World(tmp_path, {"capacity": {"memory": "20g", "cpus": 1000}})
    platforms = [await world.open() for _ in range(processes)]
    users = await people(world, platforms[0], 60)
    await asyncio.gather(*(launch(platforms[n % processes], user) for n, user in enumerate(users)))
    most_at_once = 0

    def states() -> dict[str, int]:
        return dict(world.rows("SELECT state, count(*) FROM instances GROUP BY state"))

    async def twenty_run() -> bool:
        nonlocal most_at_once
        most_at_once = max(most_at_once, states().get("starting", 0))
        return states() == {"running": 20, "queued": 40}

    await until(twenty_run)
    assert most_at_once <= 8, "as many as the host has cores"
    for platform in platforms:
        await platform.sweep.sweep(world.clock())
        await platform.runner.wait()
    assert states() == {"running": 20, "queued": 40}
    assert len(world.runtime.starts) == len(set(world.runtime.starts)) == 20
    everyone = await platforms[0].instances.of_everyone()
    running = [instance for instance in everyone if instance.state is State.RUNNING]
    for n, instance in enumerate(running):  # every end lets one in, whichever process sees it
        await platforms[n % processes].instances.stop_any(instance.id, ACTOR, world.clock())

    async def next_twenty() -> bool:
        return states() == {"stopped": 20, "running": 20, "queued": 20}

    await until(next_twenty)
    await world.close()


# -- what can go wrong -------------------------------------------------------------------------------------------------


async def test_a_missing_image_is_refused_and_nothing_is_recorded(
    world: World, platform: Platform, alice: User
) -> None:
    world.runtime.missing_images.add(platform.catalogue["jupyterlab"].image)
    with pytest.raises(ImageMissing, match="not on this server"):
        await launch(platform, alice)
    assert world.rows("SELECT * FROM instances") == []
    assert (await launched(platform, alice, "rstudio")).state is State.RUNNING


async def test_an_image_that_vanishes_after_it_was_seen_fails_the_launch_and_gives_the_place_back(
    world: World, platform: Platform, alice: User
) -> None:
    await platform.images.resolve(platform.catalogue["jupyterlab"])
    world.runtime.missing_images.add(platform.catalogue["jupyterlab"].image)
    failed = await reaches(platform, (await launch(platform, alice)).id, State.FAILED)
    assert "is not on this server" in str(failed.reason)
    assert (await platform.offers.use()).reserved.instances == 0


async def test_an_engine_that_is_away_is_said_so_and_nothing_is_recorded(
    world: World, platform: Platform, alice: User
) -> None:
    world.runtime.go_down()
    with pytest.raises(EngineUnavailable) as refused:
        await launch(platform, alice)
    assert refused.value.status == 503
    assert world.rows("SELECT * FROM instances") == []
    world.runtime.come_back()
    assert (await launched(platform, alice)).state is State.RUNNING


async def test_an_engine_that_goes_away_during_a_launch_fails_it_with_the_reason_and_a_retry_works(
    world: World, platform: Platform, alice: User
) -> None:
    world.runtime.hold("before ensure_network")
    instance = await launch(platform, alice)
    await asyncio.wait_for(world.runtime.reached["before ensure_network"].wait(), 10)
    world.runtime.go_down()
    world.runtime.release()
    failed = await reaches(platform, instance.id, State.FAILED)
    assert "engine does not answer" in str(failed.reason)
    world.runtime.come_back()
    assert (await launched(platform, alice)).id != instance.id


@pytest.mark.root  # homes belong to others
@pytest.mark.parametrize("kind", ["foreign", "link", "file", "no root"])
async def test_a_home_that_cannot_be_used_fails_the_launch_with_the_reason_and_is_left_alone(
    world: World, platform: Platform, alice: User, kind: str
) -> None:
    home = world.homes_root / alice.username
    if kind == "foreign":
        home.mkdir()
        os.chown(home, 4242, 4242)
    elif kind == "link":
        home.symlink_to(world.folder)
    elif kind == "file":
        home.write_text("mine", encoding="utf-8")
    else:
        world.homes_root.rmdir()
    failed = await reaches(platform, (await launch(platform, alice)).id, State.FAILED)
    expected = {"foreign": "belongs to another user", "no root": "does not exist"}.get(kind, "not a directory")
    assert expected in str(failed.reason)
    assert world.runtime.starts == []
    if kind == "foreign":
        assert home.stat().st_uid == 4242
    assert world.folder.stat().st_uid == 0
    assert (await platform.offers.use()).reserved.instances == 0


@pytest.mark.slow
async def test_an_application_that_never_answers_fails_in_time_and_leaves_nothing_behind(tmp_path: Path) -> None:
    world = World(tmp_path, {"environments": [{"name": "jupyterlab", "start_timeout_seconds": 5}]})
    platform = await world.open()
    alice, _ = await sign_in(platform, "alice@a.org")
    world.runtime.deaf = True
    failed = await reaches(platform, (await launch(platform, alice)).id, State.FAILED)
    assert "did not answer within 5 seconds" in str(failed.reason)
    assert await world.runtime.list_containers() == []
    assert (failed.address, failed.ended_at) == (None, world.clock())
    await world.close()


@pytest.mark.slow  # waits for a clock
async def test_an_application_that_ends_while_it_starts_fails_with_the_reason(
    world: World, platform: Platform, alice: User
) -> None:
    world.runtime.deaf = True
    instance = await launch(platform, alice)
    await until(lambda: world.runtime.find(instance.id))
    await world.runtime.kill(instance.id, exit_code=3)
    failed = await reaches(platform, instance.id, State.FAILED)
    assert failed.reason == "JupyterLab ended by itself with exit code 3"
    assert await world.runtime.list_containers() == []


async def test_a_gpu_that_the_server_cannot_give_fails_the_launch_with_that_reason(tmp_path: Path) -> None:
    """Where there is one, it is asked for."""
    world = World(tmp_path, {"environments": [{"name": "jupyterlab", "gpus": ["0"]}]})
    platform = await world.open()
    owner, _ = await sign_in(platform, "gina@example.org")
    failed = await reaches(platform, (await launch(platform, owner)).id, State.FAILED)
    assert str(failed.reason).startswith("This environment needs a GPU, and this server has none available.")
    world.runtime.has_gpus = True
    running = await reaches(platform, (await launch(platform, owner)).id, State.RUNNING)
    assert world.runtime._running[running.id].spec.gpus == ("0",)
    await world.close()


async def test_an_engine_that_refuses_fails_the_launch(world: World, platform: Platform, alice: User) -> None:
    world.runtime.refusing.add("start")
    failed = await reaches(platform, (await launch(platform, alice)).id, State.FAILED)
    assert failed.reason == "The container engine refused it."


@pytest.mark.slow  # the stop is tried again after ten seconds
async def test_a_fault_of_ours_ends_a_launch_as_failed_and_keeps_a_stop_for_later(
    world: World, platform: Platform, alice: User
) -> None:
    bob, _ = await sign_in(platform, "bob@a.org")
    running = await launched(platform, bob)
    world.runtime.broken |= {"start", "stop"}
    starting = await launch(platform, alice)
    await platform.instances.stop(running.id, bob, ACTOR, world.clock())
    failed = await reaches(platform, starting.id, State.FAILED)
    assert failed.reason == "something went wrong on our side; it was recorded"
    assert (await platform.instances.get_any(running.id)).state is State.STOPPING
    world.runtime.broken.clear()
    stopped = await reaches(platform, running.id, State.STOPPED)
    assert stopped.reason == "stopped by you"
    assert await world.runtime.list_containers() == []


# -- ends --------------------------------------------------------------------------------------------------------------


async def test_a_running_instance_is_stopped_with_its_grace_and_its_container_goes(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await launched(platform, alice)
    world.runtime.hold("before stop")
    stopping = await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    assert (stopping.state, stopping.stage) == (State.STOPPING, Stage.SAVING)
    again = await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    assert again.state is State.STOPPING
    world.runtime.release()
    stopped = await reaches(platform, instance.id, State.STOPPED)
    assert (stopped.reason, stopped.stage, stopped.address) == ("stopped by you", Stage.ENDED, None)
    assert await world.runtime.list_containers() == []
    assert (await platform.instances.stop(instance.id, alice, ACTOR, world.clock())).state is State.STOPPED
    assert world.rows("SELECT count(*) FROM audit WHERE action = 'instance.stopped'") == [(1,)]


@on_every_database
@pytest.mark.parametrize("step", ["before home", "before ensure_network", "before start", "after start"])
async def test_a_launch_can_be_stopped_at_each_step(world: World, platform: Platform, alice: User, step: str) -> None:
    world.runtime.hold(step)
    instance = await launch(platform, alice)
    await asyncio.wait_for(world.runtime.reached[step].wait(), 10)
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    stopped = await reaches(platform, instance.id, State.STOPPED)
    assert stopped.reason == "stopped by you"
    world.runtime.release()
    await platform.runner.wait()
    assert await world.runtime.list_containers() == []


@on_every_database
@pytest.mark.parametrize("step", ["before ensure_network", "before start", "after start"])
async def test_a_launch_that_another_process_stops_leaves_no_container(
    world: World, platform: Platform, alice: User, step: str
) -> None:
    """The one who launches is past the look at the row when the other has ended it already."""
    other = await world.open()
    world.runtime.hold(step)
    instance = await launch(platform, alice)
    await asyncio.wait_for(world.runtime.reached[step].wait(), 10)
    await other.instances.stop_any(instance.id, ACTOR, world.clock())
    await reaches(platform, instance.id, State.STOPPED)
    await other.instances.forget(instance.id, alice, world.clock())
    world.runtime.release()
    await platform.runner.wait()
    assert await world.runtime.list_containers() == []


@on_every_database
async def test_an_administrators_stop_says_so(world: World, platform: Platform, alice: User) -> None:
    instance = await launched(platform, alice)
    await platform.instances.stop_any(instance.id, ACTOR, world.clock())
    assert (await reaches(platform, instance.id, State.STOPPED)).reason == "stopped by an administrator"


@pytest.mark.slow
@on_every_database
async def test_an_engine_that_refuses_a_stop_is_asked_again_by_the_sweep(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await launched(platform, alice)
    world.runtime.refusing.add("stop")
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    await platform.runner.wait()
    assert (await platform.instances.get_any(instance.id)).state is State.STOPPING
    world.runtime.refusing.clear()
    await platform.lease.release()
    other = await world.open()  # the timer's sweep is a process of its own, where no portal lives
    await other.sweep.sweep(world.clock())
    await other.runner.wait()
    assert (await platform.instances.get_any(instance.id)).state is State.STOPPED
    assert await world.runtime.list_containers() == []


@on_every_database
async def test_somebody_elses_instance_is_not_there(world: World, platform: Platform, alice: User) -> None:
    bob, _ = await sign_in(platform, "bob@a.org")
    instance = await launched(platform, alice)
    services = platform.instances
    for call in (
        services.get(instance.id, bob),
        services.stop(instance.id, bob, ACTOR, world.clock()),
        services.extend(instance.id, bob, 1, ACTOR, world.clock()),
        services.forget(instance.id, bob, world.clock()),
    ):
        with pytest.raises(NotFound):
            await call
    assert await services.of_owner(bob, with_ended=True) == []
    assert (await services.get(instance.id, alice)).state is State.RUNNING


@pytest.mark.slow  # waits for a clock
@on_every_database
async def test_an_extension_adds_days_up_to_the_longest_offered_from_now(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await launched(platform, alice)  # one day
    services = platform.instances
    longer = await services.extend(instance.id, alice, 2, ACTOR, world.clock())
    assert longer.expires_at == world.clock() + timedelta(days=3)
    longest = await services.extend(instance.id, alice, 7, ACTOR, world.clock())
    assert longest.expires_at == world.clock() + timedelta(days=7)
    with pytest.raises(Conflict, match="the longest allowed"):
        await services.extend(instance.id, alice, 1, ACTOR, world.clock())
    world.clock.now += timedelta(days=1)
    again = await services.extend(instance.id, alice, 7, ACTOR, world.clock())
    assert again.expires_at == world.clock() + timedelta(days=7)
    for days in (0, -1, 3, 10**6):
        with pytest.raises(InvalidInput) as refused:
            await services.extend(instance.id, alice, days, ACTOR, world.clock())
        assert list(refused.value.fields) == ["days"]
    await services.stop(instance.id, alice, ACTOR, world.clock())
    await reaches(platform, instance.id, State.STOPPED)
    with pytest.raises(Conflict):
        await services.extend(instance.id, alice, 1, ACTOR, world.clock())


@on_every_database
async def test_only_an_ended_instance_can_be_forgotten_and_the_home_stays(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await launched(platform, alice)
    with pytest.raises(Conflict):
        await platform.instances.forget(instance.id, alice, world.clock())
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    await reaches(platform, instance.id, State.STOPPED)
    await platform.instances.forget(instance.id, alice, world.clock())
    with pytest.raises(NotFound):
        await platform.instances.get(instance.id, alice)
    assert (world.homes_root / alice.username).is_dir()


@pytest.mark.parametrize(
    ("exit_code", "out_of_memory", "state", "reason"),
    [
        (137, True, State.FAILED, "out of memory at 1 GB"),
        (137, False, State.FAILED, "JupyterLab was killed (exit code 137), by a program in it or on the server"),
        (143, False, State.FAILED, "JupyterLab was told to end (exit code 143)"),
        (1, False, State.FAILED, "JupyterLab ended by itself with exit code 1"),
        (0, False, State.STOPPED, "JupyterLab was shut down from inside"),
    ],
)
async def test_the_observer_records_an_end_by_itself_with_the_reason_and_a_relaunch_works(
    world: World,
    platform: Platform,
    alice: User,
    exit_code: int,
    out_of_memory: bool,
    state: State,
    reason: str,
) -> None:
    await world.observe(platform)
    instance = await launched(platform, alice)
    (world.homes_root / alice.username / "work.txt").write_text("kept", encoding="utf-8")
    await listening(world)
    await world.runtime.kill(instance.id, exit_code=exit_code, out_of_memory=out_of_memory)
    ended = await reaches(platform, instance.id, State.FAILED, State.STOPPED)
    assert (ended.state, str(ended.reason).startswith(reason)) == (state, True), ended.reason
    assert await world.runtime.list_containers() == []
    assert (await launched(platform, alice)).id != instance.id
    assert (world.homes_root / alice.username / "work.txt").read_text(encoding="utf-8") == "kept"


async def listening(world: World) -> None:
    async def somebody() -> bool:
        return bool(world.runtime._listeners)

    await until(somebody)


@pytest.mark.slow
@on_every_database
async def test_after_the_engine_was_away_rows_and_engine_are_compared(
    world: World, platform: Platform, alice: User
) -> None:
    """One ended while nobody could hear of it, the other lives on."""
    bob, _ = await sign_in(platform, "bob@a.org")
    await world.observe(platform)
    lost, kept = await launched(platform, alice), await launched(platform, bob)
    await listening(world)
    world.runtime.go_down()
    await world.runtime.kill(lost.id)
    world.runtime.come_back()
    ended = await reaches(platform, lost.id, State.FAILED)
    assert ended.reason == "it ended while the server's container engine was restarted"
    assert (await platform.instances.get_any(kept.id)).state is State.RUNNING


async def test_nothing_is_decided_while_the_engine_is_away(world: World, platform: Platform, alice: User) -> None:
    instance = await launched(platform, alice)
    world.runtime.go_down()
    outcomes = await platform.sweep.sweep(world.clock())
    assert [outcome.action for outcome in outcomes] == ["engine unavailable"]
    with pytest.raises(LaunchpadError):
        await platform.runner.reconcile_all()
    assert (await platform.instances.get_any(instance.id)).state is State.RUNNING
