"""Freezing and thawing: what is recorded, what the engine does, and what becomes of both when somebody dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from launchpad.domain.instances import Instance, ShownState, State
from launchpad.domain.users import User, UserStatus
from launchpad.errors import Conflict, EngineRefused, EngineUnavailable
from launchpad.platform import Platform
from launchpad.runtime.base import ContainerState, Freezer
from launchpad.services.freezing import DRAIN, PAUSE_TRIES, FreezingService
from launchpad.services.users import UserChange
from support.platforms import ACTOR, World, keep_current, launch, reaches, sign_in, until

GB = 1024**3


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, {"capacity": {"cpus": 2, "memory": "4g"}, "freezing": {"longest_hours": 48}})
    yield world
    await world.close()


async def running(platform: Platform, owner: User, **size: Any) -> Instance:
    return await reaches(platform, (await launch(platform, owner, **size)).id, State.RUNNING)


async def stands(world: World, instance_id: str) -> ContainerState | None:
    found = await world.runtime.find(instance_id)
    return found.state if found else None


async def froze(world: World, platform: Platform, owner: User, **size: Any) -> Instance:
    """An instance that has been frozen, by single passes of the owner's work."""
    instance = await running(platform, owner, **size)
    assert await platform.freezing.freeze(instance.id, world.clock(), "idle for 3 h")
    world.clock.now += DRAIN
    await platform.freezing.tend(world.clock())
    return await platform.instances.get_any(instance.id)


async def test_a_frozen_instance_stands_still_after_a_moment_and_says_since_when_and_why(
    world: World, platform: Platform, alice: User
) -> None:
    """It runs until what was on its way is through; the record of who and why is there at once."""
    instance = await running(platform, alice)
    asked_at = world.clock()
    assert await platform.freezing.freeze(instance.id, asked_at, "idle for 3 h", actor=ACTOR)
    assert not await platform.freezing.freeze(instance.id, asked_at, "again")
    await platform.freezing.tend(world.clock())
    waiting = await platform.instances.get_any(instance.id)
    assert (waiting.is_to_be_frozen, waiting.is_frozen, waiting.shown_state) == (True, False, ShownState.RUNNING)
    assert await stands(world, instance.id) is ContainerState.RUNNING
    world.clock.now += DRAIN
    await platform.freezing.tend(world.clock())
    frozen = await platform.instances.get_any(instance.id)
    assert (frozen.state, frozen.shown_state) == (State.RUNNING, ShownState.FROZEN)
    assert (frozen.frozen_at, frozen.frozen_reason) == (asked_at + DRAIN, "idle for 3 h")
    assert await stands(world, instance.id) is ContainerState.PAUSED
    assert world.runtime.pushed_out == [instance.id]
    said = "SELECT actor, action FROM audit WHERE action LIKE 'instance.%' ORDER BY id DESC LIMIT 1"
    assert world.rows(said) == [("test", "instance.frozen")]


async def test_a_thawed_one_goes_on_and_nothing_of_the_frost_is_left_in_its_row(
    world: World, platform: Platform, alice: User
) -> None:
    frozen = await froze(world, platform, alice)
    assert await platform.freezing.thaw(frozen.id, world.clock())
    assert await stands(world, frozen.id) is ContainerState.RUNNING
    awake = await platform.instances.get_any(frozen.id)
    assert awake.shown_state is ShownState.RUNNING
    assert (awake.freeze_asked_at, awake.frozen_at, awake.frozen_reason, awake.frozen_memory_bytes) == (None,) * 4
    assert not await platform.freezing.thaw(frozen.id, world.clock()), "it is awake already"


async def test_a_visit_in_the_last_moment_keeps_it_awake(world: World, platform: Platform, alice: User) -> None:
    """Also while the engine is pausing it: the row says what is wanted, and the container follows."""
    instance = await running(platform, alice)
    await platform.freezing.freeze(instance.id, world.clock(), "idle")
    assert await platform.freezing.thaw(instance.id, world.clock())
    world.clock.now += DRAIN
    await platform.freezing.tend(world.clock())
    assert await stands(world, instance.id) is ContainerState.RUNNING

    await platform.freezing.freeze(instance.id, world.clock(), "idle")
    world.clock.now += DRAIN
    paused = world.runtime.pause

    async def pause_while_somebody_comes(instance_id: str) -> None:
        await platform.freezing.thaw(instance_id, world.clock())
        await paused(instance_id)

    world.runtime.pause = pause_while_somebody_comes  # type: ignore[method-assign]
    await platform.freezing.tend(world.clock())
    assert await stands(world, instance.id) is ContainerState.RUNNING
    assert not (await platform.instances.get_any(instance.id)).is_to_be_frozen


