"""The other ways to lay out the two origins: https with two names on one port, and one origin for both."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import InvalidStatus

from web.nginx_stub import LAB, PAGE, RUN, Answer, Exchange, Stage, ask, connect, free_port, problem, stage, unchecking


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def single() -> AsyncIterator[Stage]:
    url = f"http://localhost:{free_port()}"
    async with stage(public_url=url, instances_url=url) as here:
        yield here


async def test_two_names_on_one_port_are_two_servers(secure: Stage) -> None:
    secure.reset()
    assert (await secure.page("/dashboard")).status == 200
    assert (await secure.instances(f"/i/{secure.my_id}/x")).status == 200
    assert [received.target for received in secure.portal.pages()] == ["/dashboard"]
    assert [received.target for received in secure.mine.requests] == ["/x"]
    assert (await secure.instances("/dashboard")).status == 404
    assert (await secure.page(f"/i/{secure.my_id}/x")).status == 200
    assert len(secure.mine.requests) == 1


async def test_both_sides_learn_that_it_was_https(secure: Stage) -> None:
    secure.reset()
    await secure.page("/x")
    await secure.instances(f"/i/{secure.my_id}/x", headers=[("X-Forwarded-Proto", "http")])
    for received, name in ((secure.portal.pages()[0], LAB), (secure.mine.requests[0], RUN)):
        assert received.all("X-Forwarded-Proto") == ["https"]
        assert received.all("X-Forwarded-Port") == [str(secure.portal_port)]
        assert received.all("Host") == received.all("X-Forwarded-Host") == [f"{name}:{secure.portal_port}"]


async def test_a_redirect_to_plain_http_comes_back_as_https(secure: Stage) -> None:
    """Applications that do not know about the proxy build their own address with http."""
    secure.reset()

    async def away(exchange: Exchange) -> None:
        await exchange.respond(302, [("Location", f"http://{RUN}:{secure.instances_port}/p/x")])

    secure.mine.handlers["/go"] = away
    assert (await secure.instances(f"/i/{secure.my_id}/go")).get("Location") == f"/i/{secure.my_id}/p/x"


async def test_http2_and_the_newest_tls_are_spoken(secure: Stage) -> None:
    context = unchecking()
    context.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await connect(secure.portal_port, context, LAB)
    session: ssl.SSLObject = writer.get_extra_info("ssl_object")
    assert session.selected_alpn_protocol() == "h2"
    assert session.version() == "TLSv1.3"
    writer.transport.abort()


async def test_an_unknown_name_is_sent_to_the_portal(secure: Stage) -> None:
    authority = f"other.localhost:{secure.portal_port}"
    response = await ask(secure.portal_port, "/x?y", authority=authority, tls=unchecking())
    assert (response.status, response.get("Location")) == (307, f"{secure.settings.public_url}/x?y")


async def test_a_websocket_over_https(secure: Stage) -> None:
    secure.reset()
    secure.portal.answers[secure.my_id] = Answer(401)
    address = f"wss://{RUN}:{secure.instances_port}/i/{secure.my_id}/ws"
    with pytest.raises(InvalidStatus) as refused:
        async with open_websocket(address, ssl=secure.tls, host="127.0.0.1", proxy=None):
            pass
    assert refused.value.response.status_code == 401
    assert secure.portal.asked()[0].get("X-Gate-Upgrade") == "websocket"


async def test_one_origin_serves_the_portal_and_the_instances(single: Stage) -> None:
    single.reset()
    for target in ("/", "/dashboard", "/api/v1/me", "/i/short"):
        assert (await single.page(target)).status == 200
    assert (await single.page(f"/i/{single.my_id}/x")).status == 200
    assert [received.target for received in single.mine.requests] == ["/x"]
    assert [received.target for received in single.portal.pages()] == ["/", "/dashboard", "/api/v1/me", "/i/short"]
    assert (await single.page("/enter?ticket=x")).status == 200
    assert single.portal.pages()[-1].target == "/gate/enter?ticket=x"


async def test_g5_one_origin_keeps_cookies_and_headers_apart_as_well(single: Stage) -> None:
    single.reset()
    await single.page(f"/i/{single.my_id}/", headers=[("Cookie", "lp_login=1"), ("X-Auth-User", "root")])
    assert [name.lower() for name, _ in single.mine.requests[0].headers] == [
        "host",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "connection",
    ]


@pytest.mark.parametrize("target", ["/gate/authorize", "/gate/enter", "/_gate", "//gate/authorize", "/x/../gate/enter"])
async def test_one_origin_keeps_the_gate_inside(single: Stage, target: str) -> None:
    single.reset()
    assert (await single.page(target)).status == 404
    assert single.portal.requests == []


async def test_g6_one_origin_compares_addresses_as_sent(single: Stage) -> None:
    single.reset()
    single.allow(single.your_id, single.yours.address)
    for climb in ("../", "..%2f", "%2e%2e/", ".%2e%2F"):
        assert (await single.page(f"/i/{single.my_id}/{climb}{single.your_id}/")).status == 404
    assert single.yours.requests == []
    assert single.mine.requests == []


async def test_g7_one_origin_with_a_dead_portal(single: Stage) -> None:
    single.reset()
    await single.portal.close()
    page, call = await single.page("/x", headers=PAGE), await single.page("/api/v1/x")
    instance = await single.page(f"/i/{single.my_id}/", headers=PAGE)
    assert (page.status, problem(call)["status"], instance.status) == (503, 503, 503)
    assert single.mine.requests == []
    await single.portal.listen(single.socket)
    uploaded = await single.page(f"/i/{single.my_id}/", method="POST", body=bytes(3 << 20))
    assert uploaded.status == 200
