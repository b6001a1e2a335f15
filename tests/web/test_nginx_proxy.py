"""What nginx does to requests and responses of an instance it may reach, and that everything streams."""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib

import pytest

from web.nginx_stub import MEGABYTE, PAGE, Exchange, Handler, Headers, Stage, ask, body_of, connect, read_head


def answering(status: int, headers: Headers, body: bytes = b"") -> Handler:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond(status, headers, body)

    return answer


RAW = [
    "/",
    "/?",
    "/??a=b?c",
    "/a%2Fb/%20c%25d",
    "/%E4%BD%A0?q=%C3%BC+%20&r=%26",
    "/a//b///c",
    "/x/./y/../z",
    "/a;b=c:d@e!$&'()*+,~[]|{}^`",
    "/$lp_id/${host}/$1",
    "/p/12ab/%252e%252e/%2e",
    "/caf\xe9",
    "/files/a%0Ab.csv",
    "/i/0123456789abcdef/",
    "/" + "x" * 8000,
]


@pytest.mark.parametrize("path", RAW)
async def test_the_path_arrives_byte_for_byte(here: Stage, path: str) -> None:
    assert (await here.instances(f"/i/{here.my_id}{path}")).status == 200
    here.allow(here.my_id, here.mine.address, prefix="keep")
    assert (await here.instances(f"/i/{here.my_id}{path}")).status == 200
    assert [received.target for received in here.mine.requests] == [path, f"/i/{here.my_id}{path}"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
async def test_every_method_arrives(here: Stage, method: str) -> None:
    assert (await here.instances(f"/i/{here.my_id}/x", method=method)).status == 200
    assert here.mine.requests[0].method == method


REDIRECTS = {
    "/p/12ab/x?y=%2F": "/i/{id}/p/12ab/x?y=%2F",
    "/": "/i/{id}/",
    "/i/{id}": "/i/{id}",
    "/i/{id}/": "/i/{id}/",
    "/i/{id}/lab?x": "/i/{id}/lab?x",
    "/i/{other}/": "/i/{id}/i/{other}/",
    "relative/x?y": "relative/x?y",
    "?x": "?x",
    "http://{authority}": "/i/{id}/",
    "http://{authority}/": "/i/{id}/",
    "http://{authority}/p/x": "/i/{id}/p/x",
    "https://{authority}/p/x": "/i/{id}/p/x",
    "http://{authority}/i/{id}": "/i/{id}",
    "http://{authority}/i/{id}/auth-sign-in?appUri=%2F": "/i/{id}/auth-sign-in?appUri=%2F",
    "https://{authority}/i/{id}/x": "/i/{id}/x",
    "http://{upstream}/x": "/i/{id}/x",
    "http://{authority}0/x": "http://{authority}0/x",
    "http://{authority}.example/x": "http://{authority}.example/x",
    "https://elsewhere.example/x": "https://elsewhere.example/x",
    "//elsewhere.example/x": "//elsewhere.example/x",
}


@pytest.mark.parametrize("prefix", ["strip", "keep"])
@pytest.mark.parametrize("sent", REDIRECTS)
async def test_a_redirect_stays_inside_the_instance(here: Stage, sent: str, prefix: str) -> None:
    def filled(text: str) -> str:
        names = {"id": here.my_id, "other": here.your_id, "upstream": here.mine.address}
        return text.format(authority=f"localhost:{here.instances_port}", **names)

    here.allow(here.my_id, here.mine.address, prefix=prefix)
    at = "/go" if prefix == "strip" else f"/i/{here.my_id}/go"
    here.mine.handlers[at] = answering(302, [("Location", filled(sent))])
    response = await here.instances(f"/i/{here.my_id}/go")
    assert (response.status, response.all("Location")) == (302, [filled(REDIRECTS[sent])])


COOKIES = {
    "a=1; Path=/": "a=1; Path=/i/{id}/",
    "a=1; path=/; HttpOnly; SameSite=Lax": "a=1; path=/i/{id}/; HttpOnly; SameSite=Lax",
    "a=1; Path=/lab/x": "a=1; Path=/i/{id}/lab/x",
    "a=1; Path=/i/{id}": "a=1; Path=/i/{id}",
    "a=1; Path=/i/{id}/; Secure": "a=1; Path=/i/{id}/; Secure",
    "a=1; Path=/i/{other}/": "a=1; Path=/i/{id}/i/{other}/",
    "a=1; Path=/x; Path=/": "a=1; Path=/i/{id}/x; Path=/i/{id}/",
    "a=1; Path=": "a=1; Path=/i/{id}/",
    "a=1": "a=1",  # browsers take the folder of the address, which lies inside
    "a=1; Domain=localhost; Path=/": "a=1; Domain=; Path=/i/{id}/",
    "a=1; domain=.lab.example.org; Max-Age=60": "a=1; domain=; Max-Age=60",
}


@pytest.mark.parametrize("sent", COOKIES)
async def test_a_cookie_stays_inside_the_instance(here: Stage, sent: str) -> None:
    names = {"id": here.my_id, "other": here.your_id}
    here.mine.handlers["/set"] = answering(200, [("Set-Cookie", sent.format(**names)), ("Set-Cookie", "b=2; Path=/")])
    response = await here.instances(f"/i/{here.my_id}/set")
    assert response.all("Set-Cookie") == [COOKIES[sent].format(**names), f"b=2; Path=/i/{here.my_id}/"]


async def test_g4_an_instance_does_not_speak_for_the_whole_origin(here: Stage) -> None:
    whole: Headers = [
        ("Service-Worker-Allowed", "/"),
        ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
        ("Clear-Site-Data", '"*"'),
        ("Alt-Svc", 'h2=":1234"'),
        ("NEL", "{}"),
        ("Report-To", "{}"),
    ]
    its_own: Headers = [("X-Frame-Options", "DENY"), ("Content-Security-Policy", "sandbox"), ("X-Own", "1")]
    here.mine.handlers["/h"] = answering(200, [*whole, *its_own])
    response = await here.instances(f"/i/{here.my_id}/h")
    assert [response.all(name) for name, _ in whole] == [[]] * len(whole)
    assert [response.all(name) for name, _ in its_own] == [[value] for _, value in its_own]


async def test_headers_are_added_only_where_the_instance_is_silent(here: Stage) -> None:
    here.mine.handlers["/silent"] = answering(404, [])
    own: Headers = [("Referrer-Policy", "no-referrer"), ("X-Content-Type-Options", "nosniff")]
    here.mine.handlers["/own"] = answering(200, own)
    silent, spoken = [await here.instances(f"/i/{here.my_id}/{path}") for path in ("silent", "own")]
    assert silent.all("Referrer-Policy") == ["strict-origin-when-cross-origin"]
    assert silent.all("X-Content-Type-Options") == ["nosniff"]
    assert spoken.all("Referrer-Policy") == ["no-referrer"]
    assert spoken.all("X-Content-Type-Options") == ["nosniff"]
    assert silent.get("Server") == "nginx"


@pytest.mark.parametrize("inside", ["/_gate", "@launchpad_portal_away", "/i/{other}/", "/enter"])
async def test_an_instance_cannot_steer_nginx(here: Stage, inside: str) -> None:
    """X-Accel-Redirect is nginx's own; from an instance it would reach the gate and what it says about its headers."""
    here.allow(here.your_id, here.yours.address)
    target = inside.format(other=here.your_id)
    here.mine.handlers["/x"] = answering(200, [("X-Accel-Redirect", target), ("X-Accel-Limit-Rate", "1")], b"mine")
    response = await here.instances(f"/i/{here.my_id}/x")
    assert (response.status, response.text) == (200, "mine")
    assert here.yours.requests == []
    assert len(here.portal.requests) == 1


async def test_only_websockets_are_upgrades(here: Stage) -> None:
    """An h2c upgrade would be a tunnel in which later requests are neither authorised nor cleaned."""
    reader, writer = await connect(here.instances_port)
    head = f"GET /i/{here.my_id}/ HTTP/1.1\r\nHost: localhost:{here.instances_port}\r\n"
    writer.write(
        f"{head}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n".encode()
    )
    assert (await read_head(reader)).status == 200
    writer.close()
    await writer.wait_closed()
    assert here.mine.requests[0].get("Upgrade") is None
    assert here.mine.requests[0].get("Connection") == "close"


async def test_responses_are_not_kept(here: Stage) -> None:
    here.mine.handlers["/x"] = answering(200, [("Cache-Control", "max-age=3600")], b"x")
    for _ in range(2):
        assert (await here.instances(f"/i/{here.my_id}/x")).text == "x"
    assert len(here.mine.requests) == 2


GZIP: Headers = [("Accept-Encoding", "gzip, br")]
TEXT = b"const answer = 42;\n" * 5000


@pytest.mark.parametrize(
    "kind", ["text/html", "text/css", "text/javascript", "application/javascript", "application/json"]
)
async def test_what_pages_are_made_of_is_compressed_where_the_browser_says_so(here: Stage, kind: str) -> None:
    here.mine.handlers["/x"] = answering(200, [("Content-Type", kind)], TEXT)
    packed = await here.instances(f"/i/{here.my_id}/x", headers=GZIP)
    assert (packed.get("Content-Encoding"), packed.get("Vary")) == ("gzip", "Accept-Encoding")
    assert gzip.decompress(packed.body) == TEXT
    assert len(packed.body) < len(TEXT) / 10
    plain = await here.instances(f"/i/{here.my_id}/x")
    assert (plain.get("Content-Encoding"), plain.body) == (None, TEXT)


@pytest.mark.parametrize(
    "kind", ["text/plain", "text/csv", "application/octet-stream", "image/png", "text/event-stream"]
)
async def test_data_passes_as_it_is(here: Stage, kind: str) -> None:
    here.mine.handlers["/x"] = answering(200, [("Content-Type", kind)], TEXT)
    response = await here.instances(f"/i/{here.my_id}/x", headers=GZIP)
    assert (response.get("Content-Encoding"), response.get("Content-Length")) == (None, str(len(TEXT)))


async def test_what_the_application_has_compressed_passes_as_it_is(here: Stage) -> None:
    packed: Headers = [("Content-Type", "application/javascript"), ("Content-Encoding", "br")]
    here.mine.handlers["/x"] = answering(200, packed, TEXT)
    response = await here.instances(f"/i/{here.my_id}/x", headers=GZIP)
    assert (response.all("Content-Encoding"), response.body) == (["br"], TEXT)
    assert here.mine.requests[0].all("Accept-Encoding") == ["gzip, br"]


async def test_what_is_compressed_on_its_way_comes_through_at_once_too(here: Stage) -> None:
    more = asyncio.Event()

    async def drip(exchange: Exchange) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
        exchange.writer.write(head + b'{"one":')
        await more.wait()
        exchange.writer.write(b" 1}")
        raise ConnectionResetError

    here.mine.handlers["/drip"] = drip
    reader, writer = await connect(here.instances_port)
    head = f"GET /i/{here.my_id}/drip HTTP/1.1\r\nHost: localhost:{here.instances_port}\r\nAccept-Encoding: gzip\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n".encode())
    unpacked, unpack = b"", zlib.decompressobj(zlib.MAX_WBITS | 16)
    async with asyncio.timeout(5):
        response = await read_head(reader)
        assert response.get("Content-Encoding") == "gzip"
        async for data in body_of(response, reader):
            unpacked += unpack.decompress(data)
            if unpacked == b'{"one":':
                more.set()
    assert unpacked == b'{"one": 1}'
    writer.close()
    await writer.wait_closed()


