"""The portal behind nginx: what it is told about a request, what the logs hold, and what shows when it is away."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from web.nginx_stub import (
    MEGABYTE,
    PAGE,
    Exchange,
    Headers,
    Stage,
    ask,
    connect,
    problem,
    read_head,
    until,
)


async def test_s8_fifty_made_up_addresses_are_one_client(here: Stage) -> None:
    for number in range(50):
        made_up = f"198.51.100.{number}"
        forged: Headers = [
            ("X-Forwarded-For", made_up),
            ("X-Forwarded-For", f"{made_up}, 127.0.0.1"),
            ("X-Real-IP", made_up),
            ("Forwarded", f"for={made_up}"),
            ("X_Forwarded_For", made_up),
        ]
        response = await here.page("/api/v1/sign-in", method="POST", headers=forged, body=b"{}")
        assert response.status == 200
    assert len(here.portal.requests) == 50
    for received in here.portal.requests:
        assert received.all("X-Forwarded-For") == ["127.0.0.1"]
        assert not any("198.51.100" in value for _, value in received.headers)


async def test_the_portal_gets_the_request_and_no_made_up_headers(here: Stage) -> None:
    forged: Headers = [
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Port", "1"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Original-URI", "/gate/authorize"),
        ("X-Gate-Instance", here.my_id),
        ("X-Gate-Uri", "/"),
        ("Proxy", "evil.example"),
        ("Upgrade", "websocket"),
    ]
    own: Headers = [("Cookie", "lp_login=1"), ("Authorization", "Bearer lp_x"), ("X-CSRF-Token", "t"), ("Origin", "x")]
    await here.page("/a%2Fb?c=%20d", method="PATCH", headers=[*forged, *own], body=b"{}")
    [received] = here.portal.requests
    authority = f"localhost:{here.portal_port}"
    assert (received.first_line, received.body) == ("PATCH /a%2Fb?c=%20d HTTP/1.1", b"{}")
    assert sorted((name.lower(), value) for name, value in received.headers) == [
        ("authorization", "Bearer lp_x"),
        ("content-length", "2"),
        ("cookie", "lp_login=1"),
        ("host", authority),
        ("origin", "x"),
        ("x-csrf-token", "t"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", authority),
        ("x-forwarded-port", str(here.portal_port)),
        ("x-forwarded-proto", "http"),
    ]


GATE_FROM_OUTSIDE = [
    "/gate",
    "/gate/",
    "/gate/authorize",
    "/gate/enter?ticket=x",
    "//gate/authorize",
    "/x/../gate/authorize",
    "/%67ate/authorize",
    "/gate%2fauthorize",
    "/./gate/authorize",
    "/GATE/authorize",
    "http://localhost/gate/authorize",
]


@pytest.mark.parametrize("target", GATE_FROM_OUTSIDE)
async def test_nobody_outside_reaches_the_gate(here: Stage, target: str) -> None:
    assert (await here.page(target)).status == 404
    assert (await here.page(target, method="POST", body=b"")).status == 404
    assert here.portal.requests == []


async def test_pages_that_only_begin_like_the_gate_are_the_portals(here: Stage) -> None:
    assert (await here.page("/gateway")).status == 200


async def test_the_portal_does_not_serve_instances(here: Stage) -> None:
    """Else an instance would share the admin console's origin."""
    assert (await here.page(f"/i/{here.my_id}/")).status == 200
    assert here.mine.requests == []
    assert [received.target for received in here.portal.requests] == [f"/i/{here.my_id}/"]


async def test_events_arrive_one_by_one(here: Stage) -> None:
    more = asyncio.Event()

    async def tell(exchange: Exchange) -> None:
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        exchange.writer.write(f"{head}data: 1\n\n".encode())
        await more.wait()
        exchange.writer.write(b"data: 2\n\n")
        raise ConnectionResetError

    target = f"/api/v1/instances/{here.my_id}/events"
    here.portal.handlers[target] = tell
    reader, writer = await connect(here.portal_port)
    head = f"GET {target} HTTP/1.0\r\nHost: localhost:{here.portal_port}\r\nAccept-Encoding: gzip\r\n\r\n"
    writer.write(head.encode())
    async with asyncio.timeout(5):
        assert (await read_head(reader)).status == 200
        assert await reader.readuntil(b"\n\n") == b"data: 1\n\n"
        more.set()
        assert await reader.readuntil(b"\n\n") == b"data: 2\n\n"
    writer.close()
    await writer.wait_closed()


