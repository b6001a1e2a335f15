"""The supervisor of background work: nothing that happens in a loop ends it, hides it, or disturbs another one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from launchpad.domain.background import LoopHealth, LoopState
from launchpad.errors import EngineUnavailable, StoreUnavailable
from launchpad.ops.doctor import Level
from launchpad.ops.doctor.loops import background as examined
from launchpad.services.background import Background, Beat, Loop, Time, continuous, periodic
from launchpad.services.background_records import read_records
from support.platforms import START, until


class OddError(BaseException):
    """Not even an Exception."""


FAULTS: list[Callable[[], BaseException]] = [
    lambda: OSError(12, "Cannot allocate memory"),
    lambda: ZeroDivisionError(),
    lambda: EngineUnavailable("The container engine does not answer."),
    lambda: StoreUnavailable("The database is not available right now."),
    lambda: TimeoutError(),
    lambda: asyncio.CancelledError(),  # of a library that leaks it; nobody has cancelled the pass
    lambda: ExceptionGroup("several", [ValueError("one"), OSError("another")]),
    lambda: OddError(),
    lambda: RecursionError(),
    lambda: MemoryError(),
]


def quick(loop: Loop, *, late_after_seconds: float = 1.0) -> Loop:
    """The same with short pauses."""
    return replace(
        loop,
        every_seconds=0.02,
        first_after_seconds=0,
        retry_seconds=0.02,
        longest_retry_seconds=0.05,
        late_after_seconds=late_after_seconds,
    )


@asynccontextmanager
async def running(*loops: Loop, **arguments: object) -> AsyncIterator[Background]:
    background = Background(loops, now=lambda: datetime.now(UTC), **arguments)  # type: ignore[arg-type]
    background.start()
    try:
        yield background
    finally:
        await background.aclose()


def health(background: Background, name: str) -> LoopHealth:
    return next(one for one in background.health() if one.name == name)


async def becomes(background: Background, name: str, *states: LoopState) -> LoopHealth:
    async def there() -> LoopHealth | None:
        found = health(background, name)
        return found if found.state in states else None

    return await until(there, lambda: f"{name} is {health(background, name)}")


class Work:
    """Counts its passes; fails with what `fault` makes, as long as there is one."""

    def __init__(self) -> None:
        self.passes = 0
        self.fault: Callable[[], BaseException] | None = None

    async def __call__(self) -> None:
        self.passes += 1
        if self.fault is not None:
            raise self.fault()

    async def goes_on(self) -> None:
        """Waits for another pass."""
        before = self.passes

        async def more() -> bool:
            return self.passes > before + 1

        await until(more)


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # waits for a clock
@pytest.mark.parametrize("fault", FAULTS, ids=[type(fault()).__name__ for fault in FAULTS])
async def test_a_fault_of_any_kind_once_and_for_ever(fault: Callable[[], BaseException]) -> None:
    broken, other = Work(), Work()
    broken.fault = fault
    loops = [
        quick(periodic(name, work, every_seconds=1, late_after_seconds=9))
        for name, work in (("broken", broken), ("other", other))
    ]
    async with running(*loops) as background:
        await broken.goes_on()
        assert health(background, "broken").state in (LoopState.FAILING, LoopState.STARTING, LoopState.LATE)
        broken.fault = None
        mended = await becomes(background, "broken", LoopState.OK)
        assert mended.failures >= 1
        assert mended.failures_in_a_row == 0
        broken.fault = fault
        late = await becomes(background, "broken", LoopState.LATE)
        assert background.late() == ("broken",)
        assert late.last_error
        assert late.last_error_at is not None
        assert late.last_success_at is not None
        await other.goes_on()
        assert health(background, "other").failures == 0
        broken.fault = None
        await becomes(background, "broken", LoopState.OK)


@pytest.mark.parametrize("fault", FAULTS, ids=[type(fault()).__name__ for fault in FAULTS])
async def test_a_loop_that_goes_on_by_itself_is_begun_anew(fault: Callable[[], BaseException]) -> None:
    """And is well as soon as it says so, not when it ends."""
    begun = 0
    break_it = asyncio.Event()

    async def work(beat: Beat) -> None:
        nonlocal begun
        begun += 1
        beat()
        await break_it.wait()
        break_it.clear()
        raise fault()

    async with running(quick(continuous("listener", work, late_after_seconds=60), late_after_seconds=60)) as background:
        await becomes(background, "listener", LoopState.OK)
        assert begun == 1
        break_it.set()

        async def again() -> bool:
            return begun == 2 and health(background, "listener").state is LoopState.OK

        await until(again)
        assert health(background, "listener").failures == 1


@pytest.mark.slow
async def test_what_a_person_is_told_of_a_fault_is_ours(capfd: pytest.CaptureFixture[str]) -> None:
    """Of a fault of the program its kind; the log has the traceback."""

    async def broken() -> None:
        raise ValueError("s3cret of a library")

    async with running(quick(periodic("broken", broken, every_seconds=1, late_after_seconds=9))) as background:
        await becomes(background, "broken", LoopState.LATE)
        assert health(background, "broken").last_error == "ValueError"
    printed = "".join(capfd.readouterr())
    assert "s3cret of a library" in printed
    assert "Traceback" in printed
    assert printed.count("loop.fault") < 12, "what fails every moment does not fill the log"


@pytest.mark.slow  # waits for a clock
async def test_a_pass_that_hangs_is_late_given_up_and_begun_anew() -> None:
    passes = 0

    async def hangs_once() -> None:
        nonlocal passes
        passes += 1
        if passes == 1:
            await asyncio.Event().wait()

    loop = quick(periodic("hangs", hangs_once, every_seconds=1, late_after_seconds=9), late_after_seconds=0.3)
    async with running(loop) as background:
        await becomes(background, "hangs", LoopState.LATE)
        ended = await becomes(background, "hangs", LoopState.OK)
        assert ended.failures == 1
        assert str(ended.last_error).startswith("no sign of life for")


async def test_a_pass_that_holds_on_to_life_is_late_and_never_runs_twice_at_once() -> None:
    """Work that will not be cancelled, such as a call that hides it, has no second one beside it."""
    at_once = most = 0
    let_go = asyncio.Event()

    async def stubborn() -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        at_once -= 1

    loop = quick(periodic("stubborn", stubborn, every_seconds=1, late_after_seconds=9), late_after_seconds=0.1)
    async with running(loop) as background:
        await becomes(background, "stubborn", LoopState.LATE)
        await asyncio.sleep(0)
        assert most == 1
        let_go.set()
        await becomes(background, "stubborn", LoopState.OK)
        assert most == 1


@pytest.mark.slow
async def test_pauses_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    paused: list[float] = []
    work = Work()
    work.fault = ZeroDivisionError

    async def sleep(seconds: float) -> None:
        task = asyncio.current_task()
        if task is not None and task.get_name() == "loop it":
            paused.append(seconds)
        await asyncio.sleep(0.001)

    loop = periodic(
        "it", work, every_seconds=300, late_after_seconds=900, first_after_seconds=7, longest_retry_seconds=20
    )
    async with running(loop, own_time=Time(sleep=sleep)):

        async def enough(number: int) -> bool:
            return len(paused) >= number

        await until(lambda: enough(8))
        assert paused[:8] == [7, 1, 2, 4, 8, 16, 20, 20]
        work.fault = None
        await work.goes_on()
        assert paused[-1] == 300
        work.fault = ZeroDivisionError
        number = len(paused)
        await until(lambda: enough(number + 4))
        assert [1, 2] in [paused[at : at + 2] for at in range(number, len(paused))]


async def test_two_loops_of_one_name_are_refused() -> None:
    loop = periodic("one", Work(), every_seconds=1, late_after_seconds=9)
    with pytest.raises(ValueError, match="one name"):
        Background((loop, loop), now=lambda: START)


async def test_closing_ends_every_pass_and_waits_for_it() -> None:
    ended = asyncio.Event()

    async def listens(beat: Beat) -> None:
        beat()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            ended.set()

    before = asyncio.all_tasks()
    async with running(continuous("listener", listens, late_after_seconds=60)) as background:
        await becomes(background, "listener", LoopState.OK)
    assert ended.is_set()
    assert not [task for task in asyncio.all_tasks() - before if task.get_name().startswith("loop ")]


@pytest.mark.slow  # waits for a clock
async def test_closing_ends_a_pass_that_loses_its_first_cancellation() -> None:
    """As with a library whose `asyncio.wait_for` gets its answer at that very moment."""
    lost = 0

    async def listens(beat: Beat) -> None:
        nonlocal lost
        while True:
            beat()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if lost:
                    raise
                lost += 1

    async with asyncio.timeout(60):
        async with running(continuous("listener", listens, late_after_seconds=60)) as background:
            await becomes(background, "listener", LoopState.OK)
    assert lost == 1


# -- one owner ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # waits for a clock
async def test_the_owners_loops_run_while_this_process_is_the_owner_and_at_no_other_time() -> None:
    is_owner = False
    owners, everybodys = Work(), Work()
    listening = 0

    async def listens(beat: Beat) -> None:
        nonlocal listening
        listening += 1
        try:
            beat()
            await asyncio.Event().wait()
        finally:
            listening -= 1

    loops = (
        quick(periodic("owners", owners, every_seconds=1, late_after_seconds=9), late_after_seconds=60),
        quick(continuous("listener", listens, late_after_seconds=60), late_after_seconds=60),
        quick(periodic("everybodys", everybodys, every_seconds=1, late_after_seconds=9, owner_only=False)),
    )
    async with running(*loops, is_owner=lambda: is_owner) as background:
        await everybodys.goes_on()
        assert owners.passes == listening == 0
        await becomes(background, "owners", LoopState.STANDBY)
        is_owner = True
        await becomes(background, "owners", LoopState.OK)
        await becomes(background, "listener", LoopState.OK)
        assert listening == 1
        is_owner = False
        await becomes(background, "listener", LoopState.STANDBY)

        async def let_go() -> bool:
            return listening == 0

        await until(let_go)
        assert health(background, "listener").failures == 0, "it has not failed, it is somebody else's"
        before = owners.passes
        await everybodys.goes_on()
        assert owners.passes <= before + 1
        is_owner = True
        await becomes(background, "listener", LoopState.OK)


# -- what other processes know -----------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_other_processes_read_how_the_loops_fare(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "background"
    work = Work()
    loop = quick(periodic("it", work, every_seconds=1, late_after_seconds=9))
    async with running(loop, records=folder) as background:

        def told() -> dict[str, LoopState]:
            return {one.name: one.state for record in read_records(folder) for one in record.loops}

        async def written(state: LoopState) -> bool:
            return told().get("it") is state

        await until(lambda: written(LoopState.OK))
        assert (folder / f"{os.getpid()}.json").stat().st_mode & 0o077 == 0
        work.fault = ZeroDivisionError
        await becomes(background, "it", LoopState.LATE)
        await until(lambda: written(LoopState.LATE))
        now = datetime.now(UTC)
        (finding,) = await examined("background", tmp_path, now)
        assert finding.level is Level.BAD
        assert "it is late" in finding.text
        assert "ZeroDivisionError" in finding.text
        work.fault = None
        await until(lambda: written(LoopState.OK))
        (finding,) = await examined("background", tmp_path, datetime.now(UTC))
        assert (finding.level, "it, watch" in finding.text) == (Level.OK, True)
    (finding,) = await examined("background", tmp_path, now)
    assert "Not checked: no portal is running" in finding.text


async def test_a_portal_that_no_longer_tells_is_found_and_a_dead_one_is_not_believed(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "background"
    folder.mkdir(parents=True)
    loop = LoopHealth("sweep", LoopState.OK, START)
    content = {"at": START.isoformat(), "loops": [{**vars(loop), "last_success_at": START.isoformat()}]}
    living, dead = folder / f"{os.getpid()}.json", folder / f"{dead_process()}.json"
    for path in (living, dead):
        path.write_text(json.dumps(content))
    for name in ("x.json", "7.json.new"):
        (folder / name).write_text("{")
    (finding,) = await examined("background", tmp_path, START + timedelta(seconds=50))
    assert finding.level is Level.OK
    assert not dead.exists()
    (finding,) = await examined("background", tmp_path, START + timedelta(minutes=2))
    assert finding.level is Level.BAD
    assert "it may hang" in finding.text
    living.write_text("{")
    (finding,) = await examined("background", tmp_path, START)
    assert "Not checked" in finding.text


async def test_it_is_enough_that_a_loop_runs_in_one_of_several_processes(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "background"
    folder.mkdir(parents=True)

    def write(process_id: int, state: LoopState) -> None:
        one = {**vars(LoopHealth("sweep", state, failures_in_a_row=3)), "last_error": "The engine is away."}
        (folder / f"{process_id}.json").write_text(json.dumps({"at": START.isoformat(), "loops": [one]}))

    write(os.getpid(), LoopState.STANDBY)
    write(os.getppid(), LoopState.OK)
    assert [one.level for one in await examined("background", tmp_path, START)] == [Level.OK]
    write(os.getppid(), LoopState.FAILING)
    (finding,) = await examined("background", tmp_path, START)
    assert (finding.level, "failed 3 times in a row (The engine is away)" in finding.text) == (Level.WARN, True)
    write(os.getppid(), LoopState.LATE)
    assert [one.level for one in await examined("background", tmp_path, START)] == [Level.BAD]


def dead_process() -> int:
    gone = subprocess.Popen(["true"])
    gone.wait()
    return gone.pid
