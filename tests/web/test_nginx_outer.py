"""Behind another proxy: whose word about the client counts, how it may come, and that nobody comes around it.

The outer proxy is 127.0.0.2 here; whoever comes from another address is not.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
import pytest_asyncio

from launchpad.ops.nginx import worker_user
from support.certificates import certificate
from web.nginx_stub import (
    LAB,
    MEGABYTE,
    RUN,
    Exchange,
    Headers,
    Nginx,
    Stage,
    ask,
    connect,
    free_port,
    read_head,
    stage,
    unchecking,
    until,
)

OUTER, STRANGER = "127.0.0.2", "127.0.0.3"
CLIENT, MADE_UP = "203.0.113.9", "198.51.100.1"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def by_headers() -> AsyncIterator[Stage]:
    async with stage(proxy={"trusted": [OUTER]}) as here:
        yield here


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def by_preface() -> AsyncIterator[Stage]:
    """TLS ends here, behind a load balancer that passes connections on."""
    with tempfile.TemporaryDirectory() as name:
        chain, key = certificate(Path(name), LAB, RUN)
        values = {
            "public_url": f"https://{LAB}",
            "instances_url": f"https://{RUN}",
            "tls": {"certificate": chain, "key": key},
            "proxy": {"trusted": [OUTER], "protocol": "proxy-protocol", "listen": free_port()},
        }
        async with stage(**values) as here:
            here.tls = ssl.create_default_context(cafile=chain)
            yield here


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def in_the_clear() -> AsyncIterator[Stage]:
    """The outer proxy ends TLS, and comes to one port with plain http."""
    proxy = {"trusted": [OUTER], "tls": "outer", "listen": free_port()}
    async with stage(public_url=f"https://{LAB}", instances_url=f"https://{RUN}", proxy=proxy) as here:
        yield here


async def clients_seen(here: Stage, source: str, headers: Headers, preface: bytes = b"") -> set[str]:
    """Every address that portal, gate and instance are told, for one page of each origin."""
    here.reset()
    assert (await here.page("/x", source=source, headers=headers, preface=preface)).status == 200
    target = f"/i/{here.my_id}/x"
    assert (await here.instances(target, source=source, headers=headers, preface=preface)).status == 200
    [page], [asked], [passed] = here.portal.pages(), here.portal.asked(), here.mine.requests
    told = [one.all("X-Forwarded-For") for one in (page, asked, passed)]
    assert [len(values) for values in told] == [1, 1, 1]
    assert asked.all("X-Gate-Client") == told[1]
    for received in (page, asked, passed):
        assert not any(MADE_UP in value for _, value in received.headers)
    return {values[0] for values in told}


# -- HTTP proxies: X-Forwarded-For -------------------------------------------------------------------------------------

CHAINS = {
    "one": ([CLIENT], CLIENT),
    "a client that made one up": ([f"{MADE_UP}, {CLIENT}"], CLIENT),
    "a client that claims to be this machine": ([f"127.0.0.1, {CLIENT}"], CLIENT),
    "a client that claims to be the outer proxy": ([f"{MADE_UP}, {OUTER}, {CLIENT}"], CLIENT),
    "through the outer proxy twice": ([f"{MADE_UP}, {CLIENT}, {OUTER}"], CLIENT),
    "two headers": ([MADE_UP, CLIENT], CLIENT),
    "IPv6": (["2001:db8::9"], "2001:db8::9"),
    "with a port": ([f"{CLIENT}:4711"], CLIENT),
    "none": ([], "unknown"),
    "an empty one": ([""], "unknown"),
    "no address": (["nobody"], "unknown"),
    "no address at the end": ([f"{MADE_UP}, nobody"], "unknown"),
    "only the outer proxy itself": ([OUTER], "unknown"),
}


@pytest.mark.parametrize(("sent", "seen"), CHAINS.values(), ids=CHAINS.keys())
async def test_s8_the_client_is_the_last_address_that_is_no_proxy(
    by_headers: Stage, sent: list[str], seen: str
) -> None:
    headers = [("X-Forwarded-For", value) for value in sent]
    assert await clients_seen(by_headers, OUTER, headers) == {seen}


async def test_s8_what_anybody_else_says_about_addresses_is_not_read(by_headers: Stage) -> None:
    for source in ("127.0.0.1", STRANGER):
        for value in (MADE_UP, f"{MADE_UP}, {OUTER}", f"{OUTER}, {MADE_UP}"):
            forged = [("X-Forwarded-For", value), ("X-Real-IP", MADE_UP), ("Forwarded", f"for={MADE_UP}")]
            assert await clients_seen(by_headers, source, forged) == {source}


async def test_s8_fifty_made_up_addresses_behind_the_outer_proxy_are_one_client(by_headers: Stage) -> None:
    by_headers.reset()
    for number in range(50):
        chain = f"198.51.100.{number}, {CLIENT}"  # as the outer proxy completes what the client made up
        assert (await by_headers.page("/x", source=OUTER, headers=[("X-Forwarded-For", chain)])).status == 200
    assert [one.all("X-Forwarded-For") for one in by_headers.portal.requests] == [[CLIENT]] * 50


async def test_the_log_names_the_client(by_headers: Stage) -> None:
    await by_headers.page("/seen-from-outside", source=OUTER, headers=[("X-Forwarded-For", CLIENT)])
    await until(lambda: "/seen-from-outside" in by_headers.nginx.access_log())
    [line] = [line for line in by_headers.nginx.access_log().splitlines() if "/seen-from-outside" in line]
    assert line.split(" ")[1] == CLIENT


# -- TCP load balancers: the PROXY protocol ----------------------------------------------------------------------------


def version_1(client: str = CLIENT) -> bytes:
    family = "TCP6" if ":" in client else "TCP4"
    return f"PROXY {family} {client} {'::1' if ':' in client else '192.0.2.1'} 40000 443\r\n".encode()


def version_2(client: str | None = CLIENT) -> bytes:
    """None: the load balancer's own connection (LOCAL), as for its health checks."""
    signature = b"\r\n\r\n\x00\r\nQUIT\n"
    if client is None:
        return signature + struct.pack("!BBH", 0x20, 0, 0)
    kind, other = (0x21, "::1") if ":" in client else (0x11, "192.0.2.1")
    body = ip_address(client).packed + ip_address(other).packed + struct.pack("!HH", 40000, 443)
    return signature + struct.pack("!BBH", 0x21, kind, len(body)) + body


