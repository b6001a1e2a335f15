"""The lease where the database is PostgreSQL: an advisory lock of a session, and what happens when that is lost."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launchpad.domain.naming import new_id
from launchpad.store.lease import OwnerLease
from launchpad.store.statedir import StateDir
from support.databases import databases

pytestmark = pytest.mark.postgresql
PATIENCE_SECONDS = 30
HOLDS_THE_LEASE = """
import asyncio, sys
from pathlib import Path
from launchpad.store.lease import OwnerLease
from launchpad.store.statedir import StateDir

async def main():
    lease = OwnerLease(StateDir(Path(sys.argv[1])), sys.argv[2])
    await lease.acquire()
    print("held", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def url() -> Iterator[str]:
    name = f"lease{new_id()}"
    yield databases.server.create(name)
    databases.server.drop(name)


def lease_in(folder: Path, url: str) -> OwnerLease:
    """Of a process on another machine: it has a state directory of its own."""
    return OwnerLease(StateDir(folder), url)


async def test_one_holds_it_whatever_the_state_directory(tmp_path: Path, url: str) -> None:
    one, two = lease_in(tmp_path / "one", url), lease_in(tmp_path / "two", url)
    assert await one.try_acquire()
    assert await one.try_acquire()
    assert not await two.try_acquire()
    waiting = asyncio.create_task(two.acquire())
    await one.release()
    assert not one.is_held
    await asyncio.wait_for(waiting, PATIENCE_SECONDS)
    assert two.is_held
    assert not await one.try_acquire()
    await one.aclose()
    await two.aclose()


async def test_the_next_one_has_it_when_its_process_is_killed(tmp_path: Path, url: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_LEASE, str(tmp_path / "one"), url], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    lease = lease_in(tmp_path / "two", url)
    assert not await lease.try_acquire()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    await asyncio.wait_for(lease.acquire(), PATIENCE_SECONDS)
    assert lease.is_held
    await lease.aclose()


async def test_an_owner_whose_session_ends_is_told_and_can_have_it_again(tmp_path: Path, url: str) -> None:
    """As when the server is restarted, or a firewall forgets the connection."""
    one, two = lease_in(tmp_path / "one", url), lease_in(tmp_path / "two", url)
    await one.acquire()
    losing = asyncio.create_task(one.lost())
    await asyncio.sleep(0)
    databases.rows(url, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
    await asyncio.wait_for(losing, PATIENCE_SECONDS)
    assert not one.is_held
    await asyncio.wait_for(two.acquire(), PATIENCE_SECONDS)
    assert two.is_held
    assert not await one.try_acquire()
    await two.release()
    await asyncio.wait_for(one.acquire(), PATIENCE_SECONDS)
    assert one.is_held
    await one.aclose()
    await two.aclose()
