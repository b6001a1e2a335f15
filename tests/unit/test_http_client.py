"""HTTP to what runs beside us: what goes out, what counts as a failure, and that whoever gives up hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from launchpad.http_client import FAILURES, HttpClient, lines_of

PATIENCE_SECONDS = 10


class Server:
    """At a Unix socket; answers each connection's first request with what it is given, and notes what was asked."""

    def __init__(self, answer: bytes | None) -> None:
        self.asked: list[bytes] = []
        self.connections = 0
        self.hung_up = asyncio.Event()
        self._answer = answer

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while head := await reader.read(65536):
            self.asked.append(head)
            if self._answer is not None:
                writer.write(self._answer)
        self.hung_up.set()
        writer.close()


@asynccontextmanager
async def serving(path: Path, answer: bytes | None) -> AsyncIterator[Server]:
    server = Server(answer)
    async with await asyncio.start_unix_server(server, path):
        yield server


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def ask(client: HttpClient, url: str, **more: Any) -> bytes:
    async with client.call("GET", url, **more) as answer:
        return await answer.aread()


async def test_addresses_and_headers_go_out_as_they_can(tmp_path: Path) -> None:
    """What is encoded already stays as it is; what cannot stand in an address is encoded."""
    client = HttpClient(socket=str(tmp_path / "s"))
    async with serving(tmp_path / "s", OK) as server:
        params = {"image": "a/b:1", "filters": '{"x": 1}'}
        assert await ask(client, "http://x/é/a%20b", params=params, headers={"X-Name": "Zoë"}) == b"ok"
        first, *headers = server.asked[0].split(b"\r\n")
        assert first == b"GET /%C3%A9/a%20b?image=a/b:1&filters=%7B%22x%22:%201%7D HTTP/1.1"
        assert {b"Host: x", b"Connection: close", b"X-Name: " + "Zoë".encode()} <= set(headers)
        await client.aclose()


@pytest.mark.parametrize(("keep_seconds", "connections"), [(0.0, 2), (60.0, 1)])
async def test_a_connection_is_kept_where_that_is_asked(tmp_path: Path, keep_seconds: float, connections: int) -> None:
    client = HttpClient(socket=str(tmp_path / "s"), keep_seconds=keep_seconds)
    async with serving(tmp_path / "s", OK) as server:
        for _ in range(2):
            assert await ask(client, "http://x/") == b"ok"
        assert server.connections == connections
        await client.aclose()


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
async def test_what_answers_as_another_program_is_a_failure(tmp_path: Path, answer: bytes) -> None:
    client = HttpClient(socket=str(tmp_path / "s"))
    async with serving(tmp_path / "s", answer):
        with pytest.raises(FAILURES):
            await ask(client, "http://x/")
        await client.aclose()


async def test_nobody_at_the_socket_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(FAILURES):
        await ask(HttpClient(socket=str(tmp_path / "s")), "http://x/")


@pytest.mark.parametrize("keep_seconds", [0.0, 60.0])
async def test_who_gives_up_hangs_up(tmp_path: Path, keep_seconds: float) -> None:
    """Before an answer has come, and in the middle of one that has no end."""
    for number, answer in enumerate((None, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")):
        client = HttpClient(socket=str(tmp_path / f"s{number}"), keep_seconds=keep_seconds)
        async with serving(tmp_path / f"s{number}", answer) as server:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await ask(client, "http://x/")
            await asyncio.wait_for(server.hung_up.wait(), PATIENCE_SECONDS)
            await client.aclose()


async def test_lines_are_put_together_from_pieces() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"a", b"b\n\n c", b"\nd\ne"):
            yield piece

    assert [line async for line in lines_of(pieces())] == [b"ab", b" c", b"d"]
