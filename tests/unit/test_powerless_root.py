"""The helper's root has no CAP_KILL, so that it cannot end processes that have become another user's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import launchpad

pytestmark = [pytest.mark.root]

UID = 200_123
# As the unit of the helper bounds it.
WITHOUT_KILL = ("setpriv", "--bounding-set=-kill", "--inh-caps=-kill")
SOURCES = str(Path(launchpad.__file__).parents[1])

CANCELLED = """
import asyncio, os, sys
from pathlib import Path
from launchpad.storage.walking import count

def began():  # the child has become the home's user
    for place in Path("/proc").glob("[0-9]*"):
        try:
            status = (place / "status").read_text()
        except OSError:
            continue
        if f"PPid:\\t{os.getpid()}\\n" in status and "NoNewPrivs:\\t1" in status:
            return True
    return False

async def main():
    walking = asyncio.create_task(count(os.open(sys.argv[1], os.O_RDONLY)))
    while not began():
        assert not walking.done(), "it was too quick for this test"
        await asyncio.sleep(0.001)
    walking.cancel()
    try:
        await walking
    except asyncio.CancelledError:
        print("cancelled")

asyncio.run(main())
"""

CLOSED = """
import asyncio, socket, sys
from pathlib import Path
from launchpad.settings import FilesSettings
from launchpad.storage import file_workers

async def main():
    file_workers.END_SECONDS = 0.1
    workers = file_workers.FileWorkers(Path(sys.argv[1]).parent, FilesSettings())
    ours, theirs = socket.socketpair()
    await workers.start("anna", int(sys.argv[2]), theirs)
    theirs.close()
    ours.settimeout(60)
    assert b"ready" in ours.recv(100)
    await workers.aclose()
    print("closed")
    ours.close()

asyncio.run(main())
"""


def as_helper(script: str, home: Path) -> str:
    done = subprocess.run(
        [*WITHOUT_KILL, sys.executable, "-c", script, home, str(UID)],
        env={**os.environ, "PYTHONPATH": SOURCES},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "anna"
    made.mkdir(mode=0o700)
    os.chown(made, UID, UID)
    return made


def test_a_walk_that_nobody_waits_for_is_given_up(home: Path) -> None:
    (home / "wide").mkdir()
    for number in range(20_000):
        (home / "wide" / str(number)).mkdir()
    for folder, _, _ in os.walk(home):
        os.chown(folder, UID, UID)
    assert as_helper(CANCELLED, home) == "cancelled\n"


def test_a_walk_ends_when_the_other_end_of_its_pipe_is_closed(home: Path) -> None:
    for number in range(1000):
        (home / str(number)).write_bytes(b"x")
    program = "import sys\nfrom launchpad.storage.porter.counter import main\nmain(*map(int, sys.argv[1:]))"

    def counted(stdin: int) -> tuple[bool, bool]:
        opened = os.open(home, os.O_RDONLY)
        command = [sys.executable, "-c", program, *map(str, (opened, os.getuid(), 900, 10**6))]
        try:
            done = subprocess.run(
                command,
                pass_fds=[opened],
                stdin=stdin,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": SOURCES},
                check=True,
                timeout=300,
            )
        finally:
            os.close(opened)
        said = json.loads(done.stdout)
        return said["whole"], said["entries"] == 1000

    waited_for, waiting = os.pipe()
    assert counted(waited_for) == (True, True)
    os.close(waiting)
    assert counted(waited_for) == (False, False)
    os.close(waited_for)
    assert counted(subprocess.DEVNULL) == (True, True)


def test_workers_that_cannot_be_ended_hold_up_no_end(home: Path) -> None:
    assert as_helper(CLOSED, home) == "closed\n"
