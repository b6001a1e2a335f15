"""What is known of the engine, its images and the homes, without a page that waits for them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest

from launchpad.domain.environments import Environment
from launchpad.domain.home_use import MeasuredUse
from launchpad.domain.instances import State
from launchpad.errors import EngineUnavailable, HomeUnavailable, ImageMissing
from launchpad.runtime.base import HostFacts
from launchpad.runtime.fake import FakeRuntime
from launchpad.services.catalogue import catalogue_of
from launchpad.services.images import ResolvedImage
from launchpad.services.live.engine import NOT_KNOWN, LiveHost, LiveImages
from launchpad.services.live.homes import UNKNOWN, LiveHomes
from launchpad.services.live.looked_up import LookedUp
from launchpad.settings import tables
from launchpad.storage.base import HomeUse
from launchpad.storage.plain import PlainHomes
from support.platforms import World, launch, reaches, sign_in

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
GB = 1024**3

SHORT = 0.2  # the patience of these tests' questions, in seconds
LONG = 20.0  # nothing takes so long unless it waits for what hangs


class Question:
    """Answers how often it was asked, when it may."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.fails = False

    async def __call__(self) -> int:
        self.asked += 1
        number = self.asked
        await self.may_answer.wait()
        if self.fails:
            raise EngineUnavailable("The container engine does not answer.")
        return number


def _looked_up(question: Question, late_after_seconds: float = LONG) -> LookedUp[int]:
    return LookedUp(question, late_after_seconds=late_after_seconds, patience_seconds=SHORT)


async def test_what_a_loop_has_asked_is_not_asked_again() -> None:
    question = Question()
    known = _looked_up(question)
    await known.renew()
    assert [await known.get() for _ in range(100)] == [1] * 100
    await known.renew()
    assert await known.get() == 2


async def test_where_no_loop_asks_or_it_is_late_whoever_wants_the_answer_does() -> None:
    question = Question()
    known = _looked_up(question)
    assert [await known.get(), await known.get()] == [1, 2]
    late = _looked_up(Question(), late_after_seconds=0)
    await late.renew()
    assert await late.get() == 2


async def test_nobody_waits_long_for_a_question_that_hangs_and_the_last_answer_is_given() -> None:
    question = Question()
    question.may_answer.clear()
    known = _looked_up(question)
    with pytest.raises(TimeoutError):
        await known.get()
    began = monotonic()
    for _ in range(100):
        with pytest.raises(TimeoutError):
            await known.get()
    assert monotonic() - began < 100 * SHORT / 2, "only who came first has waited"
    assert question.asked == 1
    question.may_answer.set()
    assert await known.get() == 1
    question.may_answer.clear()
    assert await known.get() == 1
    await known.aclose()


async def test_a_question_that_fails_keeps_the_answer_before() -> None:
    question = Question()
    known = _looked_up(question)
    await known.renew()
    question.fails = True
    with pytest.raises(EngineUnavailable):
        await known.renew()
    assert await known.get() == 1


async def test_the_facts_of_the_host_stay_known_while_the_engine_is_away() -> None:
    runtime = FakeRuntime("test", cpus=3)
    runtime.go_down()
    host = LiveHost(runtime)
    with pytest.raises(EngineUnavailable):
        await host.facts()
    assert not await host.engine_answers()
    runtime.come_back()
    assert (await host.facts()).cpus == 3
    assert await host.engine_answers()
    runtime.go_down()
    await host.renew()
    assert (await host.facts()).cpus == 3
    assert not await host.engine_answers()


def _slow(runtime: FakeRuntime, *, fails_first: bool) -> None:
    """Its engine takes longer over its first answers than a page waits, or does not give the first one at all."""
    answer, failures = runtime.host, [fails_first]

    async def host() -> HostFacts:
        if failures.pop() if failures else False:
            raise EngineUnavailable("The container engine does not answer.")
        await asyncio.sleep(1.5)
        return await answer()

    runtime.host = host  # type: ignore[method-assign]


@pytest.mark.slow
@pytest.mark.parametrize("fails_first", [True, False], ids=["a failure first", "slow"])
async def test_a_launch_waits_for_the_first_answer_of_a_busy_engine(tmp_path: Path, fails_first: bool) -> None:
    world = World(tmp_path)
    _slow(world.runtime, fails_first=fails_first)
    try:
        platform = await world.open()
        alice, _ = await sign_in(platform, "alice@example.org")
        await reaches(platform, (await launch(platform, alice)).id, State.RUNNING)
    finally:
        await world.close()


@pytest.mark.slow
async def test_nobody_waits_longer_than_said_for_an_engine_that_is_deaf() -> None:
    runtime = FakeRuntime("test", cpus=3)
    runtime.host = asyncio.Event().wait  # type: ignore[method-assign,assignment]
    host = LiveHost(runtime)
    try:
        with pytest.raises(EngineUnavailable):
            await host.facts(patience_seconds=SHORT)
    finally:
        await host.aclose()


