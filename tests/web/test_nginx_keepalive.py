"""nginx keeps connections to instances open: for what may be repeated, each port's apart, until they are cut."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from launchpad.domain.instances import Address
from launchpad.ops.nginx import Form, render, worker_user
from launchpad.runtime.connections import cut
from launchpad.settings import tables
from web.nginx_stub import Exchange, Handler, Headers, Message, Stage, Stub, stage, until
from web.nginx_text import check

KEPT = 30  # ports whose connections are kept, and one that is none of them


def free_range(number: int) -> int:
    """The first of so many ports in a row that nobody listens on, below those that connections are made from."""
    for _ in range(100):
        first = 12000 + secrets.randbelow(8000)
        with ExitStack() as stack:
            try:
                for port in range(first, first + number):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("no range of ports is free")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running() -> AsyncIterator[Stage]:
    first = free_range(KEPT + 1)
    engine = {"port_range": f"{first}-{first + KEPT}", "keepalive_ports": KEPT}
    async with stage(engine=engine) as here:
        yield here


@asynccontextmanager
async def instance(here: Stage, number: int = 0, of: str = "") -> AsyncIterator[Stub]:
    """An application on the range's port of that number, as the container of my instance unless it is another's."""
    stub = Stub()
    await stub.listen(port=here.settings.engine.ports[number])
    here.allow(of or here.my_id, stub.address)
    try:
        yield stub
    finally:
        await stub.close()


async def test_what_may_be_repeated_goes_over_kept_connections(here: Stage) -> None:
    async with instance(here) as app:
        for method in ("GET", "HEAD", "GET") * 10:
            assert (await here.instances(f"/i/{here.my_id}/x", method=method)).status == 200
        assert len(app.requests) == 30
        assert app.connections_made <= len(here.nginx.worker_pids())
        assert {request.get("Connection") for request in app.requests} == {None}
        assert app.requests[0].first_line == "GET /x HTTP/1.1"


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("POST", [], b"x"),
        ("POST", [], None),
        ("PUT", [], b"x"),
        ("DELETE", [], None),
        ("PATCH", [], b"x"),
        ("OPTIONS", [], None),
        ("GET", [], b"x"),
        ("GET", [("Content-Length", "0")], None),
        ("GET", [("Upgrade", "websocket"), ("Connection", "Upgrade")], None),
    ],
)
async def test_everything_else_has_a_connection_of_its_own(
    here: Stage, method: str, headers: Headers, body: bytes | None
) -> None:
    """An upload that was half sent, or a change that was made, is not sent again."""
    async with instance(here) as app:
        for _ in range(3):
            assert (await here.instances(f"/i/{here.my_id}/", method=method, headers=headers, body=body)).status == 200
        assert app.connections_made == len(app.requests) == 3
        wanted = "upgrade" if headers and headers[0][0] == "Upgrade" else "close"
        assert {request.get("Connection") for request in app.requests} == {wanted}


async def test_a_port_outside_the_kept_ones_is_reached_as_well(here: Stage) -> None:
    async with instance(here, KEPT) as app:
        for _ in range(3):
            assert (await here.instances(f"/i/{here.my_id}/")).text == "stub"
        assert app.connections_made == 3
        assert {request.get("Connection") for request in app.requests} == {"close"}


async def test_every_kept_port_is_its_own(here: Stage) -> None:
    """Twice each, and from all at once: never another's answer."""
    stubs = []
    try:
        for number, port in enumerate(here.settings.engine.ports):
            stub = Stub()
            await stub.listen(port=port)
            stubs.append(stub)
            stub.handlers["/who"] = answering(f"application {port}")
            here.allow(f"{number:016}", stub.address)
        for _ in range(2):
            everyone = [here.instances(f"/i/{number:016}/who") for number in range(len(stubs))]
            said = [answer.text for answer in await asyncio.gather(*everyone)]
            assert said == [f"application {port}" for port in here.settings.engine.ports]
    finally:
        for stub in stubs:
            await stub.close()


