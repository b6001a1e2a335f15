"""The live instances that a process knows are those of the store, whoever changes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from launchpad.domain.instances import LIVE, Instance, State
from launchpad.domain.users import User
from launchpad.errors import NotFound, StoreUnavailable
from launchpad.platform import Platform
from launchpad.store import instances
from support.platforms import ACTOR, World, keep_current, launch, reaches, sign_in, until

SMALL = {"capacity": {"cpus": 2, "memory": "2g"}, "limits": {"memory": ["1g"], "cpus": [1], "days": [1, 2, 7]}}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, SMALL)
    yield world
    await world.close()


@pytest.fixture
async def here(world: World) -> Platform:
    return await world.open()


async def _same_as_the_store(platform: Platform, people: list[User]) -> None:
    """Every answer is the store's own."""
    known = platform.live.instances
    async with platform.database.reading() as db:
        everyones = await instances.page(db)
        assert await known.of_everyone() == everyones
        assert await known.reserved() == await instances.reserved(db)
        assert await known.count_by_state() == await instances.count_by_state(db)
        waiting = [one.created_at for one in everyones if one.state is State.QUEUED]
        assert await known.queued_since() == min(waiting, default=None)
        for user in people:
            assert await known.of_owner(user.id) == await instances.of_owner(db, user.id)
            assert await known.reserved(user.id) == await instances.reserved(db, user.id)
        for instance in everyones:
            assert await known.get(instance.id, instance.owner_id) == instance
            queued = instance.state is State.QUEUED
            position = await instances.queue_position(db, instance) if queued else None
            assert await known.queue_position(instance) == position


async def _life(world: World, here: Platform, other: Platform) -> None:
    """Launches, a queue, an extension, ends and a removal, each in one of two processes."""
    people = [(await sign_in(here, f"{name}@a.org"))[0] for name in ("alice", "bob", "carla", "dora")]

    async def seen(instance: Instance, *states: State) -> None:
        await reaches(other, instance.id, *states)
        await _told(here, instance.id, states)
        await here.admission.admit(here.now())  # else the queue may be told something new between the two looks
        await _same_as_the_store(here, people)

    first = await launch(here, people[0])
    await seen(first, State.RUNNING)
    second = await launch(other, people[1])
    await seen(second, State.RUNNING)
    third = await launch(other, people[2])
    world.clock.now += timedelta(seconds=1)
    fourth = await launch(here, people[3])
    await seen(fourth, State.QUEUED)
    assert [await here.live.instances.queue_position(one) for one in (third, fourth)] == [1, 2]
    await other.instances.extend(second.id, people[1], 1, ACTOR, other.now())
    await other.instances.stop(third.id, people[2], ACTOR, other.now())
    await seen(third, State.STOPPED)
    assert await here.live.instances.queue_position(fourth) == 1
    await here.instances.stop(first.id, people[0], ACTOR, here.now())
    await seen(fourth, State.RUNNING)
    await other.instances.forget(third.id, people[2], other.now())
    await until(lambda: _counts_as_ended(here, 1))
    await _same_as_the_store(here, people)


async def _told(platform: Platform, instance_id: str, states: tuple[State, ...]) -> None:
    async def there() -> bool:
        live = {one.id: one.state for one in await platform.live.instances.of_everyone()}
        return live.get(instance_id) in (states if LIVE & set(states) else (None,))

    await until(there)


async def _counts_as_ended(platform: Platform, number: int) -> bool:
    return (await platform.live.instances.count_by_state()).get(State.STOPPED) == number


@pytest.mark.slow
async def test_what_is_known_is_what_the_store_says_whichever_process_changes_it(world: World, here: Platform) -> None:
    await keep_current(world, here)
    await _life(world, here, await world.open())


@pytest.mark.slow
async def test_ends_are_counted_as_they_come_without_counting_all_again(
    world: World, here: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep_current(world, here)
    counted = 0
    count = instances.ended_and_live

    async def spied(db: AsyncConnection) -> tuple[dict[State, int], set[str]]:
        nonlocal counted
        counted += 1
        return await count(db)

    monkeypatch.setattr(instances, "ended_and_live", spied)
    alice, _ = await sign_in(here, "alice@a.org")
    assert await here.live.instances.count_by_state() == {}
    for number in (1, 2, 3):
        one = await launch(here, alice)
        await reaches(here, one.id, State.RUNNING)
        assert await here.live.instances.count_live() == {**dict.fromkeys(LIVE, 0), State.RUNNING: 1}
        await here.instances.stop(one.id, alice, ACTOR, here.now())
        await reaches(here, one.id, State.STOPPED)
        assert await here.live.instances.count_by_state() == {State.STOPPED: number}
    assert counted == 1
    await here.instances.forget(one.id, alice, here.now())
    assert await here.live.instances.count_by_state() == {State.STOPPED: 2}


@pytest.mark.slow
async def test_without_a_watcher_the_store_answers(world: World, here: Platform) -> None:
    await _life(world, here, await world.open())


async def test_while_nothing_changes_nobody_reads_the_store(world: World, here: Platform) -> None:
    """Shown by a database whose tables are gone."""
    await keep_current(world, here)
    user, _ = await sign_in(here, "alice@a.org")
    instance = await launch(here, user)
    await reaches(here, instance.id, State.RUNNING)
    known = here.live.instances
    (mine,) = await known.of_owner(user.id)
    await here.background.aclose()
    await world.change("ALTER TABLE instances RENAME TO elsewhere")
    try:
        assert await known.of_owner(user.id) == [mine]
        assert await known.find(instance.id) == mine
        assert (await known.count_live())[State.RUNNING] == 1
        assert (await known.reserved()).instances == 1
    finally:
        await world.change("ALTER TABLE elsewhere RENAME TO instances")


async def test_somebody_elses_instance_is_as_one_that_never_was(world: World, here: Platform) -> None:
    await keep_current(world, here)
    alice, _ = await sign_in(here, "alice@a.org")
    bob, _ = await sign_in(here, "bob@a.org")
    instance = await launch(here, alice)
    assert (await here.live.instances.get(instance.id, alice.id)).id == instance.id
    for instance_id in (instance.id, "nosuchinstance"):
        with pytest.raises(NotFound):
            await here.live.instances.get(instance_id, bob.id)


async def test_what_could_not_be_read_is_read_the_next_time(world: World, here: Platform) -> None:
    await keep_current(world, here)
    user, _ = await sign_in(here, "alice@a.org")
    known = here.live.instances
    assert await known.of_owner(user.id) == []
    instance = await launch(here, user)
    await reaches(here, instance.id, State.RUNNING)
    assert known.is_behind
    await world.change("ALTER TABLE instances RENAME TO elsewhere")
    with pytest.raises(StoreUnavailable):
        await known.of_owner(user.id)
    await world.change("ALTER TABLE elsewhere RENAME TO instances")
    assert [one.id for one in await known.of_owner(user.id)] == [instance.id]


@pytest.mark.slow
async def test_the_pages_of_a_long_list_are_those_of_the_store(world: World, here: Platform) -> None:
    await keep_current(world, here)
    for number in range(5):
        user, _ = await sign_in(here, f"person{number}@a.org")
        await launch(here, user)
        world.clock.now += timedelta(seconds=number % 2)
    whole = await here.live.instances.of_everyone()
    async with here.database.reading() as db:
        for before in [None, *(one.place for one in whole)]:
            assert await here.live.instances.of_everyone(limit=2, before=before) == await instances.page(
                db, states=LIVE, limit=2, before=before
            )