async def test_a_frozen_one_counts_for_what_it_holds_and_its_quota_for_all_of_it(
    world: World, platform: Platform, alice: User
) -> None:
    """So the next in the queue starts; on a server that counts sizes it has to wait for memory."""
    frozen = await froze(world, platform, alice, memory_bytes=4 * GB, cpus=2)
    assert frozen.frozen_memory_bytes == GB, "the fake engine's containers use a quarter"
    assert (frozen.held_memory_bytes, frozen.held_cpus) == (GB, 0.0)
    everyones = await platform.live.instances.reserved()
    assert (everyones.memory_bytes, everyones.cpus, everyones.instances) == (GB, 0.0, 1)
    hers = await platform.live.instances.reserved(alice.id)
    assert (hers.memory_bytes, hers.cpus) == (4 * GB, 2.0)
    bert = (await sign_in(platform, "bert@a.org"))[0]
    assert (await launch(platform, bert, memory_bytes=2 * GB, cpus=2)).state is State.STARTING
    await platform.freezing.thaw(frozen.id, world.clock())
    assert (await platform.live.instances.reserved()).memory_bytes == 6 * GB, "a visit is never refused"


async def test_where_sizes_count_a_frozen_one_keeps_its_memory_and_frees_its_cores(tmp_path: Path) -> None:
    settings = {"capacity": {"cpus": 2, "memory": "4g"}, "freezing": {"memory": "size"}}
    world = World(tmp_path, settings)
    platform = await world.open()
    alice = (await sign_in(platform, "alice@a.org"))[0]
    await froze(world, platform, alice, memory_bytes=2 * GB, cpus=2)
    everyones = await platform.live.instances.reserved()
    assert (everyones.memory_bytes, everyones.cpus) == (2 * GB, 0.0)
    await world.close()


async def test_read_model_and_store_count_frozen_ones_alike(world: World, platform: Platform, alice: User) -> None:
    await froze(world, platform, alice, memory_bytes=2 * GB)
    from_store = await platform.live.instances.reserved(), await platform.live.instances.count_frozen()
    await keep_current(world, platform)
    assert (await platform.live.instances.reserved(), await platform.live.instances.count_frozen()) == from_store
    assert from_store[1] == 1


async def test_where_nothing_can_be_frozen_the_reason_is_said(world: World, platform: Platform, alice: User) -> None:
    instance = await running(platform, alice)
    world.runtime.freezer_facts = Freezer(False, "the kernel has no freezer")
    with pytest.raises(Conflict, match="the kernel has no freezer"):
        await platform.freezing.freeze(instance.id, world.clock(), "idle")
    assert not (await platform.instances.get_any(instance.id)).is_to_be_frozen


async def test_freezing_can_be_switched_off(tmp_path: Path) -> None:
    world = World(tmp_path, {"freezing": {"enabled": False}})
    platform = await world.open()
    alice = (await sign_in(platform, "alice@a.org"))[0]
    instance = await running(platform, alice)
    with pytest.raises(Conflict, match="freezing is off"):
        await platform.freezing.freeze(instance.id, world.clock(), "idle")
    await world.close()


async def test_only_what_runs_can_be_frozen(world: World, platform: Platform, alice: User) -> None:
    world.runtime.hold_starts()
    instance = await launch(platform, alice)
    with pytest.raises(Conflict, match="Only an instance that runs"):
        await platform.freezing.freeze(instance.id, world.clock(), "idle")
    world.runtime.release_starts()


