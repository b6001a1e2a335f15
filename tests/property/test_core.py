"""The core under everything at once: acts of users, events of the engine, deaths of processes, steps of the clock.

Two processes share one database and one engine. What must hold holds after every step, whatever came before. To look
for longer than the suite does: LAUNCHPAD_TEST_CORE_EXAMPLES=500 pytest tests/property
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy.ext.asyncio import AsyncConnection

from launchpad.domain.instances import ENDED, State
from launchpad.domain.limits import Quota
from launchpad.domain.users import User, UserStatus
from launchpad.errors import LaunchpadError
from launchpad.platform import Platform
from launchpad.runtime.base import ContainerState, Engine
from launchpad.runtime.fake import GB
from launchpad.services.users import UserChange
from launchpad.store import users
from launchpad.store.database import Database
from support.platforms import ACTOR, World, container_of, launch, sign_in

PEOPLE = ("ada", "bob", "eve", "joe")
CAPACITY_GB, AT_ONCE, MOST_OF_ONE = 3, 2, 2
SETTINGS = {"capacity": {"memory": f"{CAPACITY_GB}g", "cpus": 100, "starts_at_once": AT_ONCE}}
LOOK = timedelta(seconds=60)
PATIENCE_SECONDS = 30

some = st.integers(0, 1000)  # one of what there is, whatever that is
processes = st.integers(0, 1)
people = st.sampled_from(PEOPLE)


class Trap:
    """A process dies at the n-th point after it was armed; each query, commit and call of the engine has some."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.sprung = asyncio.Event()

    async def point(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                self.sprung.set()
        if self.sprung.is_set():  # the dead do nothing more, and the kernel has let go of what they held
            raise asyncio.CancelledError("this process has died")


class Process:
    """A process of the platform, that can die wherever it waits for something."""

    def __init__(self, machine: Core) -> None:
        self._machine = machine
        self.trap = Trap()

    async def open(self) -> None:
        self.platform = await self._machine.world.open(mail=False, runtime=cast(Engine, self))
        database = self.platform.database
        self._trap_in(database, "reading")
        self._trap_in(database, "transaction")
        self._owning = asyncio.create_task(self._own())

    async def _own(self) -> None:
        """Takes over as soon as no other process is the owner; its first act is to bring rows and engine together."""
        await self.platform.lease.acquire()
        await self._machine.world.observe(self.platform)

    async def is_dead(self) -> None:
        self._owning.cancel()
        await asyncio.gather(self._owning, return_exceptions=True)

    def _trap_in(self, database: Any, name: str) -> None:
        connection: Callable[[], Any] = getattr(database, name)

        @asynccontextmanager
        async def trapped() -> AsyncIterator[AsyncConnection]:
            await self.trap.point()
            async with connection() as db:
                yield db
                await self.trap.point()  # all is written, and nothing committed
            await self.trap.point()

        setattr(database, name, trapped)

    def __getattr__(self, name: str) -> Any:
        """The engine, as this process sees it."""
        verb = getattr(self._machine.world.runtime, name)
        if not asyncio.iscoroutinefunction(verb):
            return verb

        async def call(*args: Any, **more: Any) -> Any:
            await self.trap.point()
            with self._machine.carried(self, name, args):
                answer = await verb(*args, **more)
            await self.trap.point()
            return answer

        return call


class Core(RuleBasedStateMachine):
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="launchpad-core-"))
        shutil.copytree(self.template, self.folder, dirs_exist_ok=True)
        self.wrong: list[str] = []
        self.carrying: dict[str, set[Process]] = defaultdict(set)
        self.launched: set[str] = set()
        self.pair: list[Process] = []
        self.world = World(self.folder, SETTINGS, memory_bytes=64 * GB)
        self.reader = Database(f"sqlite+aiosqlite:///{self.world.database_file}")

    # -- how it is run -----------------------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, Any], process: Process | None = None) -> Any:
        """Does it, as that process where one is given: it may die of it, and then another one comes in its place."""

        async def to_its_end() -> Any:
            acting = asyncio.ensure_future(work)
            if process is None:
                return await asyncio.wait_for(acting, PATIENCE_SECONDS)
            dying = asyncio.ensure_future(process.trap.sprung.wait())
            await asyncio.wait({acting, dying}, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            dying.cancel()
            if acting.done():
                with suppress(LaunchpadError, asyncio.CancelledError):
                    return await acting
                return None
            acting.cancel()
            with suppress(asyncio.CancelledError, LaunchpadError):
                await acting
            assert process.trap.sprung.is_set(), "it hangs"
            return None

        answer = self.loop.run_until_complete(to_its_end())
        self.bury()
        return answer

    def bury(self) -> None:
        """Whoever has died is really gone, and another process comes, which takes over. Meanwhile nobody else dies."""

        async def again() -> None:
            dead = [process for process in self.pair if process.trap.sprung.is_set()]
            armed = {process: process.trap.left for process in self.pair}
            for process in self.pair:
                process.trap.left = None
            for process in dead:
                await process.is_dead()
                await self.world.crash(process.platform)
                for carriers in self.carrying.values():
                    carriers.discard(process)
            for at, process in enumerate(self.pair):
                if process in dead:
                    self.pair[at] = Process(self)
                    await self.pair[at].open()
                else:
                    process.trap.left = armed[process]

        if any(process.trap.sprung.is_set() for process in self.pair):
            self.loop.run_until_complete(asyncio.wait_for(again(), 2 * PATIENCE_SECONDS))

    @contextmanager
    def carried(self, process: Process, verb: str, args: tuple[Any, ...]) -> Iterator[None]:
        """Of the calls that carry an instance, only those of one process may be under way."""
        if verb not in ("start", "stop"):
            yield
            return
        instance_id = getattr(args[0], "instance_id", args[0])
        carriers = self.carrying[instance_id]
        if carriers - {process}:
            self.wrong.append(f"two processes carry {instance_id}")
        if verb == "start" and (state := self.state_of(instance_id)) not in ("starting", "stopping"):
            self.wrong.append(f"a container is made for {instance_id}, which is {state}")
        carriers.add(process)
        try:
            yield
        finally:
            carriers.discard(process)

    def state_of(self, instance_id: str) -> str:
        return str(self.world.rows("SELECT state FROM instances WHERE id = ?", instance_id)[0][0])

    def user(self, name: str) -> User:
        async def look() -> User | None:
            async with self.reader.reading() as db:
                return await users.by_email(db, f"{name}@a.org")

        found = self.loop.run_until_complete(look())
        assert found is not None
        return found

    def one(self, number: int) -> str | None:
        there = sorted(self.world.rows("SELECT created_at, id FROM instances"))
        return str(there[number % len(there)][1]) if there else None

    def owner_of(self, instance_id: str) -> User:
        ((email,),) = self.world.rows(
            "SELECT email FROM users JOIN instances ON users.id = owner_id WHERE instances.id = ?", instance_id
        )
        return self.user(str(email).partition("@")[0])

    # -- what happens ------------------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.pair = [Process(self), Process(self)]
        for process in self.pair:
            self.loop.run_until_complete(process.open())

    @rule(at=processes, name=people, environment=st.sampled_from(("jupyterlab", "rstudio")), gb=st.sampled_from((1, 2)))
    def launch(self, at: int, name: str, environment: str, gb: int) -> None:
        owner, process = self.user(name), self.pair[at]
        self.world.clock.now += timedelta(seconds=1)
        self.run(launch(process.platform, owner, environment, memory_bytes=gb * GB), process)

    @rule(environment=st.sampled_from(("jupyterlab", "rstudio")))
    def everybody_clicks_at_once(self, environment: str) -> None:
        """In both processes; those die in the next step if at all."""

        async def click(owner: User, process: Process) -> None:
            with suppress(LaunchpadError, TimeoutError, asyncio.CancelledError):
                work = launch(process.platform, owner, environment, memory_bytes=GB)
                await asyncio.wait_for(work, 2)

        owners = [self.user(name) for name in PEOPLE]
        self.run(wait_for_all(click(owner, self.pair[n % 2]) for n, owner in enumerate(owners)))

    @rule(at=processes, number=some)
    def stop(self, at: int, number: int) -> None:
        if instance_id := self.one(number):
            process = self.pair[at]
            self.run(process.platform.instances.stop_any(instance_id, ACTOR, self.world.clock()), process)

    @rule(at=processes, number=some)
    def remove_from_list(self, at: int, number: int) -> None:
        if instance_id := self.one(number):
            owner, process = self.owner_of(instance_id), self.pair[at]
            self.run(process.platform.instances.forget(instance_id, owner, self.world.clock()), process)

    @rule(at=processes, number=some)
    def extend(self, at: int, number: int) -> None:
        if instance_id := self.one(number):
            process = self.pair[at]
            self.run(process.platform.instances.extend_any(instance_id, 2, ACTOR, self.world.clock()), process)

    @rule(at=processes, number=some)
    def suspend(self, at: int, number: int) -> None:
        if instance_id := self.one(number):
            self.change(at, self.owner_of(instance_id), UserStatus.SUSPENDED)

    @rule(at=processes)
    def activate(self, at: int) -> None:
        for name in PEOPLE:
            self.change(at, self.user(name), UserStatus.ACTIVE)

    def change(self, at: int, user: User, status: UserStatus) -> None:
        process = self.pair[at]
        work = process.platform.users.change(user.id, UserChange(status=status), ACTOR, self.world.clock())
        self.run(work, process)

    @rule(at=processes, name=people, most=st.integers(0, MOST_OF_ONE))
    def change_quota(self, at: int, name: str, most: int) -> None:
        user, process = self.user(name), self.pair[at]
        change = UserChange(quota=Quota(instances=most))
        self.run(process.platform.users.change(user.id, change, ACTOR, self.world.clock()), process)

    @rule(number=some, how=st.sampled_from(("kill", "out of memory", "from outside", "removed")))
    def container_ends(self, number: int, how: str) -> None:
        there = sorted(self.world.runtime._running)
        if not there:
            return
        instance_id, runtime = there[number % len(there)], self.world.runtime
        ways: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "kill": lambda: runtime.kill(instance_id, exit_code=number % 3),
            "out of memory": lambda: runtime.kill(instance_id, out_of_memory=True),
            "from outside": lambda: runtime.kill_from_outside(instance_id),
            "removed": lambda: runtime.remove_from_outside(instance_id),
        }
        self.run(ways[how]())

    @rule(kind=st.sampled_from(("engine down", "starts held", "start", "stop", "remove")), now=st.booleans())
    def engine_fault(self, kind: str, now: bool) -> None:
        """Begins or ends."""
        runtime = self.world.runtime
        if kind == "engine down":
            (runtime.go_down if now else runtime.come_back)()
        elif kind == "starts held":
            (runtime.hold_starts if now else runtime.release_starts)()
        elif now:
            runtime.refusing.add(kind)
        else:
            runtime.refusing.discard(kind)

    @rule()
    def all_faults_end(self) -> None:
        self.world.runtime.come_back()
        self.world.runtime.release_starts()
        self.world.runtime.refusing.clear()

    @rule(hours=st.integers(-2, 30))
    def clock(self, hours: int) -> None:
        self.world.clock.now += timedelta(hours=hours)

    @rule(at=processes)
    def sweep(self, at: int) -> None:
        process = self.pair[at]
        self.run(process.platform.sweep.sweep(self.world.clock()), process)

    @rule(at=processes)
    def hears_of_nothing_more(self, at: int) -> None:
        """What it is not told of, as where its loops hang: only its sweeps are left."""
        self.loop.run_until_complete(self.world.end_background(self.pair[at].platform))

    @rule(number=some)
    def a_container_appears(self, number: int) -> None:
        """Of an instance that has ended: the engine has carried out a call of somebody who died long ago."""
        ended = sorted(self.ids("state IN"))
        runtime = self.world.runtime
        if ended and not runtime.refusing and not runtime.deaf:
            with suppress(LaunchpadError, TimeoutError):
                start = runtime.start(container_of(ended[number % len(ended)]))
                self.loop.run_until_complete(asyncio.wait_for(start, 1))

    @rule(at=processes, points=st.integers(1, 40))
    def will_die(self, at: int, points: int) -> None:
        """Somewhere in what it does from now on."""
        self.pair[at].trap.left = points

    @rule(at=processes)
    def dies(self, at: int) -> None:
        self.pair[at].trap.sprung.set()
        self.bury()

    @rule(milliseconds=st.sampled_from((0, 5, 300)))
    def time_passes(self, milliseconds: int) -> None:
        self.run(asyncio.sleep(milliseconds / 1000))

    # -- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def nothing_went_wrong_meanwhile(self) -> None:
        assert self.wrong == []

    @invariant()
    def never_over_capacity(self) -> None:
        ((memory, number),) = self.world.rows(
            "SELECT coalesce(sum(memory_bytes), 0), count(*) FROM instances "
            "WHERE state IN ('starting', 'running', 'stopping')"
        )
        assert memory <= CAPACITY_GB * GB, f"{number} instances"
        recent = self.world.rows(
            "SELECT id FROM instances WHERE state = 'starting' AND admitted_at <= ? AND admitted_at > ?",
            at(self.world.clock()),
            at(self.world.clock() - LOOK),
        )
        assert len(recent) <= AT_ONCE

    @invariant()
    def one_of_each_environment(self) -> None:
        assert (
            self.world.rows(
                "SELECT owner_id FROM instances WHERE state IN ('queued', 'starting', 'running') "
                "GROUP BY owner_id, environment HAVING count(*) > 1"
            )
            == []
        )

    @invariant()
    def nothing_of_a_suspended_user_goes_on(self) -> None:
        assert (
            self.world.rows(
                "SELECT instances.id, state FROM instances JOIN users ON users.id = owner_id "
                "WHERE status = 'suspended' AND state IN ('queued', 'starting', 'running')"
            )
            == []
        )

    @invariant()
    def every_end_has_its_reason_and_its_record_once(self) -> None:
        live, ended = self.ids("state NOT IN"), self.ids("state IN")
        self.launched |= live | ended
        recorded = self.world.rows("SELECT instance_id, reason FROM instance_history")
        assert len(recorded) == len({one for one, _ in recorded})
        assert {one for one, _ in recorded} == self.launched - live, "each that is not live any more, and no other"
        assert all(reason for _, reason in recorded)
        assert self.world.rows("SELECT id FROM instances WHERE ended_at IS NOT NULL AND reason IS NULL") == []
        told = self.world.rows(
            "SELECT subject, count(*) FROM audit WHERE action IN ('instance.stopped', 'instance.expired', "
            "'instance.failed', 'instance.ended') GROUP BY subject"
        )
        assert all(number == 1 for _, number in told), told
        assert {one for one, _ in told} >= {one for one, _ in recorded}, "an end that the audit knows nothing of"

    def ids(self, where: str) -> set[str]:
        states = ", ".join(f"'{state}'" for state in ENDED)
        return {str(one) for (one,) in self.world.rows(f"SELECT id FROM instances WHERE {where} ({states})")}

    # -- in the end --------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if self.pair:
                self.heal()
                self.run(self.comes_to_rest())
                self.check_rest()
                self.everything_queued_is_served()
        finally:
            for process in self.pair:
                process.trap.left = None
                self.loop.run_until_complete(process.is_dead())
            self.loop.run_until_complete(self.world.close())
            self.loop.run_until_complete(self.reader.aclose())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def heal(self) -> None:
        for process in self.pair:
            process.trap.left = None
        self.world.runtime.come_back()
        self.world.runtime.refusing.clear()
        self.world.runtime.release_starts()
        self.bury()

    async def comes_to_rest(self) -> None:
        """A few sweeps later, nothing is under way and rows and engine agree."""
        for _ in range(100):
            for process in self.pair:
                await process.platform.sweep.sweep(self.world.clock())
                await process.platform.runner.wait()
            if not self.world.rows("SELECT id FROM instances WHERE state IN ('starting', 'stopping')"):
                running = {str(one) for (one,) in self.world.rows("SELECT id FROM instances WHERE state = 'running'")}
                there = {one.instance_id: one for one in await self.world.runtime.list_containers()}
                if set(there) == running and not self.ready_to_start():
                    return
            await asyncio.sleep(0.02)
        raise AssertionError(f"it does not come to rest: {self.world.rows('SELECT id, state, stage FROM instances')}")

    def ready_to_start(self) -> bool:
        in_order = "ORDER BY queue_rank IS NULL, queue_rank, created_at, id"
        queue = self.world.rows(f"SELECT memory_bytes FROM instances WHERE state = 'queued' {in_order}")
        ((given,),) = self.world.rows("SELECT coalesce(sum(memory_bytes), 0) FROM instances WHERE state = 'running'")
        return bool(queue) and bool(given + queue[0][0] <= CAPACITY_GB * GB)

    def check_rest(self) -> None:
        containers = self.loop.run_until_complete(self.world.runtime.list_containers())
        rows = dict(self.world.rows("SELECT id, port FROM instances WHERE state = 'running'"))
        assert {one.instance_id for one in containers} == set(rows)
        for one in containers:
            assert one.state is ContainerState.RUNNING
            assert one.address is not None
            assert one.address.port == rows[one.instance_id], "it is reached where it listens"

    def everything_queued_is_served(self) -> None:
        """As those who run make room, each of the queue runs, or has ended with its reason."""
        while queued := [str(one) for (one,) in self.world.rows("SELECT id FROM instances WHERE state = 'queued'")]:
            for (instance_id,) in self.world.rows("SELECT id FROM instances WHERE state = 'running'"):
                platform = self.pair[0].platform
                self.run(platform.instances.stop_any(str(instance_id), ACTOR, self.world.clock()))
            self.run(self.comes_to_rest())
            still = self.ids("state = 'queued' AND state NOT IN")
            assert len(still) < len(queued), "the queue does not move on"
        self.every_end_has_its_reason_and_its_record_once()
        self.check_rest()


async def wait_for_all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(*work)


def at(moment: datetime) -> str:
    """As it stands in the database's file."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory in which everybody has signed in."""
    folder = tmp_path_factory.mktemp("core")

    async def fill() -> None:
        world = World(folder, SETTINGS)
        platform: Platform = await world.open()
        for number, name in enumerate(PEOPLE):
            await sign_in(platform, f"{name}@a.org", client=f"192.0.2.{number}")
        await world.close()

    asyncio.run(fill())
    return folder


@pytest.mark.slow  # some hundred steps, each with processes that die
def test_the_core_keeps_its_promises_whatever_happens(template: Path) -> None:
    examples = os.environ.get("LAUNCHPAD_TEST_CORE_EXAMPLES")
    machine = type("CoreFromTemplate", (Core,), {"template": template})
    how = settings(
        max_examples=int(examples or 20),
        stateful_step_count=40,
        derandomize=examples is None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(machine, settings=how)


def test_states_are_those_that_the_queries_here_name() -> None:
    assert {*State} == {"queued", "starting", "running", "stopping", "stopped", "expired", "failed"}
