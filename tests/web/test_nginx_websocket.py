"""WebSockets through nginx: who gets one, and how one ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from web.nginx_stub import Answer, Stage, stage


class Echo:
    """An instance that speaks WebSocket."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: list[ServerConnection] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def handle(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        async for message in connection:
            await connection.send(message)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async with serve(self.handle, "127.0.0.1", 0, max_size=None) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running() -> AsyncIterator[tuple[Stage, Echo]]:
    echo = Echo()
    async with echo.listening(), stage() as here:
        yield here, echo


@pytest.fixture
def here(running: tuple[Stage, Echo]) -> Stage:
    stage, echo = running
    stage.reset()
    echo.connections.clear()
    stage.allow(stage.my_id, echo.address, prefix="keep", headers=["Authorization: token 0123"])
    return stage


@pytest.fixture
def echo(running: tuple[Stage, Echo]) -> Echo:
    return running[1]


def opened(here: Stage, path: str = "api/kernels/1/channels?session_id=a%2Fb", origin: str | None = None) -> connect:
    return connect(
        f"ws://localhost:{here.instances_port}/i/{here.my_id}/{path}",
        origin=Origin(origin or here.settings.instances_url),
        additional_headers={"Cookie": "lp_instance=gate; theirs=1", "Authorization": "forged"},
        proxy=None,
        max_size=None,
    )


async def test_a_websocket_goes_both_ways(here: Stage, echo: Echo) -> None:
    async with opened(here) as browser:
        for message in ("text", b"\x00binary", "x" * 3_000_000):
            await browser.send(message)
            assert await browser.recv() == message
    [connection] = echo.connections
    assert connection.request is not None
    assert connection.request.path == f"/i/{here.my_id}/api/kernels/1/channels?session_id=a%2Fb"
    assert connection.request.headers.get_all("Host") == [f"localhost:{here.instances_port}"]
    assert connection.request.headers.get_all("Origin") == [here.settings.instances_url]


async def test_g5_a_websocket_carries_the_gates_log_in_and_no_cookie_of_ours(here: Stage, echo: Echo) -> None:
    async with opened(here):
        pass
    [connection] = echo.connections
    assert connection.request is not None
    assert connection.request.headers.get_all("Authorization") == ["token 0123"]
    assert connection.request.headers.get_all("Cookie") == []


async def test_g8_the_gate_is_asked_with_the_origin_and_the_upgrade(here: Stage) -> None:
    async with opened(here, origin="http://evil.example"):
        pass
    [asked] = here.portal.asked()
    assert asked.get("Origin") == "http://evil.example"
    assert asked.get("X-Gate-Upgrade") == "websocket"
    assert asked.get("Cookie") == "lp_instance=gate; theirs=1"
    assert asked.get("Upgrade") is None


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Answer(401), 401),
        (Answer(401, [("X-Gate-Location", "http://evil.example/")]), 401),
        (Answer(404), 404),
        (Answer(403), 403),
        (Answer(500), 503),
    ],
    ids=["no cookie", "no cookie and a bad location", "another user's", "foreign origin", "an odd gate"],
)
async def test_g8_a_websocket_that_the_gate_refuses_is_not_opened(
    here: Stage, echo: Echo, answer: Answer, status: int
) -> None:
    here.portal.answers[here.my_id] = answer
    with pytest.raises(InvalidStatus) as refused:
        async with opened(here):
            pass
    assert refused.value.response.status_code == status
    assert echo.connections == []


async def test_g9_an_instance_that_ends_closes_its_open_websocket(here: Stage, echo: Echo) -> None:
    async with opened(here) as browser:
        await browser.send("there?")
        await browser.recv()
        echo.connections[0].transport.abort()
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(5):
                await browser.recv()


async def test_f15_an_open_websocket_outlives_the_portal(here: Stage) -> None:
    async with opened(here) as browser:
        await browser.send("one")
        await browser.recv()
        await here.portal.close()
        await browser.send("two")
        assert await browser.recv() == "two"
    await here.portal.listen(here.socket)


async def test_a_silent_websocket_stays_open(here: Stage) -> None:
    """Longer than any time limit of the gate; the limit on the instance itself is a day (test_nginx_render)."""
    async with opened(here) as browser:
        await asyncio.sleep(5)
        await browser.send("still there?")
        assert await browser.recv() == "still there?"


async def test_twenty_websockets_at_once(here: Stage) -> None:
    async def say(number: int) -> str | bytes:
        async with opened(here) as browser:
            await browser.send(str(number))
            return await browser.recv()

    async with asyncio.timeout(20):
        said = await asyncio.gather(*(say(number) for number in range(20)))
    assert said == [str(number) for number in range(20)]
