"""The one sampler of what instances use."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from launchpad.domain.history import UsedInAll
from launchpad.domain.instances import Instance, Stage, State
from launchpad.domain.limits import Limits
from launchpad.errors import EngineUnavailable
from launchpad.runtime.base import Usage
from launchpad.services.live import usage
from launchpad.services.live.usage import Sample, UsageSampler

GB = 1024**3
AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
RUNS = Instance("one", "alice", "jupyterlab", State.RUNNING, Stage.READY, None, Limits(GB, 1.0, GB, 1), AT, AT)


class Engine:
    """What runs, and how often somebody looked. A look waits for `may_answer`."""

    def __init__(self) -> None:
        self.uses: dict[str, Usage] = {"one": Usage(GB, 10.0, 7)}
        self.looks = 0
        self.answers = True
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def usage_all(self) -> Mapping[str, Usage]:
        self.looks += 1
        await self.may_answer.wait()
        if not self.answers:
            raise EngineUnavailable("The container engine does not answer.")
        return dict(self.uses)


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def sampler(engine: Engine, time: Time) -> UsageSampler:
    return UsageSampler(engine, time)


async def test_cores_are_the_mean_between_two_samples(engine: Engine, time: Time, sampler: UsageSampler) -> None:
    await sampler.sample()
    first = sampler.latest("one")
    assert first == Sample(Usage(GB, 10.0, 7), time.now, None, GB)
    time.now += 5
    engine.uses["one"] = Usage(GB // 2, 20.0, 7)
    await sampler.sample()
    second = sampler.latest("one")
    assert second is not None
    assert (second.cpu_cores, second.peak_memory_bytes) == (2.0, GB)
    time.now += 5
    engine.uses["one"] = Usage(GB // 2, 1.0, 7, peak_memory_bytes=3 * GB)
    await sampler.sample()
    third = sampler.latest("one")
    assert third is not None
    assert third.cpu_cores is None, "a container made anew counts from the beginning"
    assert sampler.used_in_all("one") == UsedInAll(21.0, GB), "without what the kernel keeps of files"


async def test_what_is_known_is_given_without_a_look(engine: Engine, sampler: UsageSampler) -> None:
    await sampler.sample()
    for _ in range(100):
        assert await sampler.of(RUNS) is not None
    assert engine.looks == 1


async def test_one_that_just_began_to_run_has_a_look_made_once_for_all_who_ask(
    engine: Engine, sampler: UsageSampler
) -> None:
    await sampler.sample()
    engine.uses["two"] = Usage(1, 1.0, 1)
    new = replace(RUNS, id="two")
    found = await asyncio.gather(*(sampler.of(new) for _ in range(50)))
    assert all(one is not None and one.usage.pids == 1 for one in found)
    assert engine.looks == 2


async def test_one_that_no_look_finds_is_not_looked_for_again_at_once(
    engine: Engine, time: Time, sampler: UsageSampler
) -> None:
    gone = replace(RUNS, id="gone")
    assert [await sampler.of(gone) for _ in range(5)] == [None] * 5
    assert engine.looks == 1
    time.now += usage.AGAIN_AFTER_SECONDS + 0.1
    assert await sampler.of(gone) is None
    assert engine.looks == 2


async def test_what_does_not_run_is_not_looked_for(engine: Engine, sampler: UsageSampler) -> None:
    for state in set(State) - {State.RUNNING}:
        assert await sampler.of(replace(RUNS, state=state)) is None
    assert engine.looks == 0


async def test_old_numbers_are_not_given_for_new_ones(engine: Engine, time: Time, sampler: UsageSampler) -> None:
    await sampler.sample()
    engine.answers = False
    time.now += usage.LATE_AFTER_SECONDS + 1
    assert sampler.latest("one") is None
    assert await sampler.of(RUNS) is None
    with pytest.raises(EngineUnavailable):
        await sampler.sample()
    engine.answers = True
    await sampler.sample()
    assert sampler.latest("one") is not None


@pytest.mark.slow  # waits for a clock
async def test_nobody_waits_long_for_an_engine_that_hangs(engine: Engine, sampler: UsageSampler) -> None:
    engine.may_answer.clear()
    assert await asyncio.wait_for(sampler.of(RUNS), 20) is None
    await sampler.aclose()


async def test_what_was_used_is_known_for_some_time_after_the_end(
    engine: Engine, time: Time, sampler: UsageSampler
) -> None:
    await sampler.sample()
    del engine.uses["one"]
    time.now += 60
    await sampler.sample()
    assert sampler.latest("one") is None
    assert sampler.used_in_all("one") == UsedInAll(10.0, GB)
    time.now += usage.KEPT_SECONDS
    await sampler.sample()
    assert sampler.used_in_all("one") is None


async def test_listeners_get_each_look_whole(engine: Engine, sampler: UsageSampler) -> None:
    told: list[Mapping[str, Sample]] = []
    sampler.subscribe(told.append)
    await sampler.sample()
    engine.uses["two"] = Usage(1, 1.0, 1)
    await sampler.sample()
    assert [set(samples) for samples in told] == [{"one"}, {"one", "two"}]
