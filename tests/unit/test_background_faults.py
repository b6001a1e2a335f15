"""Every background loop of a built platform, and what may happen to it: whatever it is, the rest works on.

The tests walk the loops that `wiring` registers, so a new one is held to the same without another line here.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from launchpad.domain.background import LoopHealth, LoopState
from launchpad.domain.instances import State
from launchpad.domain.users import UserStatus
from launchpad.errors import EngineUnavailable, StoreUnavailable
from launchpad.platform import Platform
from launchpad.runtime.base import Container, HostFacts, RuntimeEvent
from launchpad.services.background import Background, Beat, Loop
from launchpad.services.logins import Client
from launchpad.services.users import UserChange
from launchpad.store.database import Database
from support.platforms import ACTOR, SteppedRuntime, World, launch, reaches, sign_in, until

HERE = Client("192.0.2.1", "Firefox")
WATCH = "watch"  # the supervisor's own


class HangingRuntime(SteppedRuntime):
    """An engine that takes every question and answers none, as long as `hangs`."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()

    async def host(self) -> HostFacts:
        await self._answer()
        return await super().host()

    async def list_containers(self) -> list[Container]:
        await self._answer()
        return await super().list_containers()

    async def find(self, instance_id: str) -> Container | None:
        await self._answer()
        return await super().find(instance_id)

    async def mend_network(self) -> None:
        await self._answer()
        await super().mend_network()

    def events(self, since: float | None = None) -> AsyncIterator[RuntimeEvent]:
        return super().events(since) if self.answers.is_set() else self._silence()

    async def _silence(self) -> AsyncIterator[RuntimeEvent]:
        await self.answers.wait()
        return
        yield

    async def _answer(self) -> None:
        """As the client of a real engine does, it gives up in the end."""
        try:
            async with asyncio.timeout(0.3):
                await self.answers.wait()
        except TimeoutError:
            raise EngineUnavailable("The container engine does not answer.") from None


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """All pauses are short, and a locked database is waited for a moment only."""
    monkeypatch.setattr("launchpad.services.observer.ASK_SECONDS", 0.05)
    monkeypatch.setattr("launchpad.services.mailing.LOOKS_SECONDS", (0.05, 0.05))
    monkeypatch.setattr("launchpad.wiring.Database", partial(Database, busy_seconds=0.1))
    world = World(tmp_path, {"web": {"sweep_seconds": 60}})
    world.runtime = HangingRuntime()
    yield world
    await world.close()


def quick(loop: Loop) -> Loop:
    return replace(
        loop,
        every_seconds=0.2,
        first_after_seconds=0,
        retry_seconds=0.02,
        longest_retry_seconds=0.1,
        late_after_seconds=1.5,
    )


def loops_of(platform: Platform) -> list[Loop]:
    return [quick(loop) for loop in platform.background.loops if loop.name != WATCH]


def health(background: Background, name: str) -> LoopHealth:
    return next(one for one in background.health() if one.name == name)


async def become(background: Background, state: LoopState, *names: str) -> None:
    """Each of these loops has been in that state, one after the other."""
    for name in names:

        async def there(name: str = name) -> bool:
            return health(background, name).state is state

        await until(there, lambda name=name: f"{name} is not {state}: {health(background, name)}")  # type: ignore[misc]


async def all_succeed(background: Background, *but: str) -> None:
    """Every loop succeeds once more from here on."""
    before = {one.name: (one.failures, one.last_success_at) for one in background.health()}
    counts = {one.loop.name: one for one in background._running}
    began = asyncio.get_running_loop().time()
    for name in before:
        if name not in but:

            async def again(name: str = name) -> bool:
                good = counts[name].good
                return good is not None and good > began

            await until(again, lambda name=name: f"{name} does not go on: {health(background, name)}")  # type: ignore[misc]


class Broken:
    """A loop's work that fails as long as it is to."""

    def __init__(self, loop: Loop) -> None:
        self.loop = replace(loop, work=self._work)
        self._within = loop.work
        self.fault: Callable[[], BaseException] | None = None
        self.failed = 0

    async def _work(self, beat: Beat) -> object:
        if self.fault is None:
            working = asyncio.ensure_future(self._within(beat))
            try:
                while self.fault is None:
                    done, _ = await asyncio.wait({working}, timeout=0.02)
                    if done:
                        return working.result()
            finally:
                working.cancel()
                await asyncio.wait({working})
        self.failed += 1
        raise self.fault()


