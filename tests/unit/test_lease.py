"""Who owns the work: one process at a time, and the next one as soon as it dies, however it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launchpad.store.lease import OwnerLease, is_in_use
from launchpad.store.statedir import StateDir

HOLDS_THE_LEASE = """
import asyncio, sys
from pathlib import Path
from launchpad.store.lease import OwnerLease
from launchpad.store.statedir import StateDir
lease = OwnerLease(StateDir(Path(sys.argv[1])))
asyncio.run(lease.acquire())
print(lease.id, flush=True)
sys.stdin.read()
"""


def start(code: str, state: StateDir) -> subprocess.Popen[str]:
    """A process of that code, as soon as it has printed its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(state.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip()
    return process


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


@pytest.fixture
def other_process(state: StateDir) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the lease."""
    process = start(HOLDS_THE_LEASE, state)
    yield process
    process.kill()
    process.communicate()


async def test_one_holds_it_and_the_next_one_when_it_is_given_back(state: StateDir) -> None:
    one, two = OwnerLease(state), OwnerLease(state)
    assert one.id != two.id
    assert not one.is_held
    assert await one.try_acquire()
    assert await one.try_acquire(), "it keeps what it has"
    assert (one.is_held, two.is_held) == (True, False)
    assert not await two.try_acquire()
    await two.release()
    assert not await two.try_acquire(), "who does not hold it gives nothing back"
    await one.release()
    assert not one.is_held
    assert await two.try_acquire()
    assert not await one.try_acquire()
    await one.aclose()
    await two.aclose()


async def test_who_waits_has_it_when_it_is_given_back_and_the_loser_is_told(state: StateDir) -> None:
    one, two = OwnerLease(state), OwnerLease(state)
    await one.acquire()
    waiting, losing = asyncio.create_task(two.acquire()), asyncio.create_task(one.lost())
    await asyncio.sleep(0.3)
    assert not waiting.done()
    assert not losing.done()
    await one.release()
    await asyncio.wait_for(losing, 20)
    await asyncio.wait_for(waiting, 20)
    assert two.is_held
    await one.aclose()
    await two.aclose()
    assert not two.is_held


async def test_of_many_that_want_it_at_once_one_has_it(state: StateDir) -> None:
    leases = [OwnerLease(state) for _ in range(20)]
    while leases:
        await asyncio.gather(*(lease.try_acquire() for lease in leases))
        (owner,) = [lease for lease in leases if lease.is_held]
        await owner.aclose()
        leases.remove(owner)


@pytest.mark.slow
async def test_it_is_held_until_its_process_is_killed(state: StateDir, other_process: subprocess.Popen[str]) -> None:
    """However it dies, there is no time to wait out."""
    lease = OwnerLease(state)
    assert not await lease.try_acquire()
    assert not await lease.try_acquire(), "asking does not end it"
    other_process.send_signal(signal.SIGKILL)
    other_process.wait()
    assert await lease.try_acquire()
    await lease.aclose()


@pytest.mark.slow
async def test_programs_that_a_process_starts_do_not_keep_it(state: StateDir) -> None:
    """The lock is not inherited: nginx outlives a killed portal."""
    starts_another = "import subprocess; subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL)\nprint("
    process = start(HOLDS_THE_LEASE.replace("print(", starts_another), state)
    lease = OwnerLease(state)
    try:
        assert not await lease.try_acquire()
        process.kill()
        process.communicate()
        assert await lease.try_acquire()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await lease.aclose()


async def test_a_directory_that_was_replaced_has_another_lease(state: StateDir, tmp_path: Path) -> None:
    """After a restore, who waited for the old file must not take itself for the owner of the new one."""
    lease = OwnerLease(state)
    await lease.acquire()
    state.path.rename(tmp_path / "before")
    there = OwnerLease(StateDir(state.path))
    assert await there.try_acquire()
    await lease.aclose()
    await there.aclose()


@pytest.mark.slow
async def test_a_state_directory_is_in_use_while_any_process_works_with_it(
    state: StateDir, other_process: subprocess.Popen[str]
) -> None:
    """The owner or not; nothing is left behind for each process that was there."""
    assert is_in_use(state.path)
    other_process.send_signal(signal.SIGKILL)
    other_process.wait()
    assert not is_in_use(state.path)
    files = sorted(path.name for path in state.run.iterdir())
    for _ in range(3):
        lease = OwnerLease(state)
        assert is_in_use(state.path)
        await lease.aclose()
    assert not is_in_use(state.path)
    assert sorted(path.name for path in state.run.iterdir()) == files
    assert not is_in_use(state.path / "elsewhere")