async def test_every_byte_comes_through_at_once(here: Stage) -> None:
    """Server-sent events and progress output: nothing waits in a buffer for more."""
    more = asyncio.Event()

    async def drip(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\none")
        await more.wait()
        exchange.writer.write(b"two")
        raise ConnectionResetError

    here.mine.handlers["/drip"] = drip
    reader, writer = await connect(here.instances_port)
    writer.write(f"GET /i/{here.my_id}/drip HTTP/1.0\r\nHost: localhost:{here.instances_port}\r\n\r\n".encode())
    assert (await read_head(reader)).status == 200
    async with asyncio.timeout(5):
        assert await reader.readexactly(3) == b"one"
        more.set()
        assert await reader.readexactly(3) == b"two"
    writer.close()
    await writer.wait_closed()


SIZE = 200 * MEGABYTE
MEMORY_BOUND = 24 * MEGABYTE


async def watch(here: Stage, transfer: asyncio.Task[int], bound: int) -> None:
    """While the transfer runs: no temporary file, and the workers stay small."""
    looks = 0
    while not transfer.done():
        assert here.nginx.temporary_files() == []
        assert here.nginx.resident_bytes() < bound
        looks += 1
        await asyncio.sleep(0.02)
    assert looks > 3


async def test_a_200_mb_upload_streams(here: Stage) -> None:
    arrived = 0
    halfway = asyncio.Event()

    async def swallow(exchange: Exchange) -> None:
        nonlocal arrived
        async for data in exchange.body():
            arrived += len(data)
            if arrived > SIZE // 4 and not halfway.is_set():
                halfway.set()
                await asyncio.sleep(0.3)  # nginx must hold the sender back, not take in what does not go out
        await exchange.respond(200, [], str(arrived).encode())

    async def upload() -> int:
        reader, writer = await connect(here.instances_port)
        head = f"POST /i/{here.my_id}/upload HTTP/1.1\r\nHost: localhost:{here.instances_port}\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {SIZE}\r\n\r\n".encode())
        for _ in range(SIZE // MEGABYTE):
            writer.write(bytes(MEGABYTE))
            await writer.drain()
        response = await read_head(reader)
        told = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert response.status == 200, here.nginx.errors.read_text()
        return int(told)

    here.mine.handlers["/upload"] = swallow
    bound = here.nginx.resident_bytes() + MEMORY_BOUND
    sending = asyncio.create_task(upload())
    await watch(here, sending, bound)
    assert await sending == SIZE
    assert halfway.is_set()


async def test_a_200_mb_download_streams(here: Stage) -> None:
    async def pour(exchange: Exchange) -> None:
        exchange.writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n".encode())
        for _ in range(SIZE // MEGABYTE):
            exchange.writer.write(bytes(MEGABYTE))
            await exchange.writer.drain()

    async def download() -> int:
        reader, writer = await connect(here.instances_port)
        writer.write(f"GET /i/{here.my_id}/big HTTP/1.0\r\nHost: localhost:{here.instances_port}\r\n\r\n".encode())
        await read_head(reader)
        await asyncio.sleep(0.3)  # a slow browser: the instance waits, nginx does not store
        got = 0
        while data := await reader.read(MEGABYTE):
            got += len(data)
        writer.close()
        await writer.wait_closed()
        return got

    here.mine.handlers["/big"] = pour
    bound = here.nginx.resident_bytes() + MEMORY_BOUND
    receiving = asyncio.create_task(download())
    await watch(here, receiving, bound)
    assert await receiving == SIZE


async def test_twenty_at_once_do_not_wait_for_each_other(here: Stage) -> None:
    together = asyncio.Barrier(20)

    async def hold(exchange: Exchange) -> None:
        await together.wait()  # passes only when all twenty are there
        await exchange.respond(200, [], exchange.request.target.encode())

    here.mine.otherwise = hold  # type: ignore[method-assign]
    try:
        targets = [f"/poll/{number}" for number in range(20)]
        responses = await asyncio.gather(*(here.instances(f"/i/{here.my_id}{target}") for target in targets))
    finally:
        del here.mine.otherwise
    assert [response.text for response in responses] == targets


async def test_a_long_poll_is_held_longer_than_the_gate_may_take(here: Stage) -> None:
    async def hold(exchange: Exchange) -> None:
        await asyncio.sleep(6)
        await exchange.respond(200, [], b"event")

    here.mine.handlers["/rpc/get_events"] = hold
    begun = time.monotonic()
    response = await here.instances(f"/i/{here.my_id}/rpc/get_events", method="POST", body=b"{}")
    assert (response.status, response.text) == (200, "event")
    assert time.monotonic() - begun >= 6


async def test_a_client_that_leaves_frees_the_instance(here: Stage) -> None:
    gone = asyncio.Event()

    async def hold(exchange: Exchange) -> None:
        await exchange.reader.read()
        gone.set()

    here.mine.handlers["/hold"] = hold
    _, writer = await connect(here.instances_port)
    writer.write(f"GET /i/{here.my_id}/hold HTTP/1.1\r\nHost: localhost:{here.instances_port}\r\n\r\n".encode())
    async with asyncio.timeout(5):
        while not here.mine.requests:
            await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()
        await gone.wait()


async def test_an_unknown_host_is_sent_to_the_configured_one(here: Stage) -> None:
    for port, url in ((here.instances_port, here.settings.instances_url), (here.portal_port, here.settings.public_url)):
        response = await ask(port, f"/i/{here.my_id}/?a=1", authority=f"evil.example:{port}", headers=PAGE)
        assert (response.status, response.get("Location")) == (307, f"{url}/i/{here.my_id}/?a=1")
    assert here.portal.requests == []
    assert here.mine.requests == []