async def test_an_engine_that_refuses_leaves_it_awake(world: World, platform: Platform, alice: User) -> None:
    """It is tried some times, and not for ever."""
    instance = await running(platform, alice)
    await platform.freezing.freeze(instance.id, world.clock(), "idle")
    world.runtime.freezer_facts = Freezer(False, "not any more")
    world.clock.now += DRAIN
    for _ in range(PAUSE_TRIES):
        assert (await platform.instances.get_any(instance.id)).is_to_be_frozen
        await platform.freezing.tend(world.clock())
    there = await platform.instances.get_any(instance.id)
    assert (there.is_to_be_frozen, there.state) == (False, State.RUNNING)


async def test_a_pause_that_fails_for_once_is_tried_again(world: World, platform: Platform, alice: User) -> None:
    """As of a group in which processes come and go; one that has ended is given up at once."""
    instance = await running(platform, alice)
    await platform.freezing.freeze(instance.id, world.clock(), "idle")
    world.clock.now += DRAIN
    facts, world.runtime.freezer_facts = world.runtime.freezer_facts, Freezer(False, "unable to freeze")
    await platform.freezing.tend(world.clock())
    world.runtime.freezer_facts = facts
    await platform.freezing.tend(world.clock())
    assert (await platform.instances.get_any(instance.id)).is_frozen

    await platform.freezing.thaw(instance.id, world.clock())
    await platform.freezing.freeze(instance.id, world.clock(), "idle")
    world.clock.now += DRAIN
    await world.runtime.kill(instance.id)
    await platform.freezing.tend(world.clock())
    assert not (await platform.instances.get_any(instance.id)).is_to_be_frozen


# -- somebody dies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dies", ["before the pause", "before the record"])
async def test_the_next_owner_freezes_what_the_one_before_was_to_freeze(
    world: World, platform: Platform, alice: User, dies: str
) -> None:
    instance = await running(platform, alice)
    await platform.freezing.freeze(instance.id, world.clock(), "idle")
    if dies == "before the record":
        await world.runtime.pause(instance.id)
    await world.crash(platform)
    later = await world.open()
    await later.sweep.sweep(world.clock())
    world.clock.now += DRAIN
    await later.freezing.tend(world.clock())
    assert (await later.instances.get_any(instance.id)).is_frozen
    assert await stands(world, instance.id) is ContainerState.PAUSED


@pytest.mark.slow
@pytest.mark.parametrize("by", ["the sweep", "the loop"])
async def test_the_next_owner_thaws_what_the_one_before_was_to_thaw(
    world: World, platform: Platform, alice: User, by: str
) -> None:
    frozen = await froze(world, platform, alice)
    resumed = world.runtime.resume

    async def die(instance_id: str) -> None:
        raise EngineUnavailable("it died here")

    world.runtime.resume = die  # type: ignore[method-assign]
    with pytest.raises(EngineUnavailable):
        await platform.freezing.thaw(frozen.id, world.clock())
    await world.crash(platform)
    world.runtime.resume = resumed  # type: ignore[method-assign]
    later = await world.open()
    assert await stands(world, frozen.id) is ContainerState.PAUSED
    if by == "the sweep":
        outcomes = await later.sweep.sweep(world.clock())
        assert [(one.instance_id, one.action) for one in outcomes] == [(frozen.id, "thawed")]
        assert await later.sweep.sweep(world.clock()) == []
    else:
        await later.freezing.tend(world.clock())
    assert await stands(world, frozen.id) is ContainerState.RUNNING


async def test_what_somebody_else_has_woken_is_awake_in_the_record_too(
    world: World, platform: Platform, alice: User
) -> None:
    """As by `docker unpause`; and a frozen one whose record agrees is left alone."""
    frozen = await froze(world, platform, alice)
    assert await platform.sweep.sweep(world.clock()) == []
    await world.runtime.resume(frozen.id)
    outcomes = await platform.sweep.sweep(world.clock())
    assert [(one.instance_id, one.action) for one in outcomes] == [(frozen.id, "recorded as awake")]
    assert not (await platform.instances.get_any(frozen.id)).is_to_be_frozen


async def test_a_thaw_that_fails_is_tried_again(world: World, platform: Platform, alice: User) -> None:
    frozen = await froze(world, platform, alice)
    world.runtime.go_down()
    with pytest.raises(EngineUnavailable):
        await platform.freezing.thaw(frozen.id, world.clock())
    world.runtime.come_back()
    await platform.freezing.tend(world.clock())
    assert await stands(world, frozen.id) is ContainerState.RUNNING


