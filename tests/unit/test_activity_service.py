"""The one that samples, those that read what it knows, and the series that are kept; on both databases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from launchpad.domain.activity import Point, Program, Step, WorkThresholds, step_of
from launchpad.domain.environments import Environment
from launchpad.domain.instances import Instance
from launchpad.domain.usage import ContainerActivity, Usage
from launchpad.errors import EngineUnavailable
from launchpad.platform import Platform
from launchpad.services.activity import ActivityService, step_for
from launchpad.services.ide_signals import JupyterSignals, Kernels
from launchpad.store import activity
from support.platforms import START, World, launch, sign_in, until

pytestmark = pytest.mark.usefixtures("every_database")
MB = 1024**2
IDLE = ContainerActivity(Usage(100 * MB, 5.0, 7), 300 * MB)


async def running(world: World, platform: Platform) -> Instance:
    user, _ = await sign_in(platform, "ada@example.org")
    instance = await launch(platform, user)
    await until(lambda: is_running(platform, instance.id))
    world.runtime.activities[instance.id] = IDLE
    found = await platform.live.instances.find(instance.id)
    assert found is not None
    return found


async def is_running(platform: Platform, instance_id: str) -> bool:
    found = await platform.live.instances.find(instance_id)
    return found is not None and found.state == "running"


def works(world: World, instance: Instance, seconds: float, name: str = "STAR") -> None:
    """It takes processor time until the next look."""
    before = world.runtime.activities[instance.id]
    usage = replace(before.usage, cpu_seconds=before.usage.cpu_seconds + seconds)
    programs = (Program(name, seconds / 30, MB),) if seconds else ()
    world.runtime.activities[instance.id] = replace(before, usage=usage, programs=programs)


async def look(world: World, platform: Platform, seconds: float = 30) -> None:
    world.clock.now += timedelta(seconds=seconds)
    await platform.activity.sample(world.clock.now)


async def test_what_an_instance_does_is_known_with_its_evidence(world: World) -> None:
    platform = await world.open()
    instance = await running(world, platform)
    assert platform.activity.latest(instance.id) is None
    await look(world, platform)
    works(world, instance, 330)
    await look(world, platform)
    worked_at = world.clock.now
    known = platform.activity.latest(instance.id)
    assert known is not None
    assert known.sample.cpu_cores == pytest.approx(11)
    assert known.work.evidence == "STAR, 11 cores"
    assert (known.last_work_at, known.last_person_at) == (worked_at, instance.started_at)
    works(world, instance, 0)
    await look(world, platform, 3600)
    known = platform.activity.latest(instance.id)
    assert known is not None
    assert not known.work.is_working
    assert known.idle_since == worked_at
    used = await platform.live.usage.of(instance)
    assert used is not None, "the look is a sample of what it uses as well"
    assert used.usage == IDLE.usage.__class__(100 * MB, 335.0, 7)


async def test_rates_are_between_two_looks_and_not_over_a_container_that_began_anew(world: World) -> None:
    platform = await world.open()
    instance = await running(world, platform)
    await look(world, platform)
    one = replace(IDLE, disk_written_bytes=30 * MB, network_received_bytes=60 * MB)
    world.runtime.activities[instance.id] = one
    await look(world, platform)
    known = platform.activity.latest(instance.id)
    assert known is not None
    assert known.sample.disk_written_bytes_per_second == MB
    assert known.sample.network_received_bytes_per_second == 2 * MB
    world.runtime.activities[instance.id] = replace(IDLE, usage=Usage(MB, 0.1, 1))
    await look(world, platform)
    known = platform.activity.latest(instance.id)
    assert known is not None
    assert known.sample.cpu_cores is None
    assert not known.work.is_working


@pytest.mark.slow  # waits for a clock
async def test_what_a_person_did_counts_at_once_here_and_is_known_to_the_others(world: World) -> None:
    owner = await world.open()
    instance = await running(world, owner)
    other = await world.open(mail=False)
    await look(world, owner)
    await other.activity.read()
    acted = world.clock.now + timedelta(seconds=5)
    other.activity.note_person(instance.id, acted)
    known = other.activity.latest(instance.id)
    assert known is not None
    assert known.last_person_at == acted
    await other.activity.settle()
    world.clock.now = acted
    await look(world, owner)
    known = owner.activity.latest(instance.id)
    assert known is not None
    assert known.last_person_at == acted
    owner.activity.note_person(instance.id, acted - timedelta(hours=1))
    known = owner.activity.latest(instance.id)
    assert known is not None
    assert known.last_person_at == acted, "an older word changes nothing"


async def test_typing_into_a_terminal_is_a_persons_act_and_its_open_prompt_is_none(world: World) -> None:
    platform = await world.open()
    instance = await running(world, platform)
    world.runtime.activities[instance.id] = replace(IDLE, terminals=1)
    await look(world, platform)
    known = platform.activity.latest(instance.id)
    assert known is not None
    assert known.last_person_at == instance.started_at
    typed = world.clock.now + timedelta(seconds=3)
    world.runtime.activities[instance.id] = replace(IDLE, terminals=1, terminal_input_at=typed)
    await look(world, platform)
    known = platform.activity.latest(instance.id)
    assert known is not None
    assert known.last_person_at == typed
    (_, points) = await platform.activity.points(instance.id, START, world.clock.now + timedelta(minutes=5))
    await look(world, platform, 60)
    (_, points) = await platform.activity.points(instance.id, START, world.clock.now)
    assert [point.was_used for point in points][-1:] == [True]


@pytest.mark.slow  # waits for a clock
async def test_what_another_process_has_seen_of_a_person_is_recorded_although_it_is_known_later(world: World) -> None:
    owner = await world.open()
    other = await world.open(mail=False)
    instance = await running(world, owner)
    world.clock.now = step_of(world.clock.now, Step.MINUTE) + timedelta(minutes=5)
    begin = world.clock.now
    await look(world, owner, 0)
    acted = world.clock.now + timedelta(seconds=5)
    await look(world, owner)
    other.activity.note_person(instance.id, acted)
    await other.activity.settle()
    for _ in range(5):
        await look(world, owner)
    known = owner.activity.latest(instance.id)
    assert known is not None
    assert known.last_person_at == acted
    _, points = await owner.activity.points(instance.id, begin, world.clock.now)
    assert [point.was_used for point in points] == [False, True, False]


async def test_what_a_program_says_of_times_to_come_is_believed_up_to_now(world: World) -> None:
    """A terminal belongs to its user, who may set its times: the last of them would end every decision."""
    platform = await world.open()
    instance = await running(world, platform)
    never = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    world.runtime.activities[instance.id] = replace(IDLE, terminals=1, terminal_input_at=never)
    await look(world, platform)
    known = platform.activity.latest(instance.id)
    assert known is not None
    assert known.last_person_at == world.clock.now
    assert known.sample.signals.terminal_input_at == world.clock.now
    other = await world.open(mail=False)
    await other.activity.read()
    assert other.activity.latest(instance.id) == known


class Answering(JupyterSignals):
    """Kernels that were last given something, or answered, at this moment, and how many of them are busy."""

    def __init__(self) -> None:
        self.last_activity_at: datetime | None = None
        self.busy = 0
        self.answers = True

    async def of(self, asked: Sequence[tuple[Instance, Environment]]) -> Mapping[str, Kernels]:
        if not self.answers:
            return {}
        return {instance.id: Kernels(self.busy, self.last_activity_at) for instance, _ in asked}

    async def aclose(self) -> None:
        pass


def asking(world: World, platform: Platform, kernels: Answering) -> ActivityService:
    """As a portal has it that has just started."""
    return ActivityService(
        platform.database,
        world.runtime,
        platform.live.usage,
        platform.live.instances,
        kernels,
        platform.catalogue,
        WorkThresholds(),
        lambda: True,
        30,
    )


async def test_a_jupyter_that_does_not_answer_works_on_also_for_a_portal_that_starts(world: World) -> None:
    platform = await world.open()
    instance = await running(world, platform)
    world.runtime.activities[instance.id] = replace(IDLE, kernels=1)
    kernels = Answering()
    kernels.busy = 1
    before = asking(world, platform, kernels)
    await before.sample(world.clock.now)
    kernels.answers = False
    for service in (before, asking(world, platform, kernels)):
        for _ in range(2):
            world.clock.now += timedelta(seconds=30)
            await service.sample(world.clock.now)
            known = service.latest(instance.id)
            assert known is not None
            assert known.work.evidence == "a notebook is running"


async def test_a_cell_that_ends_before_the_next_look_is_work_and_recorded_as_such(world: World) -> None:
    platform = await world.open()
    instance = await running(world, platform)
    kernels = Answering()
    service = asking(world, platform, kernels)
    world.runtime.activities[instance.id] = replace(IDLE, kernels=1)
    start = step_of(world.clock.now, Step.MINUTE) + timedelta(minutes=5)
    for number in range(8):  # two looks a minute; the cell runs before the fourth
        world.clock.now = start + number * timedelta(seconds=30)
        if number == 3:
            kernels.last_activity_at = world.clock.now - timedelta(seconds=10)
        await service.sample(world.clock.now)
    known = service.latest(instance.id)
    assert known is not None
    assert known.last_work_at == kernels.last_activity_at
    _, points = await service.points(instance.id, start, world.clock.now)
    assert [point.was_working for point in points] == [False, True, False]


async def test_r_that_says_so_works_and_a_paused_instance_does_not(world: World) -> None:
    platform = await world.open()
    instance = await running(world, platform)
    world.runtime.activities[instance.id] = replace(IDLE, r_is_busy=True)
    await look(world, platform)
    known = platform.activity.latest(instance.id)
    assert known is not None
    assert known.work.evidence == "R is running code"
    await world.runtime.pause(instance.id)
    await look(world, platform)
    known = platform.activity.latest(instance.id)
    assert known is not None
    assert not known.work.is_working
    await world.runtime.resume(instance.id)


async def test_another_process_knows_what_the_one_that_samples_has_seen(world: World) -> None:
    """And goes on from there when it takes over, without forgetting when it last worked."""
    owner = await world.open()
    instance = await running(world, owner)
    await look(world, owner)
    works(world, instance, 30)
    await look(world, owner)
    worked_at = world.clock.now
    other = await world.open(mail=False)
    await other.activity.read()
    assert other.activity.all() == owner.activity.all()
    assert other.activity.sampled_at == worked_at
    works(world, instance, 0)
    await look(world, other)
    known = other.activity.latest(instance.id)
    assert known is not None
    assert known.last_work_at == worked_at


@pytest.mark.slow
async def test_minutes_are_kept_and_become_quarters_and_hours(world: World) -> None:
    platform = await world.open()
    instance = await running(world, platform)
    await look(world, platform, 0)
    for number in range(130):
        works(world, instance, 60 if number < 30 else 0)
        await look(world, platform, 60)
    step, minutes = await platform.activity.points(instance.id, START, world.clock.now)
    assert step is Step.MINUTE
    assert len(minutes) == 130
    assert [point.was_working for point in minutes[:40]] == [False] + [True] * 30 + [False] * 9
    assert minutes[5].cpu_cores == pytest.approx(1.0, abs=0.01)
    assert minutes[5].memory_bytes == 300 * MB
    assert minutes[5].memory_without_cache_bytes == 100 * MB
    step, quarters = await platform.activity.points(instance.id, START, world.clock.now, Step.QUARTER)
    assert (step, quarters[0].at) == (Step.QUARTER, START)
    assert [round(point.cpu_cores * 15) for point in quarters[:4]] == [14, 15, 1, 0]
    assert [point.was_working for point in quarters[:4]] == [True, True, True, False]
    assert len(quarters) == 9, "the last one of minutes that no quarter was made of yet"
    async with platform.database.reading() as db:
        hours = await activity.of(db, instance.id, Step.HOUR, START - timedelta(hours=1), world.clock.now)
    assert [point.at.hour for point in hours] == [9, 10]
    assert hours[0].was_working


@pytest.mark.slow
async def test_a_process_that_starts_later_makes_the_quarters_that_nobody_made(world: World) -> None:
    first = await world.open()
    instance = await running(world, first)
    for _ in range(20):
        await look(world, first, 60)
    second = await world.open(mail=False)
    world.clock.now += timedelta(hours=3)
    for _ in range(3):
        await look(world, second, 60)
    async with second.database.reading() as db:
        quarters = await activity.of(db, instance.id, Step.QUARTER, START, world.clock.now)
    assert [point.at for point in quarters][:2] == [START, START + timedelta(minutes=15)]


async def test_what_is_too_old_goes_and_what_is_finer_goes_first(world: World) -> None:
    platform = await world.open()
    instance = await running(world, platform)
    points = {instance.id: [Point(START, 1.0, 1024, 1024, 1)]}
    async with platform.database.transaction() as db:
        for step in Step:
            await activity.add(db, step, points)

    async def kept(now: datetime) -> list[Step]:
        async with platform.database.transaction() as db:
            await activity.prune(db, now)
            until = START + timedelta(hours=1)
            return [
                step for step in Step if await activity.of(db, instance.id, step, START - timedelta(hours=1), until)
            ]

    assert await kept(START + timedelta(days=1)) == [Step.MINUTE, Step.QUARTER, Step.HOUR]
    assert await kept(START + timedelta(days=3)) == [Step.QUARTER, Step.HOUR]
    assert await kept(START + timedelta(weeks=6)) == [Step.HOUR]
    assert await kept(START + timedelta(days=390)) == [Step.HOUR]
    assert await kept(START + timedelta(days=430)) == []


@pytest.mark.slow
async def test_one_that_has_ended_is_no_longer_known_and_its_series_stay(world: World) -> None:
    platform = await world.open()
    instance = await running(world, platform)
    for _ in range(4):
        await look(world, platform)
    await world.runtime.remove_from_outside(instance.id)
    await platform.sweep.sweep(world.clock.now)
    await until(lambda: has_ended(platform, instance.id))
    await look(world, platform, 120)
    assert platform.activity.latest(instance.id) is None
    _, points = await platform.activity.points(instance.id, START, world.clock.now)
    assert len(points) >= 2


async def has_ended(platform: Platform, instance_id: str) -> bool:
    found = await platform.live.instances.find(instance_id)
    return found is None or not found.is_live


async def test_an_engine_that_does_not_answer_leaves_what_was_known(world: World) -> None:
    platform = await world.open()
    instance = await running(world, platform)
    await look(world, platform)
    world.runtime.go_down()
    with pytest.raises(EngineUnavailable):
        await look(world, platform)
    assert platform.activity.latest(instance.id) is not None
    world.runtime.come_back()


@pytest.mark.parametrize(
    ("span", "step"),
    [
        (timedelta(hours=1), Step.MINUTE),
        (timedelta(hours=6), Step.MINUTE),
        (timedelta(days=1), Step.QUARTER),
        (timedelta(days=4), Step.QUARTER),
        (timedelta(days=30), Step.HOUR),
        (timedelta(days=390), Step.HOUR),
    ],
)
def test_the_step_that_shows_a_span_well(span: timedelta, step: Step) -> None:
    assert step_for(START, START + span) is step
