"""The state directory: its keys and its modes."""

from __future__ import annotations

import stat
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from launchpad.errors import StoreUnavailable
from launchpad.store.statedir import StateDir


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def opened(path: Path) -> tuple[str, bytes]:
    state = StateDir(path)
    return state.deployment_id, state.key("codes")


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def test_only_the_owner_reads_keys_and_folders(state: StateDir) -> None:
    assert mode(state.path / "secret.key") == 0o600
    assert mode(state.path / "deployment-id") == 0o600
    assert [mode(folder) for folder in (state.path, state.run, state.outbox)] == [0o700] * 3


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


@pytest.mark.slow  # several processes
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