async def test_what_ends_while_frozen_is_recorded_as_an_end(world: World, platform: Platform, alice: User) -> None:
    """As when the engine was restarted and took its containers along."""
    frozen = await froze(world, platform, alice)
    await world.runtime.kill(frozen.id)
    await platform.sweep.sweep(world.clock())
    ended = await reaches(platform, frozen.id, State.FAILED)
    assert ended.frozen_at is None
    await platform.freezing.tend(world.clock())
    with pytest.raises(Conflict):
        await platform.freezing.freeze(frozen.id, world.clock(), "idle")
    assert not await platform.freezing.thaw(frozen.id, world.clock())


# -- its end -----------------------------------------------------------------------------------------------------------


async def test_a_frozen_one_can_be_stopped_and_saves(world: World, platform: Platform, alice: User) -> None:
    frozen = await froze(world, platform, alice)
    await platform.instances.stop(frozen.id, alice, ACTOR, world.clock())
    stopped = await reaches(platform, frozen.id, State.STOPPED)
    assert (stopped.reason, stopped.is_frozen) == ("stopped by you", False)
    assert await world.runtime.list_containers() == []
    assert (await platform.live.instances.reserved()).instances == 0


@pytest.mark.slow
async def test_a_frozen_one_expires(world: World, platform: Platform, alice: User) -> None:
    frozen = await froze(world, platform, alice)
    world.clock.now = frozen.expires_at
    await platform.sweep.sweep(world.clock())
    assert (await reaches(platform, frozen.id, State.EXPIRED)).reason is not None


@pytest.mark.slow
async def test_one_that_was_frozen_for_as_long_as_is_allowed_ends(
    world: World, platform: Platform, alice: User
) -> None:
    frozen = await froze(world, platform, alice, days=7)
    assert frozen.frozen_at is not None
    world.clock.now = frozen.frozen_at + timedelta(hours=48) - timedelta(seconds=1)
    await platform.sweep.sweep(world.clock())
    assert (await platform.instances.get_any(frozen.id)).state is State.RUNNING
    world.clock.now += timedelta(seconds=1)
    await platform.sweep.sweep(world.clock())
    ended = await reaches(platform, frozen.id, State.EXPIRED)
    assert ended.reason == "frozen since 2 March 2026 at 09:30 UTC, the longest allowed"


async def test_a_visit_just_before_its_end_saves_it(world: World, platform: Platform, alice: User) -> None:
    """The sweep has looked at it already: the end is only for what still stands still since then."""
    frozen = await froze(world, platform, alice, days=7)
    await platform.freezing.thaw(frozen.id, world.clock())
    over = await platform.runner.end(frozen, State.EXPIRED, "frozen", world.clock(), only_frozen_since=frozen.frozen_at)
    assert not over
    assert (await platform.instances.get_any(frozen.id)).state is State.RUNNING


async def test_suspending_somebody_ends_what_they_have_frozen(world: World, platform: Platform, alice: User) -> None:
    frozen = await froze(world, platform, alice)
    await platform.users.change(alice.id, UserChange(status=UserStatus.SUSPENDED), ACTOR, world.clock())
    await reaches(platform, frozen.id, State.STOPPED)
    assert await world.runtime.list_containers() == []


async def test_an_end_that_meets_a_freeze_lets_it_save(world: World, platform: Platform, alice: User) -> None:
    """The container must not stand still while it is being stopped."""
    instance = await running(platform, alice)
    await platform.freezing.freeze(instance.id, world.clock(), "idle")
    world.clock.now += DRAIN
    world.runtime.hold("before stop")
    await platform.instances.stop(instance.id, alice, ACTOR, world.clock())
    await world.runtime.reached["before stop"].wait()
    await platform.freezing._freeze(
        instance_to_freeze(await platform.instances.get_any(instance.id), world), world.clock()
    )
    assert await stands(world, instance.id) is ContainerState.RUNNING
    world.runtime.release()
    await reaches(platform, instance.id, State.STOPPED)