FAULTS: dict[str, Callable[[], BaseException]] = {
    "OSError": lambda: OSError(12, "Cannot allocate memory"),
    "fault of the program": lambda: KeyError("x"),
    "cancelled by a library": lambda: asyncio.CancelledError(),
    "store": lambda: StoreUnavailable("The database is not available right now."),
    "engine": lambda: EngineUnavailable("The container engine does not answer."),
}


@pytest.mark.slow  # one loop after the other is late by the clock, while all others go on
async def test_every_loop_outlives_a_fault_of_any_kind_once_and_for_ever(world: World) -> None:
    platform = await world.open(mail=False)
    every = {loop.name: Broken(loop) for loop in loops_of(platform)}
    assert {"engine-events", "connections", "mail-sender-1", "bounces", "sweep", "outbox"} <= set(every)
    background = world.run(platform, *(broken.loop for broken in every.values()))
    await become(background, LoopState.OK, *every)
    for fault in FAULTS.values():
        for broken in every.values():
            broken.fault, broken.failed = fault, 0

        async def all_have_failed() -> bool:
            return all(broken.failed >= 2 for broken in every.values())

        await until(all_have_failed)
        for broken in every.values():
            broken.fault = None
        await become(background, LoopState.OK, *every)
    for name, broken in every.items():
        broken.fault = FAULTS["OSError"]
        await become(background, LoopState.LATE, name)
        await all_succeed(background, name)
        assert name in background.late()
        assert health(background, name).last_error == "OSError"
        broken.fault = None
        await become(background, LoopState.OK, name)


# -- the engine --------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # loops are late by the clock
@pytest.mark.parametrize("how", ["gone", "hung"])
async def test_without_the_engine_everything_else_goes_on_and_all_is_well_once_it_is_back(
    world: World, how: str
) -> None:
    """People sign in, connections are cut; what ended meanwhile is found, with the reason."""
    runtime = world.runtime
    assert isinstance(runtime, HangingRuntime)
    platform = await world.open(mail=False)
    background = world.run(platform, *loops_of(platform))
    alice, _ = await sign_in(platform, "alice@a.org")
    instance = await reaches(platform, (await launch(platform, alice)).id, State.RUNNING)
    of_the_engine = ("freezing", "activity", "memory", "layers")  # nothing can be seen or done without it
    await become(background, LoopState.OK, "engine-events")
    if how == "gone":
        runtime.go_down()
    else:
        runtime.answers.clear()
    await become(background, LoopState.LATE, "engine-events")
    await all_succeed(background, "engine-events", "intents", "sweep", "usage", *of_the_engine)
    error = health(background, "engine-events").last_error
    assert error is not None
    assert "engine" in error or "no sign of life" in error
    bob, _ = await sign_in(platform, "bob@a.org")
    assert bob.is_active
    if how == "gone":
        await runtime.kill(instance.id)
        runtime.come_back()
    else:
        runtime.answers.set()
    await become(background, LoopState.OK, *(one.name for one in background.health()))
    if how == "hung":
        await runtime.kill(instance.id)
    assert (await reaches(platform, instance.id, State.FAILED, State.STOPPED)).reason


# -- the database ------------------------------------------------------------------------------------------------------


@contextmanager
def locked(world: World) -> Iterator[None]:
    """Another process writes, and does not come to its end."""
    with closing(sqlite3.connect(world.database_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.slow  # loops are late by the clock
async def test_while_the_database_is_locked_what_only_reads_goes_on_and_then_everything_does(world: World) -> None:
    platform = await world.open(mail=False)
    world.mailbox.put(b"")
    alice, _ = await sign_in(platform, "alice@a.org")
    await launch(platform, alice)
    background = world.run(platform, *loops_of(platform))
    names = [one.name for one in background.health()]
    await become(background, LoopState.OK, *names)
    await platform.sign_in.ask("bob@a.org", HERE, world.clock())
    writing = ("sweep", "activity")
    with locked(world):
        await become(background, LoopState.LATE, *writing)
        assert "database" in str(health(background, "sweep").last_error)
        await all_succeed(background, *writing, "bounces", *(name for name in names if name.startswith("mail")))
        with pytest.raises(StoreUnavailable):
            await platform.users.change(alice.id, UserChange(status=UserStatus.SUSPENDED), ACTOR, world.clock())
    await become(background, LoopState.OK, *names)
    world.clock.now += timedelta(minutes=5)

    async def mail_arrives() -> bool:
        return bool(world.letters.codes("bob@a.org"))

    await until(mail_arrives)
