"""The state directory: its keys, its modes, and the marks by which processes know one another to be alive."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from launchpad.errors import StoreUnavailable
from launchpad.store.statedir import OwnerLease, StateDir

HOLDS_A_MARK = """
import sys
from pathlib import Path
from launchpad.store.statedir import OwnerLease, StateDir
mark = OwnerLease(StateDir(Path(sys.argv[1])))
print(mark.id, flush=True)
sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def opened(path: Path) -> tuple[str, bytes]:
    state = StateDir(path)
    return state.deployment_id, state.key("codes")


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


@pytest.fixture
def other_process(state: StateDir) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process with a mark of its own, and the mark's id."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS_A_MARK, str(state.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield process, process.stdout.readline().strip()
    process.kill()
    process.communicate()


def test_only_the_owner_reads_keys_and_folders(state: StateDir) -> None:
    assert mode(state.path / "secret.key") == 0o600
    assert mode(state.path / "deployment-id") == 0o600
    assert [mode(folder) for folder in (state.path, state.run, state.run / "carriers", state.outbox)] == [0o700] * 4


def test_keys_and_deployment_stay_the_same(state: StateDir) -> None:
    again = StateDir(state.path)
    assert (again.deployment_id, again.key("codes")) == (state.deployment_id, state.key("codes"))


def test_every_purpose_has_a_key_of_its_own_of_256_bits(state: StateDir) -> None:
    keys = {state.key(purpose) for purpose in ("codes", "csrf", "instance-token")}
    assert len(keys) == 3
    assert all(len(key) == 32 for key in keys)


def test_two_deployments_share_nothing(tmp_path: Path) -> None:
    one, two = StateDir(tmp_path / "one"), StateDir(tmp_path / "two")
    assert one.deployment_id != two.deployment_id
    assert one.key("codes") != two.key("codes")


def test_processes_that_start_at_once_get_the_same_key(tmp_path: Path) -> None:
    with ProcessPoolExecutor(8, mp_context=get_context("spawn")) as processes:
        found = set(processes.map(opened, [tmp_path / "state"] * 32))
    assert len(found) == 1
    left = {path.name for path in (tmp_path / "state").iterdir()}
    assert left == {"secret.key", "deployment-id", "run", "outbox"}, "no temporary file is left behind"


@pytest.mark.parametrize("content", ["", "not hexadecimal", "0011"])
def test_a_broken_key_is_refused_and_not_replaced(state: StateDir, content: str) -> None:
    (state.path / "secret.key").write_text(content)
    with pytest.raises(StoreUnavailable, match=str(state.path)):
        StateDir(state.path)
    assert (state.path / "secret.key").read_text() == content


def test_an_empty_deployment_id_is_refused(state: StateDir) -> None:
    (state.path / "deployment-id").write_text("\n")
    with pytest.raises(StoreUnavailable, match="deployment-id is incomplete"):
        StateDir(state.path)


def test_a_path_that_cannot_be_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match=r"The state directory .*/file/state cannot be used"):
        StateDir(tmp_path / "file" / "state")


def test_a_process_knows_itself_alive_and_nobody_dead(state: StateDir) -> None:
    mark = OwnerLease(state)
    assert mark.is_alive(mark.id)
    assert not mark.is_alive(None)
    assert not mark.is_alive("0" * 16)
    mark.close()
    assert not list((state.run / "carriers").iterdir())


def test_another_process_is_alive_until_it_is_killed(
    state: StateDir, other_process: tuple[subprocess.Popen[str], str]
) -> None:
    """However it dies, there is no lease to wait for, and what it leaves behind is tidied up."""
    mark = OwnerLease(state)
    process, id_of_other = other_process
    assert mark.is_alive(id_of_other)
    assert mark.is_alive(id_of_other), "looking does not end it"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not mark.is_alive(id_of_other)
    assert not (state.run / "carriers" / id_of_other).exists()
    mark.close()


def test_programs_that_a_process_starts_do_not_keep_it_alive(state: StateDir) -> None:
    """The lock is not inherited: nginx outlives a killed portal."""
    starts_another = "import subprocess; subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL)\nprint("
    code = HOLDS_A_MARK.replace("print(", starts_another)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(state.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    id_of_other = process.stdout.readline().strip()
    mark = OwnerLease(state)
    try:
        assert mark.is_alive(id_of_other)
        process.kill()
        process.communicate()
        assert not mark.is_alive(id_of_other)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        mark.close()
