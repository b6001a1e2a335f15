"""HSTS on every answer, and what nginx does with who keeps a connection for nothing."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from web.nginx_stub import MEGABYTE, PAGE, Answer, Exchange, Stage, ask, connect, read_head, stage, unchecking

HSTS = "Strict-Transport-Security"


async def own_policy(exchange: Exchange) -> None:
    await exchange.respond(200, [(HSTS, "max-age=0; includeSubDomains; preload")])


async def test_under_https_every_answer_says_so_once(secure: Stage) -> None:
    """Those of portal and instances, with an instance's own word about it left out, and those of nginx itself."""
    secure.reset()
    secure.mine.handlers["/own"] = own_policy
    secure.portal.answers[secure.your_id] = Answer(403)
    gone = f"/i/{'0' * 16}"
    answers = [
        *[await secure.page(target) for target in ("/", "/api/v1/me", "/gate/x", "/api/v1/instances/x/events")],
        await secure.page("/api/v1/x", method="POST", body=bytes(MEGABYTE + 1)),
        await secure.page("/x", method="POST", body=bytes(MEGABYTE + 1)),
        *[await secure.instances(f"/i/{secure.my_id}{path}") for path in ("/x", "/own", "")],
        *[await secure.instances(target) for target in ("/", "/nothing", "/enter?ticket=x", f"{gone}/", gone)],
        await secure.instances(f"{gone}/", headers=PAGE),
        await secure.instances(f"/i/{secure.your_id}/"),
        await secure.instances("/enter?ticket=x", method="POST"),
    ]
    for nobody in (Answer(401, [("X-Gate-Location", f"{secure.settings.public_url}/instances/x/open")]), Answer(401)):
        secure.portal.answers[secure.my_id] = nobody
        answers.append(await secure.instances(f"/i/{secure.my_id}/", headers=PAGE))
    answers.append(await ask(secure.portal_port, "/x", authority="10.1.2.3", tls=unchecking()))
    secure.allow(secure.my_id, "127.0.0.1:1")
    answers += [await secure.instances(f"/i/{secure.my_id}/", headers=headers) for headers in (PAGE, [])]
    await secure.portal.close()
    answers += [await secure.page(target) for target in ("/", "/api/v1/me")]
    answers += [await secure.instances(f"/i/{secure.my_id}/", headers=headers) for headers in (PAGE, [])]
    await secure.portal.listen(secure.socket)
    assert {answer.status for answer in answers} >= {200, 301, 302, 303, 307, 401, 403, 404, 405, 413, 502, 503}
    assert [answer.all(HSTS) for answer in answers] == [["max-age=31536000"]] * len(answers)


async def test_over_plain_http_nothing_is_said_of_https() -> None:
    async with stage() as here:
        here.mine.handlers["/own"] = own_policy
        assert (await here.page("/")).all(HSTS) == []
        assert (await here.instances(f"/i/{here.my_id}/own")).all(HSTS) == []


def soon(text: str) -> str:
    """The limits on everybody in seconds that a test can wait for; those behind the gate stay."""
    for name, seconds in (("client_header_timeout", 15), ("client_body_timeout", 30)):
        text, found = re.subn(rf"^    {name} {seconds}s;", f"    {name} 1s;", text, flags=re.MULTILINE)
        assert found == 4, "every server has it"
    return text


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hasty() -> AsyncIterator[Stage]:
    async with stage(soon) as here:
        yield here


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /x HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nbegun",
    ],
    ids=["nothing", "half a head", "half a body"],
)
async def test_who_sends_in_drops_does_not_keep_a_connection(hasty: Stage, sent: bytes) -> None:
    hasty.reset()
    begun = time.monotonic()
    reader, writer = await connect(hasty.portal_port)
    writer.write(sent)

    async def drops() -> None:
        while not writer.is_closing():
            writer.write(b"G" if b"\r\n\r\n" not in sent else b"")
            await asyncio.sleep(0.2)

    dripping = asyncio.create_task(drops())
    with suppress(ConnectionError):
        async with asyncio.timeout(10):
            await reader.read()
    assert 0.5 < time.monotonic() - begun < 5
    assert hasty.portal.requests == []
    dripping.cancel()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_an_upload_to_an_instance_may_rest(hasty: Stage) -> None:
    """Such as that of a laptop whose lid was closed; who may send it is known by then."""
    hasty.reset()
    reader, writer = await connect(hasty.instances_port)
    head = f"POST /i/{hasty.my_id}/upload HTTP/1.1\r\nHost: localhost:{hasty.instances_port}\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: 10\r\n\r\nfirst".encode())
    await asyncio.sleep(2.5)
    writer.write(b" half")
    async with asyncio.timeout(5):
        assert (await read_head(reader)).status == 200
    writer.close()
    await writer.wait_closed()
    assert hasty.mine.requests[0].body == b"first half"