def answering(text: str) -> Handler:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond(200, [("Content-Type", "text/plain")], text.encode())

    return answer


async def test_a_kept_connection_that_the_application_closed_costs_nobody_an_error(here: Stage) -> None:
    """It closes just as the next request arrives, unanswered: the request is repeated on a new one."""
    async with instance(here) as app:
        app.hangs_up_on_reuse = True
        for _ in range(20):
            assert (await here.instances(f"/i/{here.my_id}/")).status == 200
        assert len(app.requests) == 20


async def test_an_application_that_hangs_up_on_a_new_connection_is_not_asked_again(here: Stage) -> None:
    async def hang_up(_: Exchange) -> None:
        raise ConnectionResetError

    async with instance(here) as app:
        app.handlers["/"] = hang_up
        assert (await here.instances(f"/i/{here.my_id}/")).status == 502
        assert len(app.requests) == 1


async def test_an_application_may_close_after_each_answer(here: Stage) -> None:
    """As RStudio does."""

    async def say_so(exchange: Exchange) -> None:
        await exchange.respond(200, [("Connection", "close")], b"R")
        raise ConnectionResetError

    async with instance(here) as app:
        app.handlers["/"] = say_so
        for _ in range(6):
            answer: Message = await here.instances(f"/i/{here.my_id}/")
            assert (answer.status, answer.text) == (200, "R")
        assert app.connections_made == 6


async def test_g10_a_port_that_another_container_has_now_answers_for_that_one_alone(here: Stage) -> None:
    """nginx still holds connections to the first when it ends; the second takes its port at once."""
    for _ in range(20):
        async with instance(here) as hers:
            hers.handlers["/"] = answering("hers")
            asked = [here.instances(f"/i/{here.my_id}/") for _ in range(8)]
            assert {answer.text for answer in await asyncio.gather(*asked)} == {"hers"}
        here.reset()
        del here.portal.answers[here.my_id]
        async with instance(here, of=here.your_id) as his:
            his.handlers["/"] = answering("his")
            asked = [here.instances(f"/i/{here.your_id}/") for _ in range(8)]
            assert {answer.text for answer in await asyncio.gather(*asked)} == {"his"}
            assert (await here.instances(f"/i/{here.my_id}/")).status >= 400
            assert len(his.requests) == 8, "none of hers came here"
        here.reset()


def established(port: int) -> int:
    """Connections to the port that are open, as the kernel lists them."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[2] == f"0100007F:{port:04X}" and line.split()[3] == "01" for line in lines)


async def test_g9_cutting_ends_connections_that_wait_for_their_next_request(here: Stage) -> None:
    """Such a connection leads into an instance as any other does. What comes next, if it may, has a new one."""
    async with instance(here) as app:
        port = here.settings.engine.ports[0]
        await asyncio.gather(*(here.instances(f"/i/{here.my_id}/") for _ in range(8)))
        assert established(port) > 0
        made = app.connections_made
        await cut([Address("127.0.0.1", port)])
        assert established(port) == 0
        assert (await here.instances(f"/i/{here.my_id}/")).status == 200
        assert app.connections_made == made + 1


async def test_idle_connections_are_closed_soon(here: Stage) -> None:
    """So that they are no burden, and an application that waits for the end of its connections ends."""
    async with instance(here):
        port = here.settings.engine.ports[0]
        assert (await here.instances(f"/i/{here.my_id}/")).status == 200
        assert established(port) > 0
        await until(lambda: established(port) == 0, 10)


@pytest.mark.parametrize("kept", [0, 1, 4096])
@pytest.mark.parametrize("form", ["full", "site"])
def test_nginx_accepts_any_number_of_kept_ports_without_a_warning(folder: Path, form: Form, kept: int) -> None:
    settings = tables({"engine": {"keepalive_ports": kept}})
    user = worker_user(folder)
    text = render(settings, socket=folder / "portal.sock", runtime_dir=folder, form=form, worker_user=user)
    assert text.count("\nupstream lp") == kept
    code, said = check(text, folder, form)
    assert code == 0, said
    assert "[warn]" not in said