@pytest.mark.parametrize(
    ("preface", "seen"),
    [
        (version_1(), CLIENT),
        (version_1("2001:db8::9"), "2001:db8::9"),
        (version_2(), CLIENT),
        (version_2("2001:db8::9"), "2001:db8::9"),
        (version_2(None), "unknown"),
        (b"PROXY UNKNOWN\r\n", "unknown"),
    ],
    ids=["1", "1, IPv6", "2", "2, IPv6", "2, its own", "1, its own"],
)
async def test_s8_the_preface_names_the_client(by_preface: Stage, preface: bytes, seen: str) -> None:
    assert await clients_seen(by_preface, OUTER, [("X-Forwarded-For", MADE_UP)], preface) == {seen}


async def test_s8_a_strangers_preface_is_taken_off_and_not_believed(by_preface: Stage) -> None:
    for preface in (version_1(MADE_UP), version_2(MADE_UP)):
        assert await clients_seen(by_preface, STRANGER, [("X-Forwarded-For", MADE_UP)], preface) == {STRANGER}


@pytest.mark.parametrize("first", [b"", b"PROXY TCP4 nobody\r\n", b"PROXY TCP4 " + b"1" * 200, b"\r\n\r\n\x00\r\nQUIT"])
async def test_without_a_preface_nobody_is_answered(by_preface: Stage, first: bytes) -> None:
    by_preface.reset()
    for source in (OUTER, STRANGER):
        with pytest.raises((ConnectionError, ssl.SSLError, asyncio.IncompleteReadError)):
            await by_preface.page("/x", source=source, preface=first)
    assert by_preface.portal.requests == []


async def test_the_browsers_tls_ends_here_behind_the_preface(by_preface: Stage) -> None:
    by_preface.reset()
    context = unchecking()
    context.set_alpn_protocols(["h2"])
    port = by_preface.portal_port
    _, writer = await connect(port, context, LAB, OUTER, version_2())
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    writer.transport.abort()
    await by_preface.page("/x", source=OUTER, preface=version_2())
    [received] = by_preface.portal.requests
    assert (received.get("X-Forwarded-Proto"), received.get("X-Forwarded-Port")) == ("https", "443")


# -- the outer proxy ends TLS ------------------------------------------------------------------------------------------

