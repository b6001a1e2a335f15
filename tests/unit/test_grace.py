"""Time to finish for what works as its time runs out, and maintenance, which ends everything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from launchpad.domain.instances import Instance, State
from launchpad.errors import Conflict, InvalidInput, NotFound
from launchpad.platform import Platform
from launchpad.services.audit import CLI
from launchpad.services.live.loops import loops_of
from support.platforms import START, World, launch, reaches, sign_in, until

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


@dataclass
class Work:
    is_working: bool
    evidence: str = "STAR, 11 cores"


@dataclass
class Seen:
    work: Work
    last_work_at: datetime | None = None


class SetActivity:
    """What goes on in instances, as a test says."""

    def __init__(self) -> None:
        self.of: dict[str, Seen] = {}

    def latest(self, instance_id: str) -> Seen | None:
        return self.of.get(instance_id)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, {"ends": {"grace_minutes": 60}})
    yield world
    await world.close()


async def one_that_works(world: World) -> tuple[Platform, SetActivity, Instance]:
    platform, activity = await world.open(), SetActivity()
    platform.sweep._grace._activity = activity
    anna, _ = await sign_in(platform, "anna@example.org")
    one = await reaches(platform, (await launch(platform, anna, days=1)).id, State.RUNNING)
    activity.of[one.id] = Seen(Work(True), START + DAY)
    return platform, activity, one


async def swept(world: World, platform: Platform, one: Instance) -> Instance:
    await platform.sweep.sweep(world.clock.now)
    await platform.runner.wait()
    return await platform.instances.get_any(one.id)


async def weight(world: World, one: Instance) -> int | None:
    caps = await world.runtime.caps(one.id)
    return caps.cpu_weight if caps is not None else None


async def test_what_works_goes_on_at_a_low_share_until_its_grace_is_over(world: World) -> None:
    platform, _, one = await one_that_works(world)
    world.clock.now = START + DAY
    there = await swept(world, platform, one)
    assert (there.state, there.expires_at, there.ends_at) == (State.RUNNING, START + DAY, START + DAY + HOUR)
    assert await weight(world, one) == 10
    record = (await platform.audit.page(limit=1, search="given_time"))[0]
    assert record.details["because"] == "STAR, 11 cores"
    world.clock.now = START + DAY + 59 * MINUTE
    assert (await swept(world, platform, one)).state is State.RUNNING
    world.clock.now = START + DAY + HOUR
    ended = await swept(world, platform, one)
    assert (ended.state, ended.reason) == (State.EXPIRED, "expired on 3 March 2026 at 09:30 UTC")


@pytest.mark.parametrize("seen", [None, Seen(Work(False))])
async def test_what_does_not_visibly_work_ends_as_ever(world: World, seen: Seen | None) -> None:
    platform, activity, one = await one_that_works(world)
    activity.of = {one.id: seen} if seen is not None else {}
    world.clock.now = START + DAY
    assert (await swept(world, platform, one)).state is State.EXPIRED


async def test_nothing_goes_on_where_no_grace_is_set(world: World) -> None:
    world.settings["ends"] = {"grace_minutes": 0}
    platform, _, one = await one_that_works(world)
    world.clock.now = START + DAY
    assert (await swept(world, platform, one)).state is State.EXPIRED


@pytest.mark.slow
async def test_what_has_finished_ends_before_its_grace_is_over(world: World) -> None:
    platform, activity, one = await one_that_works(world)
    world.clock.now = START + DAY
    await swept(world, platform, one)
    activity.of[one.id] = Seen(Work(False), START + DAY + 10 * MINUTE)
    world.clock.now = START + DAY + 14 * MINUTE
    assert (await swept(world, platform, one)).state is State.RUNNING, "between two steps of a pipeline"
    world.clock.now = START + DAY + 15 * MINUTE
    assert (await swept(world, platform, one)).state is State.EXPIRED


@pytest.mark.slow  # waits for a clock
async def test_extended_it_has_its_whole_share_again(world: World) -> None:
    """Also where the engine is away for a while as it is to be given back."""
    platform, _, one = await one_that_works(world)
    anna = await platform.users.get(one.owner_id)
    world.clock.now = START + DAY
    await swept(world, platform, one)
    extended = await platform.instances.extend(one.id, anna, 1, CLI, world.clock.now)
    assert not extended.has_grace
    world.runtime.go_down()
    await platform.sweep.sweep(world.clock.now)
    world.runtime.come_back()
    assert await weight(world, one) == 10
    there = await swept(world, platform, one)
    assert await weight(world, one) == 100
    assert (there.grace_until, there.ends_at) == (None, START + 2 * DAY)


@pytest.mark.slow
async def test_the_owner_is_told_that_it_goes_on(world: World) -> None:
    platform, _, one = await one_that_works(world)
    world.clock.now = START + DAY - HOUR
    assert await platform.warnings.warn(world.clock.now) == 1
    world.clock.now = START + DAY
    await swept(world, platform, one)
    assert await platform.warnings.warn(world.clock.now) == 1
    assert await platform.warnings.warn(world.clock.now + MINUTE) == 0
    await platform.mail.drain()
    body = world.letters.sent[-1].get_body(("plain",))
    assert body is not None
    assert "still working, so it keeps running until Tue 3 Mar, 10:30 UTC" in body.get_content()


# -- maintenance -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_maintenance_stops_what_runs_and_lets_nothing_start(world: World) -> None:
    platform = await world.open()
    anna, _ = await sign_in(platform, "anna@example.org")
    one = await reaches(platform, (await launch(platform, anna)).id, State.RUNNING)
    made = await platform.announcements.announce("New  disks", CLI, START, stop_instances_at=START + HOUR)
    assert made.text == "New disks"
    assert (await swept(world, platform, one)).state is State.RUNNING
    world.clock.now = START + HOUR
    ended = await swept(world, platform, one)
    assert (ended.state, ended.reason) == (State.STOPPED, "stopped for maintenance: New disks")
    with pytest.raises(Conflict, match="until 2 March at 12:30 UTC, because of maintenance: New disks"):
        await launch(platform, anna)
    world.clock.now = START + 3 * HOUR
    await reaches(platform, (await launch(platform, anna)).id, State.RUNNING)


async def test_a_maintenance_that_is_withdrawn_does_not_take_place(world: World) -> None:
    platform = await world.open()
    anna, _ = await sign_in(platform, "anna@example.org")
    one = await reaches(platform, (await launch(platform, anna)).id, State.RUNNING)
    made = await platform.announcements.announce("New disks", CLI, START, stop_instances_at=START + HOUR)
    assert platform.live.announcements.shown(START) == (made,)
    await platform.announcements.withdraw(made.id, CLI, START)
    assert platform.live.announcements.shown(START) == ()
    world.clock.now = START + HOUR
    assert (await swept(world, platform, one)).state is State.RUNNING
    with pytest.raises(NotFound):
        await platform.announcements.withdraw(made.id, CLI, START)


async def test_what_cannot_be_announced(world: World) -> None:
    platform = await world.open()
    before = START - MINUTE
    wrong: dict[str, dict[str, Any]] = {
        "text": {"text": "  "},
        "until": {"shown_until": before},
        "stop_instances_at": {"stop_instances_at": before},
    }
    for field, given in wrong.items():
        with pytest.raises(InvalidInput) as refused:
            await platform.announcements.announce(**dict[str, Any]({"text": "x", "actor": CLI, "now": START, **given}))
        assert set(refused.value.fields) == {field}
    at = START + HOUR
    with pytest.raises(InvalidInput):
        await platform.announcements.announce("x", CLI, START, stop_instances_at=at, shown_until=at)
    assert await platform.announcements.not_over(START) == []


async def test_announcements_reach_the_pages_of_other_processes(world: World) -> None:
    platform, other = await world.open(), await world.open(mail=False)
    world.run(other, other.live.announcements.loop(world.clock))
    loops = loops_of(other.database.changes, other.live, other.events)
    world.run(other, *[loop for loop in loops if loop.name == "changes"])
    made = await platform.announcements.announce("New disks", CLI, START)

    async def shown() -> bool:
        return other.live.announcements.shown(START) == (made,)

    await until(shown)