def instance_to_freeze(instance: Instance, world: World) -> Instance:
    """As the loop had read it before the end was decided."""
    return replace(instance, freeze_asked_at=world.clock() - DRAIN, state=State.RUNNING)


# -- who is there ------------------------------------------------------------------------------------------------------


async def watched(platform: Platform, world: World, looks: int) -> None:
    """Some passes of the loop, each a few seconds after the other."""
    for _ in range(looks):
        for one in platform.freezing._known.watched.values():
            one.since -= 5
        await platform.freezing.tend(world.clock())


async def test_what_somebody_types_into_an_open_page_thaws(world: World, platform: Platform, alice: User) -> None:
    """What was there before does not, nor does what one look alone has seen."""
    frozen = await froze(world, platform, alice)
    world.runtime.unread[frozen.id] = 6
    await watched(platform, world, 3)
    assert await stands(world, frozen.id) is ContainerState.PAUSED
    world.runtime.unread[frozen.id] = 14
    await watched(platform, world, 1)
    world.runtime.unread[frozen.id] = 0  # it was a page that was closed
    await watched(platform, world, 2)
    assert await stands(world, frozen.id) is ContainerState.PAUSED
    world.runtime.unread[frozen.id] = 230
    await watched(platform, world, 2)
    assert await stands(world, frozen.id) is ContainerState.RUNNING
    [(details,)] = world.rows("SELECT details FROM audit WHERE action = 'instance.thawed'")
    assert "something was typed into an open page" in details


async def test_where_pages_send_signs_of_life_by_themselves_messages_do_not_thaw(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await reaches(platform, (await launch(platform, alice, "rstudio")).id, State.RUNNING)
    await platform.freezing.freeze(instance.id, world.clock(), "idle")
    world.clock.now += DRAIN
    await platform.freezing.tend(world.clock())
    await watched(platform, world, 2)
    world.runtime.unread[instance.id] = 999
    await watched(platform, world, 4)
    assert await stands(world, instance.id) is ContainerState.PAUSED


# -- two processes -----------------------------------------------------------------------------------------------------


async def test_what_another_process_records_the_owner_of_the_work_does(
    world: World, platform: Platform, alice: User
) -> None:
    """Freeze and thaw are asked of a process that does not own the work; its own engine is never called."""
    world.run(platform, platform.freezing.loop())
    instance = await running(platform, alice)

    class NoEngine(FreezingService):
        async def _resume(self, instance_id: str) -> None:
            raise AssertionError("only the owner of the work does this")

    other = await world.open(mail=False)
    assert not other.lease.is_held
    asking = NoEngine(other.database, other.runtime, other.lease, other.settings.freezing, other.catalogue, world.clock)
    await asking.freeze(instance.id, world.clock(), "idle")
    world.clock.now += DRAIN

    async def is_now(state: ContainerState) -> bool:
        return await stands(world, instance.id) is state

    await until(lambda: is_now(ContainerState.PAUSED))
    await until(lambda: _is_frozen(other, instance.id))
    assert await asking.thaw(instance.id, world.clock())
    await until(lambda: is_now(ContainerState.RUNNING))


async def _is_frozen(platform: Platform, instance_id: str) -> bool:
    return (await platform.instances.get_any(instance_id)).is_frozen


async def test_many_who_come_at_once_wake_it_once(world: World, platform: Platform, alice: User) -> None:
    frozen = await froze(world, platform, alice)
    calls: list[str] = []
    resumed = world.runtime.resume

    async def counted(instance_id: str) -> None:
        calls.append(instance_id)
        await asyncio.sleep(0)
        await resumed(instance_id)

    world.runtime.resume = counted  # type: ignore[method-assign]
    answers = await asyncio.gather(*(platform.freezing.thaw(frozen.id, world.clock()) for _ in range(20)))
    assert sum(answers) == 1
    assert calls == [frozen.id]
    assert world.rows("SELECT count(*) FROM audit WHERE action = 'instance.thawed'") == [(1,)]


async def test_the_engine_refusing_is_told_to_who_thaws(world: World, platform: Platform, alice: User) -> None:
    frozen = await froze(world, platform, alice)
    await world.runtime.kill(frozen.id)
    with pytest.raises(EngineRefused):
        await platform.freezing.thaw(frozen.id, world.clock())
