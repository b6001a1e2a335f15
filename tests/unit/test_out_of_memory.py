"""What is recorded of programs that the kernel ends for lack of memory, over a fake engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import pytest

from launchpad.domain.ends import memory_notice
from launchpad.domain.instances import Instance, State
from launchpad.domain.memory import MemoryDeath, use_in_words
from launchpad.domain.users import User
from launchpad.errors import EngineUnavailable
from launchpad.platform import Platform
from support.platforms import World, launch, reaches, until

GB = 1024**3


async def running(platform: Platform, owner: User) -> Instance:
    return await reaches(platform, (await launch(platform, owner, memory_bytes=GB)).id, State.RUNNING)


def death(world: World, seconds: float = 0.5, program: str = "R session") -> MemoryDeath:
    return MemoryDeath(program, 1_020_000_000, world.clock() + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("used", "size", "words"),
    [
        (int(15.94 * GB), 16 * GB, "15.9 of 16 GB"),
        (1_020_000_000, GB, "0.95 of 1 GB"),
        (2 * GB, 2 * GB, "2 of 2 GB"),
        (GB, GB, "1 of 1 GB"),
        (3 * GB, 2 * GB, "2 of 2 GB"),
        (100 * 1024**2, 512 * 1024**2, "100 of 512 MB"),
        (64, 100, "64 of 100 bytes"),
    ],
)
def test_what_a_program_held_is_told_in_the_unit_of_the_whole(used: int, size: int, words: str) -> None:
    assert use_in_words(used, size) == words


async def test_the_owner_is_told_which_program_it_was_and_what_it_held(
    world: World, platform: Platform, alice: User
) -> None:
    instance = await running(platform, alice)
    world.runtime.deaths[instance.id] = (death(world),)
    await platform.memory.tend(world.clock())
    there = await platform.instances.get_any(instance.id)
    assert (there.oom_count, there.oom_program, there.oom_bytes) == (1, "R session", 1_020_000_000)
    told = str(memory_notice(there))
    assert "(R session, 0.95 of 1 GB)" in told
    assert "the IDE and the rest keep running" in told
    ((subject, details),) = world.rows("SELECT subject, details FROM audit WHERE action = 'instance.out_of_memory'")
    assert subject == instance.id
    assert '"program": "R session, 0.95 of 1 GB"' in details


@pytest.mark.parametrize("event_first", [True, False])
async def test_what_the_engine_tells_and_the_log_says_is_one_and_the_same(
    world: World, platform: Platform, alice: User, event_first: bool
) -> None:
    instance = await running(platform, alice)
    if event_first:
        await platform.runner.note_out_of_memory(instance.id)
    world.runtime.deaths[instance.id] = (death(world),)
    for _ in range(3):
        await platform.memory.tend(world.clock())
    if not event_first:
        await platform.runner.note_out_of_memory(instance.id)
        await platform.memory.tend(world.clock())
    there = await platform.instances.get_any(instance.id)
    assert (there.oom_count, there.oom_program) == (1, "R session")
    assert world.rows("SELECT count(*) FROM audit WHERE action = 'instance.out_of_memory'") == [(1,)]


async def test_a_second_one_is_counted_and_named_anew(world: World, platform: Platform, alice: User) -> None:
    instance = await running(platform, alice)
    first = death(world)
    world.runtime.deaths[instance.id] = (first,)
    await platform.memory.tend(world.clock())
    world.clock.now += timedelta(minutes=1)
    world.runtime.deaths[instance.id] = (first, death(world, program="STAR"))
    await platform.memory.tend(world.clock())
    there = await platform.instances.get_any(instance.id)
    assert (there.oom_count, there.oom_program) == (2, "STAR")
    await platform.runner.note_out_of_memory(instance.id)
    world.clock.now += timedelta(minutes=1)
    await platform.runner.note_out_of_memory(instance.id)
    there = await platform.instances.get_any(instance.id)
    assert (there.oom_count, there.oom_program) == (3, None), "nobody knows yet what the third one was"


async def test_what_was_told_before_is_no_news_to_the_next_process(
    world: World, platform: Platform, alice: User
) -> None:
    """The kernel's own clock is not quite the server's, so what is old by it is not compared to the second."""
    instance = await running(platform, alice)
    world.runtime.deaths[instance.id] = (death(world),)
    await platform.memory.tend(world.clock())
    world.clock.now += timedelta(minutes=5)
    await world.crash(platform)
    later = await world.open()
    world.runtime.deaths[instance.id] = (death(world, seconds=-200),)
    await later.memory.tend(world.clock())
    assert (await later.instances.get_any(instance.id)).oom_count == 1


@pytest.mark.slow  # waits for a clock
async def test_who_runs_out_again_and_again_costs_few_looks(world: World, platform: Platform, alice: User) -> None:
    """A look is at all instances of the server; each kill is an event."""
    instance = await running(platform, alice)
    await platform.memory.tend(world.clock())
    world.runtime.deaths[instance.id] = (death(world),)
    before = world.runtime.tended
    await asyncio.gather(*(platform.runner.explain_out_of_memory() for _ in range(50)))
    assert 1 <= world.runtime.tended - before <= 2
    assert (await platform.instances.get_any(instance.id)).oom_program == "R session"


@pytest.mark.slow  # waits for a clock
async def test_who_waits_for_a_look_that_fails_looks_themselves(world: World, platform: Platform, alice: User) -> None:
    instance = await running(platform, alice)
    world.runtime.deaths[instance.id] = (death(world),)
    tend, fails = world.runtime.tend_memory, [True]

    async def once_away() -> Mapping[str, tuple[MemoryDeath, ...]]:
        await asyncio.sleep(0)
        if fails.pop() if fails else False:
            raise EngineUnavailable("away")
        return await tend()

    world.runtime.tend_memory = once_away  # type: ignore[method-assign]
    answers = await asyncio.gather(*(platform.runner.explain_out_of_memory() for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in answers] == [EngineUnavailable, type(None), type(None)]
    assert (await platform.instances.get_any(instance.id)).oom_program == "R session"


@pytest.mark.parametrize("event_first", [True, False])
async def test_what_nobody_can_name_is_recorded_once_all_the_same(
    world: World, platform: Platform, alice: User, event_first: bool
) -> None:
    """It is told again at each pass, for minutes."""
    instance = await running(platform, alice)
    if event_first:
        await platform.runner.note_out_of_memory(instance.id)
    world.runtime.deaths[instance.id] = (MemoryDeath("", None, world.clock() + timedelta(seconds=1)),)
    for _ in range(4):
        await platform.memory.tend(world.clock())
        world.clock.now += timedelta(seconds=3)
    assert (await platform.instances.get_any(instance.id)).oom_count == 1
    assert (await platform.memory.last_day(world.clock()))["ended"] == 1


async def test_no_instance_is_blamed_for_what_the_server_lacks(world: World, platform: Platform, alice: User) -> None:
    instance = await running(platform, alice)
    world.runtime.deaths[instance.id] = (MemoryDeath("R", 9, world.clock(), of_server=True),)
    await platform.memory.tend(world.clock())
    assert (await platform.instances.get_any(instance.id)).oom_at is None


async def test_an_end_for_lack_of_memory_names_what_it_was(world: World, platform: Platform, alice: User) -> None:
    """Whichever is heard of first, the end or the death."""
    instance = await running(platform, alice)
    await world.observe(platform)

    async def listens() -> bool:
        return bool(world.runtime._listeners)

    await until(listens)
    world.runtime.deaths[instance.id] = (death(world, program="jupyter-lab"),)
    await world.runtime.kill(instance.id, out_of_memory=True)
    ended = await reaches(platform, instance.id, State.FAILED)
    assert ended.reason == "out of memory at 1 GB: jupyter-lab, 0.95 of 1 GB"
    (recorded,) = await platform.instances.ended(alice)
    assert (recorded.oom_program, recorded.oom_bytes) == ("jupyter-lab", 1_020_000_000)
