"""Connections that are cut, by the real `ss` and the kernel: what is done, what is not, and how it is said."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from launchpad.domain.instances import Address
from launchpad.errors import ConnectionsNotCut
from launchpad.helper.guard import Guard
from launchpad.helper_client import HelperClient
from launchpad.runtime import connections
from launchpad.runtime.connections import can_cut, cut
from launchpad.runtime.cutting import KernelCutter
from launchpad.runtime.fake import FakeRuntime
from launchpad.runtime.helper import helper_cutter
from launchpad.settings import tables
from launchpad.storage.choose import choose_snapshots
from launchpad.storage.plain import PlainHomes
from support.helper import SpecifiedLaunches, helper_thread


class Line:
    """A server, and a connection to it as nginx would hold one."""

    def __init__(self, server: asyncio.Server, client: socket.socket) -> None:
        self.server = server
        self.client = client
        host, port = server.sockets[0].getsockname()[:2]
        self.address = Address(host, port)

    def is_open(self) -> bool:
        try:
            self.client.send(b"x")
        except OSError:
            return False
        return True


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: held.append(writer), "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname()[:2])
    client.setblocking(False)
    made = Line(server, client)
    while not held:
        await asyncio.sleep(0.01)
    assert made.is_open()
    yield made
    client.close()
    for writer in held:
        writer.close()
    server.close()


def program(folder: Path, text: str) -> str:
    path = folder / "ss"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


REAL = "/usr/bin/env -u LD_PRELOAD ss"


async def test_it_is_cut(line: Line) -> None:
    await cut([line.address])
    assert not line.is_open()
    assert await can_cut()


async def test_where_nothing_is_open_nothing_has_to_be_cut(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fails_to_cut = program(tmp_path, f'case "$*" in *-K*) exit 3;; esac; exec {REAL} "$@"')
    monkeypatch.setattr("shutil.which", lambda *_, **__: fails_to_cut)
    await cut([Address("127.0.0.1", 9)])
    await cut([])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "the program ss is missing"),
        ("no program", "ss does not start"),
        ("fails", "ss has failed"),
        ("fails to cut", "ss has failed"),
        ("says nothing and does nothing", "INET_DIAG_DESTROY"),
        ("hangs", "ss does not finish"),
    ],
)
@pytest.mark.parametrize("through", ["here", "helper"])
async def test_what_is_not_cut_is_said_the_same_way_everywhere(
    line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, words: str, through: str
) -> None:
    """An error of ours, whatever the reason; and the real one works again afterwards."""
    monkeypatch.setattr(connections, "PATIENCE_SECONDS", 0.5)
    texts = {
        "fails": "echo no >&2; exit 1",
        "fails to cut": f'case "$*" in *-K*) exit 3;; esac; exec {REAL} "$@"',
        "says nothing and does nothing": f'case "$*" in *-K*) exit 0;; esac; exec {REAL} "$@"',
        "hangs": "exec sleep 60",
    }
    found: str | None = None
    if kind == "no program":
        found = str(tmp_path)
    elif kind != "missing":
        found = program(tmp_path, texts[kind])
    with monkeypatch.context() as broken:
        broken.setattr("shutil.which", lambda *_, **__: found)
        if through == "here":
            with pytest.raises(ConnectionsNotCut, match=words):
                await cut([line.address])
        else:
            await not_cut_by_the_helper(tmp_path, line.address, words)
        assert not await can_cut()
    assert line.is_open()
    await cut([line.address])
    assert not line.is_open()


async def not_cut_by_the_helper(folder: Path, address: Address, words: str) -> None:
    """As the portal asks it: through the helper's socket, with its guard, and the real cutter behind."""
    settings = tables({"state_dir": folder / "state", "engine": {"port_range": f"{address.port}-{address.port}"}})
    engine = FakeRuntime("test")
    homes = PlainHomes(folder)
    guard = Guard(
        settings, (), engine, SpecifiedLaunches(engine), KernelCutter(), homes, choose_snapshots(settings, homes)
    )
    with helper_thread(folder, engine, guard) as path:
        client = HelperClient(path)
        try:
            with pytest.raises(ConnectionsNotCut, match=words):
                await helper_cutter(client).cut([address])
        finally:
            await client.aclose()


async def test_a_new_connection_to_the_same_address_is_no_failure(
    line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another browser of the owner comes back at once, by right: it is not cut over and over."""
    host, port = line.address.host, line.address.port
    marker = tmp_path / "back"
    comes_back = program(
        tmp_path,
        f'case "$*" in *-K*) {REAL} "$@"; touch {marker}; while [ -e {marker} ]; do sleep 0.02; done; exit 0;; esac; '
        f'exec {REAL} "$@"',
    )
    monkeypatch.setattr("shutil.which", lambda *_, **__: comes_back)

    async def come_back() -> socket.socket:
        while not marker.exists():
            await asyncio.sleep(0.01)
        again = socket.create_connection((host, port))
        await asyncio.sleep(0.05)
        marker.unlink()
        return again

    coming = asyncio.create_task(come_back())
    await cut([line.address])
    again = await coming
    assert not line.is_open()
    again.send(b"x")
    again.close()


async def test_of_many_addresses_the_rest_is_cut_although_one_batch_fails(
    line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(connections, "AT_ONCE", 1)
    odd = program(tmp_path, f'case "$*" in *:9) exit 3;; esac; exec {REAL} "$@"')
    monkeypatch.setattr("shutil.which", lambda *_, **__: odd)
    with pytest.raises(ConnectionsNotCut):
        await cut([Address("127.0.0.1", 9), line.address])
    assert not line.is_open()
