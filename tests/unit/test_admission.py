"""Who may start now: the pure decision, and the service that reacts when something becomes free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.domain.admission import (
    NEVER_ENOUGH,
    START_COUNTS_FOR,
    OwnerRoom,
    Verdict,
    decide,
    on_launch,
    queue_in_words,
)
from launchpad.domain.ends import OWNER_SUSPENDED
from launchpad.domain.instances import Instance, Stage, State
from launchpad.domain.limits import Capacity, Limits, Quota, Use
from launchpad.domain.room import Room
from launchpad.domain.users import User
from launchpad.platform import Platform
from launchpad.runtime.fake import GB
from launchpad.services.users import UserChange
from support.platforms import ACTOR, World, launch, reaches, sign_in, until

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
SMALL, LARGE = Limits(1 * GB, 1, GB, 1), Limits(4 * GB, 2, GB, 1)
PLENTY = OwnerRoom(Quota(), 100, Use())


def waiting(number: int, limits: Limits = SMALL, owner: str = "") -> Instance:
    return Instance(
        id=f"{number:016}",
        owner_id=owner or f"owner{number}",
        environment="rstudio",
        state=State.QUEUED,
        stage=Stage.WAITING,
        reason=None,
        limits=limits,
        created_at=NOW + timedelta(seconds=number),
        expires_at=NOW + timedelta(days=1),
    )


def room(memory_gb: int = 8, *, reserved: Use | None = None, starting: int = 0, at_once: int = 100) -> Room:
    return Room(Capacity(memory_gb * GB, 100.0, 1000), reserved or Use(), starting, at_once)


def verdicts(queue: list[Instance], there: Room, owners: dict[str, OwnerRoom] | None = None) -> list[str]:
    found = decide(queue, there, dict.fromkeys((one.owner_id for one in queue), PLENTY) | (owners or {}), NOW)
    assert [one.instance for one in found] == queue, "one decision for each, in the order of the queue"
    return [f"{one.verdict} {one.stage}" if one.verdict is Verdict.WAIT else str(one.verdict) for one in found]


def test_those_who_wait_longest_start_as_far_as_there_is_room() -> None:
    assert verdicts([waiting(n) for n in range(4)], room(2)) == ["start", "start", *["wait waiting for room"] * 2]


def test_nobody_overtakes_one_that_is_too_large_for_now() -> None:
    queue = [waiting(0, LARGE), waiting(1), waiting(2)]
    assert verdicts(queue, room(4, reserved=Use(GB, 1, 1))) == ["wait waiting for room"] * 3


def test_no_more_start_at_the_same_time_than_may() -> None:
    queue = [waiting(n) for n in range(4)]
    assert verdicts(queue, room(starting=1, at_once=3)) == ["start", "start", *["wait waiting for other starts"] * 2]


def test_one_that_can_never_fit_is_told_so_and_holds_nobody_up() -> None:
    queue = [waiting(0, LARGE), waiting(1)]
    decisions = decide(queue, room(2), dict.fromkeys(("owner0", "owner1"), PLENTY), NOW)
    assert [(one.verdict, one.reason) for one in decisions] == [(Verdict.END, NEVER_ENOUGH), (Verdict.START, "")]


def test_a_quota_that_was_lowered_meanwhile_holds_at_the_start() -> None:
    owners = {"owner0": OwnerRoom(Quota(memory_bytes=GB), 5, Use(GB, 1, 1)), "owner1": PLENTY}
    first, second = decide([waiting(0), waiting(1)], room(), owners, NOW)
    assert first.verdict is Verdict.END
    assert first.reason == "it is more than you may use now: your quota is 1 GB, of which 0 bytes are left"
    assert second.verdict is Verdict.START


def test_two_of_one_owner_count_together() -> None:
    queue = [waiting(0, owner="ada"), waiting(1, owner="ada")]
    assert verdicts(queue, room(), {"ada": OwnerRoom(Quota(instances=1), 5, Use())}) == ["start", "end"]


def test_what_a_suspended_owner_has_in_the_queue_ends() -> None:
    (decision,) = decide([waiting(0)], room(), {"owner0": replace(PLENTY, is_active=False)}, NOW)
    assert (decision.verdict, decision.reason) == (Verdict.END, OWNER_SUSPENDED)


def test_a_launch_goes_behind_those_who_wait() -> None:
    assert on_launch(SMALL, room(), []) is None
    assert on_launch(SMALL, room(starting=2, at_once=2), []) is Stage.TURN
    assert on_launch(LARGE, room(2), []) is Stage.WAITING
    assert on_launch(SMALL, room(), [replace(waiting(0), stage=Stage.TURN)]) is Stage.TURN


def earliest(there: Room, started: list[Limits], limits: Limits) -> datetime:
    """When it fits, if those end that were started now; without any end, never."""
    for at in sorted({NOW, *(NOW + timedelta(days=one.days) for one in started)}):
        left = there
        for one in started:
            if NOW + timedelta(days=one.days) > at:
                left = left.with_start(one)
        if left.has_room(limits):
            return at
    return datetime.max.replace(tzinfo=UTC)


limits = st.builds(Limits, st.integers(1, 6).map(lambda gb: gb * GB), st.integers(1, 4), st.just(GB), st.integers(1, 3))


@pytest.mark.slow
@given(
    st.lists(limits, max_size=12),
    st.integers(0, 16),
    st.integers(0, 16),
    st.integers(0, 6),
    st.integers(1, 6),
    st.lists(st.integers(0, 3), min_size=12, max_size=12),
    st.integers(0, 3),
)
def test_whatever_is_decided_fits_in_order_and_leaves_nobody_without_a_word(
    sizes: list[Limits], memory_gb: int, reserved_gb: int, starting: int, at_once: int, owners: list[int], most: int
) -> None:
    queue = [waiting(n, size, owner=f"owner{owners[n]}") for n, size in enumerate(sizes)]
    before = room(
        memory_gb, reserved=Use(reserved_gb * GB, reserved_gb, reserved_gb), starting=starting, at_once=at_once
    )
    of_owners = {f"owner{n}": OwnerRoom(Quota(instances=most), 5, Use()) for n in range(4)}
    decisions = decide(queue, before, of_owners, NOW)
    started = [one.instance for one in decisions if one.verdict is Verdict.START]
    waits_at = next((n for n, one in enumerate(decisions) if one.verdict is Verdict.WAIT), len(decisions))
    let_past = [one for one in decisions[waits_at:] if one.verdict is Verdict.START]
    if let_past:  # nobody behind one that waits starts, unless that one starts no later for it
        passed = decisions[waits_at]
        assert passed.stage is Stage.WAITING
        in_order = [one.instance.limits for one in decisions[:waits_at] if one.verdict is Verdict.START]
        with_them = [*in_order, *(one.instance.limits for one in let_past)]
        assert earliest(before, with_them, passed.instance.limits) <= earliest(before, in_order, passed.instance.limits)
    if started:
        assert reserved_gb * GB + sum(one.limits.memory_bytes for one in started) <= memory_gb * GB
        assert starting + len(started) <= at_once
    for owner in of_owners:
        assert sum(one.owner_id == owner for one in started) <= most
    for one in decisions:
        if one.verdict is Verdict.END:
            assert one.reason
        if one.verdict is Verdict.WAIT:
            assert one.stage in (Stage.WAITING, Stage.TURN)
    first = next((one for one in decisions if one.verdict is Verdict.WAIT), None)
    if first is not None:  # it waits for a reason
        after = before
        for instance in started:
            after = after.with_start(instance.limits)
        assert after.why_wait(first.instance.limits) is first.stage


@pytest.mark.parametrize(
    ("position", "stage", "text"),
    [
        (
            4,
            Stage.WAITING,
            "The server is full. 3 before you; it starts automatically as soon as memory and cores are free.",
        ),
        (
            1,
            Stage.WAITING,
            "The server is full. You are next; it starts automatically as soon as memory and cores are free.",
        ),
        (4, Stage.TURN, "Others are starting right now. 3 before you; it starts automatically in a moment."),
    ],
)
def test_the_queue_in_words(position: int, stage: Stage, text: str) -> None:
    assert queue_in_words(position, stage).startswith(text)


# -- the service -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, {"capacity": {"memory": "32g", "cpus": 1000, "starts_at_once": 2}})
    yield world
    await world.close()


async def people(world: World, platform: Platform, number: int) -> list[User]:
    return [(await sign_in(platform, f"person{n}@a.org", client=f"192.0.2.{n}"))[0] for n in range(number)]


@pytest.mark.slow
async def test_a_class_that_clicks_at_once_starts_a_few_at_a_time_and_all_get_theirs(world: World) -> None:
    platform = await world.open()
    world.runtime.hold("before start")
    found = []
    for user in await people(world, platform, 6):
        world.clock.now += timedelta(seconds=1)
        found.append(await launch(platform, user))
    assert [one.state for one in found] == [State.STARTING] * 2 + [State.QUEUED] * 4
    assert {one.stage for one in found[2:]} == {Stage.TURN}
    assert [await platform.instances.queue_position(one) for one in found[2:]] == [1, 2, 3, 4]
    await asyncio.wait_for(world.runtime.reached["before start"].wait(), 10)
    world.runtime.release()
    for one in found:
        await reaches(platform, one.id, State.RUNNING)
    assert found[-1].id in world.runtime.starts[-2:], "two start at a time"


@pytest.mark.slow
async def test_a_start_that_hangs_keeps_the_others_out_for_a_minute_only(world: World) -> None:
    platform = await world.open()
    world.runtime.hold("before start")
    users = await people(world, platform, 3)
    hanging = [await launch(platform, user) for user in users[:2]]
    third = await launch(platform, users[2])
    world.clock.now += START_COUNTS_FOR - timedelta(seconds=1)
    assert await platform.admission.admit(world.clock()) == []
    world.clock.now += timedelta(seconds=1)
    await platform.admission.admit(world.clock())
    assert (await platform.instances.get_any(third.id)).state is State.STARTING
    world.runtime.release()
    for one in (*hanging, third):
        await reaches(platform, one.id, State.RUNNING)


@pytest.mark.slow
async def test_what_is_waited_for_is_told_as_it_changes(world: World) -> None:
    """First for other starts; then, as those have taken what there was, for room."""
    world.settings["capacity"] = {"memory": "2g", "cpus": 1000, "starts_at_once": 1}
    platform = await world.open()
    world.runtime.hold("before start")
    users = await people(world, platform, 3)
    found = []
    for user in users:
        world.clock.now += timedelta(seconds=1)
        found.append(await launch(platform, user))
    assert [one.stage for one in found[1:]] == [Stage.TURN] * 2
    world.runtime.release()
    for one in found[:2]:
        await reaches(platform, one.id, State.RUNNING)

    async def waits_for_room() -> bool:
        return (await platform.instances.get_any(found[2].id)).stage is Stage.WAITING

    await until(waits_for_room)


@pytest.mark.slow
async def test_a_raised_quota_or_a_gone_instance_in_another_process_lets_somebody_start(world: World) -> None:
    """Nobody here is told but by the feed of changes."""
    world.settings["capacity"] = {"memory": "1g", "cpus": 1000}
    platform, other = await world.open(), await world.open()
    users = await people(world, platform, 2)
    first = await launch(platform, users[0])
    await reaches(platform, first.id, State.RUNNING)
    second = await launch(platform, users[1])
    assert second.state is State.QUEUED
    await other.instances.stop_any(first.id, ACTOR, world.clock())
    await reaches(platform, second.id, State.RUNNING)


async def test_a_lowered_quota_ends_what_queues_with_the_reason(world: World) -> None:
    world.settings["capacity"] = {"memory": "1g", "cpus": 1000}
    platform = await world.open()
    users = await people(world, platform, 2)
    await reaches(platform, (await launch(platform, users[0])).id, State.RUNNING)
    second = await launch(platform, users[1])
    await platform.users.change(users[1].id, UserChange(quota=Quota(instances=0)), ACTOR, world.clock())
    failed = await reaches(platform, second.id, State.FAILED)
    assert failed.reason == "it is more than you may use now: you may not run instances"
    assert world.rows("SELECT action FROM audit WHERE subject = ?", second.id)[-1] == ("instance.failed",)


async def test_nothing_to_decide_holds_up_no_writer(world: World) -> None:
    """A full server with a queue is looked at often, since something or other changes all the time."""
    world.settings["capacity"] = {"memory": "1g", "cpus": 1000}
    platform = await world.open()
    users = await people(world, platform, 2)
    await reaches(platform, (await launch(platform, users[0])).id, State.RUNNING)
    await launch(platform, users[1])
    await platform.admission.admit(world.clock())
    async with platform.database.transaction():  # who else would write waits for the end of this
        await asyncio.wait_for(platform.admission.admit(world.clock()), 10)