class Images:
    def __init__(self) -> None:
        self.there: set[str] = set()
        self.is_there = True

    async def resolve(self, environment: Environment) -> ResolvedImage:
        if not self.is_there:
            raise EngineUnavailable("The container engine does not answer.")
        if environment.name not in self.there:
            raise ImageMissing(f"The image of {environment.title} is not on this server yet.")
        return ResolvedImage(environment.image, stand_in=False)


async def test_the_outlook_of_an_environment_is_its_image_or_why_there_is_none(tmp_path: Path) -> None:
    catalogue = catalogue_of(tables({"state_dir": tmp_path}))
    images = Images()
    images.there = {"jupyterlab"}
    outlooks = LiveImages(images, catalogue)
    await outlooks.renew()
    jupyterlab = await outlooks.of("jupyterlab")
    assert (jupyterlab.image, jupyterlab.problem) == (ResolvedImage(catalogue["jupyterlab"].image, False), None)
    rstudio = await outlooks.of("rstudio")
    assert rstudio.image is None
    assert "is not on this server yet" in str(rstudio.problem)
    assert await outlooks.of("no such environment") == NOT_KNOWN
    images.there.add("rstudio")
    assert (await outlooks.of("rstudio")).image is None, "the loop asks, and no page does"
    await outlooks.renew()
    assert (await outlooks.of("rstudio")).image is not None
    images.is_there = False
    await outlooks.renew()
    assert (await outlooks.of("rstudio")).problem == "The container engine does not answer."


class Homes(PlainHomes):
    """Counts its looks; they wait for `may_answer`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.looks = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.breaks = False

    async def use(self, username: str) -> HomeUse:
        self.looks += 1
        number = self.looks
        await self.may_answer.wait()
        if self.breaks:
            raise HomeUnavailable("It cannot be told just now.")
        return HomeUse(number, None)


async def test_a_home_is_looked_at_once_for_all_who_ask_in_a_few_seconds(tmp_path: Path) -> None:
    homes = Homes(tmp_path)
    known = LiveHomes(homes)
    assert known.latest("alice") == UNKNOWN
    found = await asyncio.gather(*(known.use("alice") for _ in range(20)))
    assert found == [HomeUse(1, None)] * 20
    assert await known.use("bob") == HomeUse(2, None)
    assert (await known.use("alice"), homes.looks) == (HomeUse(1, None), 2)
    await known.look("alice")
    assert await known.use("alice") == known.latest("alice") == HomeUse(3, None)
    await known.aclose()


async def test_nobody_waits_long_for_a_disk_that_hangs(tmp_path: Path) -> None:
    homes = Homes(tmp_path)
    homes.may_answer.clear()
    known = LiveHomes(homes)
    assert await asyncio.wait_for(known.use("alice"), LONG) == UNKNOWN
    homes.may_answer.set()
    await known.look("alice")
    assert await known.use("alice") == HomeUse(1, None)
    await known.aclose()


async def test_a_home_that_cannot_be_looked_at_is_unknown(tmp_path: Path) -> None:
    homes = Homes(tmp_path)
    known = LiveHomes(homes)
    await known.use("alice")
    homes.breaks = True
    await known.look("alice")
    assert await known.use("alice") == UNKNOWN
    await known.aclose()


async def test_whether_sizes_are_enforced_is_asked_once(tmp_path: Path) -> None:
    known = LiveHomes(Homes(tmp_path))
    assert [await known.enforces_limits() for _ in range(3)] == [False] * 3
    await known.aclose()


async def test_what_the_owner_of_the_work_has_found_is_taken_over_once(tmp_path: Path) -> None:
    """And a later look of this process stands until there is something newer."""
    homes = Homes(tmp_path)
    known = LiveHomes(homes)
    found = MeasuredUse(7, 9, 5, NOW)
    known.adopt("alice", found)
    assert (known.latest("alice"), homes.looks) == (HomeUse(7, 9, 5), 0)
    await known.look("alice")
    known.adopt("alice", found)
    assert known.latest("alice") == HomeUse(1, None)
    known.adopt("alice", replace(found, used_bytes=8, looked_at=NOW + timedelta(seconds=15)))
    assert known.latest("alice") == HomeUse(8, 9, 5)
    await known.aclose()


async def test_what_an_instance_lacks_is_told_without_asking_a_disk(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        platform = await world.open()
        alice, _ = await sign_in(platform, "alice@example.org")
        instance = await reaches(platform, (await launch(platform, alice)).id, State.RUNNING)
        homes = Homes(tmp_path)
        platform.live.homes._homes = homes
        environment = platform.catalogue[instance.environment]
        assert await platform.live.lacking(instance, environment, alice.username) == ()
        await platform.home_use.keep({alice.id: HomeUse(64 * GB, 64 * GB, GB)}, world.clock.now)
        (lack,) = await platform.live.lacking(instance, environment, alice.username)
        assert lack.startswith("your home folder is full (64 GB of 64 GB)")
        assert homes.looks == 0
    finally:
        await world.close()
