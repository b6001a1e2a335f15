"""What a service owes systemd: sockets taken over, readiness, a sign of life."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from launchpad import systemd
from launchpad.systemd import boot_id, inherited_socket, keep_watchdog, notify


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket that systemd reads, in both of its forms."""
    name = str(tmp_path / "notify") if request.param == "path" else f"\0launchpad-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(name)
        made.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
        yield made


def test_notify_reaches_the_manager(manager: socket.socket) -> None:
    notify("READY=1")
    assert manager.recv(100) == b"READY=1"


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")


async def test_the_watchdog_hears_of_us_at_half_its_time(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    alive = asyncio.create_task(keep_watchdog())
    for _ in range(3):
        assert await asyncio.to_thread(manager.recv, 100) == b"WATCHDOG=1"
    alive.cancel()
    with suppress(asyncio.CancelledError):
        await alive


@pytest.mark.parametrize("variables", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}])
async def test_where_no_watchdog_listens_none_is_kept(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with asyncio.timeout(5):
        await keep_watchdog()


TAKES_OVER = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from launchpad.systemd import inherited_socket
taken = inherited_socket()
print(taken.getsockname(), "LISTEN_FDS" in os.environ, os.get_inheritable(3), inherited_socket())
"""


def test_the_managers_socket_is_taken_over_once(tmp_path: Path) -> None:
    """And not handed on to the programs we start."""
    path = tmp_path / "portal.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as held:
        held.bind(str(path))
        held.listen()

        def third() -> None:
            os.dup2(held.fileno(), 3)

        done = subprocess.run(
            [sys.executable, "-c", TAKES_OVER],
            env={**os.environ, "LISTEN_FDS": "1", "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
            preexec_fn=third,
            pass_fds=(3,),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout.split() == [str(path), "False", "False", "None"], done.stderr


TAKES_BOTH = """
import os
os.environ["LISTEN_PID"] = str(os.getpid())
from launchpad.systemd import inherited_socket, inherited_sockets
print(inherited_socket(), *[each.getsockname() for each in inherited_sockets()], inherited_sockets())
"""


def test_several_sockets_are_taken_over_in_their_order(tmp_path: Path) -> None:
    held = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(2)]
    try:
        for each, name in zip(held, "ab", strict=True):
            each.bind(str(tmp_path / name))
            each.listen()

        def moved() -> None:
            copies = [os.dup(each.fileno()) for each in held]
            for descriptor, copy in zip((3, 4), copies, strict=True):
                os.dup2(copy, descriptor)

        done = subprocess.run(
            [sys.executable, "-c", TAKES_BOTH],
            env={**os.environ, "LISTEN_FDS": "2", "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
            preexec_fn=moved,
            pass_fds=(3, 4),
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for each in held:
            each.close()
    assert done.stdout.split() == ["None", str(tmp_path / "a"), str(tmp_path / "b"), "[]"], done.stderr


@pytest.mark.parametrize("variables", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_FDS": "2"}])
def test_other_peoples_sockets_are_not(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert inherited_socket() is None


def test_the_servers_start_is_told_from_the_kernel_or_by_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same form, so that a command outside of the units sees no other start; unknown is empty, no error."""
    monkeypatch.setattr(systemd, "BOOT_ID", tmp_path / "boot_id")
    assert boot_id() == ""
    monkeypatch.setenv("BOOT_ID", "0f1e2d3c4b5a69788796a5b4c3d2e1f0")
    assert boot_id() == "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
    monkeypatch.setenv("BOOT_ID", "another")
    (tmp_path / "boot_id").write_text("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0\n")
    assert boot_id() == "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


UNITS = Path(__file__).resolve().parents[2] / "deploy" / "systemd"


@pytest.mark.parametrize("unit", ["launchpad.service", "launchpad-sweep.service"])
def test_units_that_compare_instances_know_the_servers_start(unit: str) -> None:
    """They see nothing of /proc but processes, and need not."""
    lines = (UNITS / unit).read_text().splitlines()
    assert "ProcSubset=pid" in lines
    assert "Environment=BOOT_ID=%b" in lines