FROM_CLIENT: Headers = [("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "http"), ("X-Forwarded-Port", "8080")]


async def test_plain_http_from_the_outer_proxy_is_https_to_everybody_behind(in_the_clear: Stage) -> None:
    assert await clients_seen(in_the_clear, OUTER, FROM_CLIENT) == {CLIENT}
    for received, name in ((in_the_clear.portal.pages()[0], LAB), (in_the_clear.mine.requests[0], RUN)):
        assert received.all("X-Forwarded-Proto") == ["https"]
        assert received.all("X-Forwarded-Port") == ["443"]
        assert received.all("Host") == received.all("X-Forwarded-Host") == [name]


async def test_answers_and_redirects_are_those_of_the_public_address(in_the_clear: Stage) -> None:
    in_the_clear.reset()
    port = in_the_clear.portal_port
    page = await in_the_clear.page("/x", source=OUTER)
    other = await ask(port, "/x?y", authority=f"10.1.2.3:{port}", source=OUTER)
    assert (other.status, other.get("Location")) == (307, f"https://{LAB}/x?y")
    root = await in_the_clear.instances("/", source=OUTER)
    assert (root.status, root.get("Location")) == (302, f"https://{LAB}/dashboard")
    for answer in (page, other, root):
        assert answer.all("Strict-Transport-Security") == ["max-age=31536000"]


@pytest.mark.parametrize("source", ["127.0.0.1", STRANGER])
async def test_nobody_comes_around_the_outer_proxy(in_the_clear: Stage, source: str) -> None:
    """Neither by saying to be it nor by an upgrade; a client that it names is nobody's reason to refuse it."""
    in_the_clear.reset()
    forged = [("X-Forwarded-For", OUTER), ("X-Real-IP", OUTER), ("X-Forwarded-Proto", "https")]
    upgrade = [
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ]
    port = in_the_clear.portal_port
    for headers in ([], forged, upgrade):
        for target in ("/", "/healthz", "/api/v1/me", "/enter?ticket=x"):
            assert (await in_the_clear.page(target, source=source, headers=headers)).status == 403
        assert (await in_the_clear.instances(f"/i/{in_the_clear.my_id}/", source=source, headers=headers)).status == 403
        assert (await ask(port, "/healthz", source=source, headers=headers)).status == 403
    assert in_the_clear.portal.requests == in_the_clear.mine.requests == []
    stranger: Headers = [("X-Forwarded-For", source)]
    assert (await in_the_clear.page("/x", source=OUTER, headers=stranger)).status == 200


async def test_a_load_balancer_may_ask_for_the_health_by_the_bare_address(in_the_clear: Stage) -> None:
    in_the_clear.reset()
    assert (await ask(in_the_clear.portal_port, "/readyz", authority="10.1.2.3", source=OUTER)).status == 200


async def test_two_ports_of_one_host_have_two_ports_behind_the_outer_proxy() -> None:
    proxy = {"trusted": [OUTER], "tls": "outer", "listen": free_port(), "instances_listen": free_port()}
    urls = {"public_url": f"https://{LAB}", "instances_url": f"https://{LAB}:8443"}
    async with stage(**urls, proxy=proxy) as here:
        assert await clients_seen(here, OUTER, FROM_CLIENT) == {CLIENT}
        assert here.portal.pages()[0].all("X-Forwarded-Port") == ["443"]
        assert here.mine.requests[0].all("X-Forwarded-Port") == ["8443"]


async def test_with_the_outer_proxy_on_this_machine_nothing_listens_beyond_loopback() -> None:
    proxy = {"trusted": [OUTER], "tls": "outer", "listen": free_port()}
    async with stage(
        public_url="https://lab.example.org", instances_url="https://run.example.org", proxy=proxy
    ) as here:
        assert (await here.page("/x", source=OUTER)).status == 200
        with socket.socket() as probe:  # all addresses would be taken by a listener on all of them
            probe.bind(("127.0.0.9", here.portal_port))


async def test_the_preface_can_come_in_the_clear_as_well() -> None:
    proxy = {"trusted": [OUTER], "tls": "outer", "protocol": "proxy-protocol", "listen": free_port()}
    async with stage(public_url=f"https://{LAB}", instances_url=f"https://{RUN}", proxy=proxy) as here:
        assert await clients_seen(here, OUTER, [("X-Forwarded-For", MADE_UP)], version_2()) == {CLIENT}
        here.reset()
        refused = await here.page("/x", source=STRANGER, preface=version_2(OUTER))
        assert (refused.status, here.portal.requests) == (403, [])


async def accept(exchange: Exchange) -> None:
    exchange.writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
    await exchange.reader.read()


async def test_a_websocket_comes_through_the_outer_proxy(in_the_clear: Stage) -> None:
    in_the_clear.reset()
    in_the_clear.mine.handlers["/ws"] = accept
    reader, writer = await connect(in_the_clear.instances_port, source=OUTER)
    head = f"GET /i/{in_the_clear.my_id}/ws HTTP/1.1\r\nHost: {RUN}\r\nOrigin: https://{RUN}\r\n"
    writer.write(f"{head}X-Forwarded-For: {CLIENT}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode())
    async with asyncio.timeout(5):
        assert (await read_head(reader)).status == 101
        assert await reader.readexactly(5) == b"hello"
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    [asked] = in_the_clear.portal.asked()
    assert (asked.get("X-Gate-Upgrade"), asked.get("Origin")) == ("websocket", f"https://{RUN}")


HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "reverse-proxy.md"
AROUND_SNIPPET = """
{user}
pid "{folder}/nginx.pid"; error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off; client_body_temp_path "{folder}/body"; proxy_temp_path "{folder}/proxy";
    fastcgi_temp_path "{folder}/f"; uwsgi_temp_path "{folder}/u"; scgi_temp_path "{folder}/s";
    server_names_hash_bucket_size 128;
    proxy_bind {outer};
    {snippet}
}}
"""


@asynccontextmanager
async def outer_nginx(here: Stage) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """The nginx of the how-to, on a free port: that, and what trusts its certificate."""
    [snippet] = re.findall(r"```nginx\n(.*?)```", HOWTO.read_text(encoding="utf-8"), re.DOTALL)
    with tempfile.TemporaryDirectory(prefix="lp-") as name:
        folder, port = Path(name), free_port()
        folder.chmod(0o755)
        chain, key = certificate(folder, LAB, RUN)
        for said, here_it_is in (
            ("listen 443", f"listen 127.0.0.1:{port}"),
            ("10.1.2.4:8080", f"127.0.0.1:{here.portal_port}"),
            ("lab.institute.edu run.lab.institute.edu", f"{LAB} {RUN}"),
            ("/etc/ssl/lab/chain.pem", str(chain)),
            ("/etc/ssl/lab/key.pem", str(key)),
        ):
            assert said in snippet
            snippet = snippet.replace(said, here_it_is)
        user = f"user {who};" if (who := worker_user(folder)) else ""
        nginx = Nginx(folder, AROUND_SNIPPET.format(folder=folder, outer=OUTER, snippet=snippet, user=user))
        try:
            await nginx.start([port])
            yield port, ssl.create_default_context(cafile=chain)
        finally:
            nginx.stop()


async def test_the_nginx_of_the_how_to_passes_everything_on(in_the_clear: Stage) -> None:
    here = in_the_clear
    here.reset()
    here.mine.handlers["/ws"] = accept
    async with outer_nginx(here) as (port, tls):
        forged: Headers = [("X-Forwarded-For", MADE_UP), ("X-Forwarded-Proto", "http"), ("X-Real-IP", MADE_UP)]
        page = await ask(port, "/a%2Fb?c=%20d", authority=LAB, tls=tls, source=STRANGER, headers=forged)
        assert (page.status, page.all("Strict-Transport-Security")) == (200, ["max-age=31536000"])
        [received] = here.portal.pages()
        assert received.target == "/a%2Fb?c=%20d"
        assert received.all("X-Forwarded-For") == [STRANGER]
        assert received.all("X-Forwarded-Proto") == ["https"]
        body = bytes(3 * MEGABYTE)
        target = f"/i/{here.my_id}/upload//x"
        sent = await ask(port, target, authority=RUN, tls=tls, source=STRANGER, method="POST", body=body)
        assert sent.status == 200
        assert (here.mine.requests[0].target, len(here.mine.requests[0].body)) == ("/upload//x", len(body))
        assert here.mine.requests[0].all("X-Forwarded-For") == [STRANGER]
        reader, writer = await connect(port, tls, RUN, STRANGER)
        head = f"GET /i/{here.my_id}/ws HTTP/1.1\r\nHost: {RUN}\r\nOrigin: https://{RUN}\r\n"
        writer.write(f"{head}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode())
        async with asyncio.timeout(5):
            assert (await read_head(reader)).status == 101
            assert await reader.readexactly(5) == b"hello"
        writer.transport.abort()
    assert here.portal.asked()[-1].all("X-Gate-Client") == [STRANGER]