async def test_bodies_are_limited_to_a_megabyte(here: Stage) -> None:
    assert (await here.page("/api/v1/x", method="POST", body=bytes(MEGABYTE))).status == 200
    page = await here.page("/sign-in", method="POST", body=bytes(MEGABYTE + 1))
    assert (page.status, page.get("Content-Type")) == (413, "text/html; charset=utf-8")
    call = await here.page("/api/v1/x", method="POST", body=bytes(MEGABYTE + 1))
    assert (call.status, problem(call)["status"]) == (413, 413)
    assert len(here.portal.requests) == 1


async def test_files_of_any_size_stream_both_ways(here: Stage) -> None:
    """Up to what the portal allows, which it says itself; everything else of the home is limited as the rest."""
    for target in ("/api/v1/home/files?path=x", "/api/v1/home/uploads/0123"):
        assert (await here.page(target, method="PUT", body=bytes(3 * MEGABYTE))).status == 200
    assert [len(each.body) for each in here.portal.requests] == [3 * MEGABYTE] * 2
    for target in ("/api/v1/home/moves", "/api/v1/home/uploads", "/api/v1/home/uploads/", "/api/v1/home/files/x"):
        assert (await here.page(target, method="POST", body=bytes(MEGABYTE + 1))).status == 413, target
    more = asyncio.Event()

    async def tell(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n123")
        await more.wait()
        exchange.writer.write(b"456")
        raise ConnectionResetError

    target = "/api/v1/home/archives"
    here.portal.handlers[target] = tell
    reader, writer = await connect(here.portal_port)
    writer.write(f"GET {target} HTTP/1.0\r\nHost: localhost:{here.portal_port}\r\n\r\n".encode())
    async with asyncio.timeout(60):
        assert (await read_head(reader)).status == 200
        assert await reader.readexactly(3) == b"123"
        more.set()
        assert await reader.readexactly(3) == b"456"
    writer.close()
    await writer.wait_closed()


SHARED = ("/api/v1/shares/0123456789abcdef/files", "/s/0123456789abcdef/s3cret/archives")


@pytest.mark.parametrize("target", [*SHARED, "/api/v1/anything"])
async def test_h4_nginx_holds_nothing_back_of_what_is_shared(here: Stage, target: str) -> None:
    """What somebody does not read stays with the portal, which breaks it off; of another answer nginx takes it all."""
    size, taken, blocked = 64 * MEGABYTE, 0, asyncio.Event()

    async def pour(exchange: Exchange) -> None:
        nonlocal taken
        exchange.writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode())
        try:
            while taken < size:
                exchange.writer.write(bytes(MEGABYTE))
                async with asyncio.timeout(3):
                    await exchange.writer.drain()
                taken += MEGABYTE
        except TimeoutError:
            pass
        blocked.set()
        raise ConnectionResetError

    here.portal.handlers[target] = pour
    reader, writer = await connect(here.portal_port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(f"GET {target} HTTP/1.0\r\nHost: localhost:{here.portal_port}\r\n\r\n".encode())
    async with asyncio.timeout(60):
        await blocked.wait()
    assert (taken == size) is (target not in SHARED), taken
    writer.transport.abort()
    assert reader is not None


async def test_secrets_of_links_stand_in_no_log(here: Stage) -> None:
    for number, target in enumerate(("/s/abc/s3cret-x", "/s/abc/s3cret-x/files?path=a", "/s/abc/s3cret-x/archives")):
        await here.page(f"{target}{'&' if '?' in target else '?'}n={number}")
    await here.page("/after-those-links")
    await until(lambda: "/after-those-links" in here.nginx.access_log())
    assert here.nginx.access_log().count('"GET /s/abc/- HTTP/1.1"') == 3
    assert "s3cret-x" not in here.nginx.access_log()


async def test_text_is_compressed_where_the_browser_says_so(here: Stage) -> None:
    text = b"body { color: black }\n" * 500

    async def style(exchange: Exchange) -> None:
        await exchange.respond(200, [("Content-Type", "text/css"), ("Cache-Control", "max-age=3600")], text)

    here.portal.handlers["/static/app.css"] = style
    packed = await here.page("/static/app.css", headers=[("Accept-Encoding", "gzip")])
    assert (packed.get("Content-Encoding"), packed.get("Vary")) == ("gzip", "Accept-Encoding")
    assert packed.get("Cache-Control") == "max-age=3600"
    assert gzip.decompress(packed.body) == text
    assert (await here.page("/static/app.css")).body == text


async def test_f15_while_the_portal_is_away_nginx_says_so_and_it_comes_back_by_itself(here: Stage) -> None:
    await here.portal.close()
    here.socket.unlink()
    page = await here.page("/dashboard", headers=PAGE)
    assert (page.status, page.get("Content-Type")) == (503, "text/html; charset=utf-8")
    assert 'http-equiv="refresh"' in page.text
    assert "color-scheme" in page.text
    assert "src=" not in page.text
    assert "<link" not in page.text
    assert (page.get("Cache-Control"), page.get("Retry-After")) == ("no-store", "5")
    call = await here.page("/api/v1/instances", method="POST", body=b"{}")
    assert call.status == 503
    told = problem(call)
    assert (told["status"], told["code"], told["title"]) == (503, "unavailable", "Not available right now")
    assert call.get("Retry-After") == "5"
    events = await here.page(f"/api/v1/instances/{here.my_id}/events")
    assert (events.status, problem(events)["status"]) == (503, 503)
    await here.portal.listen(here.socket)
    assert (await here.page("/dashboard")).status == 200


async def test_the_portals_own_errors_pass_through(here: Stage) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(503, [("Content-Type", "text/plain")], b"in the portal's words")

    here.portal.handlers["/api/v1/x"] = here.portal.handlers["/x"] = refuse
    for target in ("/x", "/api/v1/x"):
        response = await here.page(target)
        assert (response.status, response.text) == (503, "in the portal's words")


async def test_a_ticket_is_taken_on_the_instances_origin(here: Stage) -> None:
    cookie = f"lp_instance=1; Path=/i/{here.my_id}/; HttpOnly"
    location = f"{here.settings.instances_url}/i/{here.my_id}/lab"

    async def enter(exchange: Exchange) -> None:
        await exchange.respond(303, [("Location", location), ("Set-Cookie", cookie)])

    here.portal.handlers["/gate/enter"] = enter
    forged: Headers = [("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-Host", "evil.example"), *PAGE]
    response = await here.instances("/enter?ticket=T1cket&next=%2Flab%3Fa", headers=forged)
    assert (response.status, response.get("Location"), response.all("Set-Cookie")) == (303, location, [cookie])
    [received] = here.portal.requests
    assert received.target == "/gate/enter?ticket=T1cket&next=%2Flab%3Fa"
    assert received.all("X-Forwarded-For") == ["127.0.0.1"]
    assert received.all("Host") == received.all("X-Forwarded-Host") == [f"localhost:{here.instances_port}"]


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS"])
async def test_a_ticket_is_only_taken_by_get(here: Stage, method: str) -> None:
    """Programs that look ahead at links ask with HEAD; that must not use the ticket up."""
    assert (await here.instances("/enter?ticket=x", method=method)).status == 405
    assert here.portal.requests == []


async def test_no_log_holds_a_ticket_or_a_query(here: Stage) -> None:
    await here.instances("/enter?ticket=T1cket-taken")
    await here.instances("/enter?ticket=T1cket-by-head", method="HEAD")
    await here.instances(f"/i/{here.my_id}/lab?token=T1cket-query", headers=[("Referer", "http://x/?T1cket-referer")])
    await here.portal.close()
    await here.instances("/enter?ticket=T1cket-refused")
    here.socket.unlink()
    away = await here.instances("/enter?ticket=T1cket-missing")
    assert away.status == 503
    await here.portal.listen(here.socket)
    await here.page("/healthz-of-this-test")
    await until(lambda: "/healthz-of-this-test" in here.nginx.access_log())
    assert here.nginx.access_log().count("GET /enter HTTP/1.1") >= 3
    assert "T1cket" not in here.nginx.access_log()
    assert "T1cket" not in here.nginx.errors.read_text()


async def test_the_access_log_tells_time_client_status_host_and_path(here: Stage) -> None:
    await here.page("/seen-in-the-log?secret=1", headers=[("User-Agent", 'a"b\\c')])
    await until(lambda: "/seen-in-the-log" in here.nginx.access_log())
    [line] = [line for line in here.nginx.access_log().splitlines() if "/seen-in-the-log" in line]
    time_at, client, status, size, *_ = line.split(" ")
    assert time_at.startswith("20")
    assert (client, status, size) == ("127.0.0.1", "200", "4")
    assert ' localhost "GET /seen-in-the-log HTTP/1.1" ' in line
    assert line.endswith(r'"a\x22b\x5Cc"')


async def test_health_answers_also_under_the_bare_address(here: Stage) -> None:
    for target in ("/healthz", "/readyz"):
        response = await ask(here.portal_port, target, authority=f"127.0.0.1:{here.portal_port}")
        assert (response.status, response.text) == (200, "stub")
    other = await ask(here.portal_port, "/healthz/../dashboard", authority=f"127.0.0.1:{here.portal_port}")
    assert other.status == 307
    assert here.portal.requests[0].get("Host") == f"localhost:{here.portal_port}"
