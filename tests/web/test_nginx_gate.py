"""nginx asks the gate about every request to the instances' origin, and does exactly what it says."""

from __future__ import annotations

import asyncio
import random
import time
from urllib.parse import quote

import pytest

from launchpad.ops.nginx.headers import CLEARED_TOWARDS_INSTANCES
from web.nginx_stub import PAGE, Answer, Exchange, Headers, Stage, connect, read_head


async def test_the_gate_is_told_what_it_decides_by_and_gets_no_body(here: Stage) -> None:
    target = f"/i/{here.my_id}/a%2Fb%20c?next=%2F..&x=1"
    sent: Headers = [
        ("Cookie", "lp_instance=secret; theirs=1"),
        ("Origin", "http://evil.example"),
        ("Sec-Fetch-Mode", "cors"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Dest", "empty"),
        ("Accept", "application/json"),
        ("Authorization", "Bearer lp_x"),
        ("X-Gate-Instance", here.your_id),
        ("X-Gate-Client", "10.0.0.1"),
        ("X-Forwarded-For", "10.0.0.1"),
    ]
    response = await here.instances(target, method="PUT", headers=sent, body=b"x" * 5000)
    assert response.status == 200
    [asked] = here.portal.asked()
    assert asked.method == "GET"
    assert {name.lower(): value for name, value in asked.headers} == {
        "host": here.settings.instances_url.removeprefix("http://"),
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": here.settings.instances_url.removeprefix("http://"),
        "x-forwarded-port": str(here.instances_port),
        "x-forwarded-proto": "http",
        "cookie": "lp_instance=secret; theirs=1",
        "origin": "http://evil.example",
        "accept": "application/json",
        "sec-fetch-mode": "cors",
        "sec-fetch-site": "same-origin",
        "sec-fetch-dest": "empty",
        "x-gate-instance": here.my_id,
        "x-gate-uri": target,
        "x-gate-method": "PUT",
        "x-gate-client": "127.0.0.1",
    }


async def test_the_gate_gets_no_body_of_a_chunked_upload_either(here: Stage) -> None:
    reader, writer = await connect(here.instances_port)
    head = f"POST /i/{here.my_id}/ HTTP/1.1\r\nHost: localhost:{here.instances_port}\r\nConnection: close\r\n"
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".encode())
    assert (await read_head(reader)).status == 200
    writer.close()
    await writer.wait_closed()
    [asked], [received] = here.portal.asked(), here.mine.requests
    assert asked.get("Transfer-Encoding") is None
    assert asked.get("Content-Length") is None
    assert received.body == b"hello"


async def test_g5_no_cookie_and_no_header_that_applications_trust_comes_from_the_client(here: Stage) -> None:
    here.allow(here.my_id, here.mine.address, cookie="theirs=1; other=2")
    forged = [(name, "forged") for name in CLEARED_TOWARDS_INSTANCES]
    forged += [
        (name.replace("-", "_"), "forged") for name in ("X-Forwarded-For", "X-Auth-User", "Remote-User", "Cookie")
    ]
    forged += [
        (name, "forged") for name in ("X-RStudio-Root-Path", "Authorization", "X-Forwarded-For", "X-Forwarded-Host")
    ]
    forged += [(name, "forged") for name in ("X-Forwarded-Proto", "X-Forwarded-Port", "Upgrade")]
    forged += [("Cookie", "__Host-lp_login=portal; lp_instance=gate; theirs=1"), ("X-Own", "kept")]
    assert (await here.instances(f"/i/{here.my_id}/x", headers=forged)).status == 200
    [received] = here.mine.requests
    authority = f"localhost:{here.instances_port}"
    assert sorted((name.lower(), value) for name, value in received.headers) == [
        ("connection", "close"),
        ("cookie", "theirs=1; other=2"),
        ("host", authority),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", authority),
        ("x-forwarded-port", str(here.instances_port)),
        ("x-forwarded-proto", "http"),
        ("x-own", "kept"),
    ]


async def test_g5_no_cookie_at_all_when_the_gate_leaves_none(here: Stage) -> None:
    await here.instances(f"/i/{here.my_id}/", headers=[("Cookie", "lp_instance=gate")])
    assert here.mine.requests[0].get("Cookie") is None


async def test_g5_the_headers_of_an_environment_are_the_gates(here: Stage) -> None:
    told = [f"X-RStudio-Root-Path: /i/{here.my_id}", "Authorization: token 0123"]
    here.allow(here.my_id, here.mine.address, headers=told)
    forged: Headers = [("X-RStudio-Root-Path", "/evil"), ("Authorization", "token evil")]
    await here.instances(f"/i/{here.my_id}/", headers=forged)
    [received] = here.mine.requests
    assert received.all("X-RStudio-Root-Path") == [f"/i/{here.my_id}"]
    assert received.all("Authorization") == ["token 0123"]


def evil_paths(mine: str, yours: str) -> list[str]:
    """Ways to name my instance to the gate and yours to the server."""
    up = ("..", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "..;", "%c0%ae%c0%ae", "%2e%2e%00")
    slash = ("/", "%2f", "%2F", "%5c", "\\", "//", "/./", "%252f", ";/", "/;/", "%00/")
    climbs = [f"/i/{mine}{s}{dots}{s}{yours}/" for dots in up for s in slash]
    climbs += [f"/i/{mine}/{dots}{s}{dots}{s}i/{yours}/" for dots in up for s in slash]
    others = [
        f"//i/{yours}/",
        f"/i//{yours}/",
        f"/i/{mine}//i/{yours}/",
        f"/./i/{yours}/",
        f"/x/../i/{yours}/",
        f"/%69/{yours}/",
        f"/i/%{ord(yours[0]):02x}{yours[1:]}/",
        f"/I/{yours}/",
        f"/i/{yours.upper()}/",
        f"/i/{yours};/",
        f"/i/{yours}%0a/",
        f"/i/{yours}%2f",
        f"/i/{yours}%3fx/",
        f"/i/{yours}x/",
        f"/i/{mine}{yours}/",
        f"/i/{mine}/../{yours}",
        f"/i/{mine}%2f..%2f{yours}",
        f"/i/{mine}?/../{yours}/",
        f"/i/{mine}#/../{yours}/",
        f"http://localhost/i/{mine}/../{yours}/",
        f"http://localhost//i/{yours}/",
        f"http:///i/{yours}/",
        f"/gate/../i/{yours}/",
        "/_gate",
        "/gate/authorize",
        "/%5fgate",
    ]
    return climbs + others


async def test_g6_no_form_of_my_address_reaches_your_instance(here: Stage) -> None:
    """The gate lets me into mine only."""
    here.portal.answers[here.your_id] = Answer(404)
    for target in evil_paths(here.my_id, here.your_id):
        response = await here.instances(target)
        assert response.status in (200, 301, 400, 404), target
        assert here.yours.requests == [], target
        for received in here.mine.requests:
            raw = target.removeprefix("http://localhost")
            assert raw == f"/i/{here.my_id}{received.target}", target
        here.mine.requests.clear()
    assert (await here.instances(f"/i/{here.my_id}/")).body == b"stub"


async def test_g6_even_with_both_allowed_a_request_reaches_only_what_its_sent_path_begins_with(here: Stage) -> None:
    """The gate says yes to everything; the address as it was sent must decide by itself."""
    here.allow(here.your_id, here.yours.address)
    for target in evil_paths(here.my_id, here.your_id) + evil_paths(here.your_id, here.my_id):
        here.mine.requests.clear()
        here.yours.requests.clear()
        await here.instances(target)
        raw = target.removeprefix("http://localhost")
        if here.yours.requests:
            assert raw.startswith(f"/i/{here.your_id}/"), target
        if here.mine.requests:
            assert raw.startswith(f"/i/{here.my_id}/"), target


async def test_g6_made_up_addresses_never_cross(here: Stage) -> None:
    here.portal.answers[here.your_id] = Answer(404)
    pieces = [
        here.my_id,
        here.your_id,
        "i",
        "..",
        ".",
        "/",
        "/",
        "/",
        "%2f",
        "%2e",
        "%2E%2e",
        "%252f",
        ";",
        "?",
        "#",
        "a",
        "%69",
        "\\",
    ]
    dice = random.Random(6)
    for _ in range(300):
        target = "/" + "".join(dice.choices(pieces, k=dice.randint(1, 9)))
        response = await here.instances(target)
        assert response.status in (200, 301, 302, 400, 404), target
        assert here.yours.requests == [], target
    for asked in here.portal.asked():
        assert (asked.get("X-Gate-Uri") or "").startswith(f"/i/{asked.get('X-Gate-Instance')}/")


async def test_an_address_without_its_last_slash_is_completed(here: Stage) -> None:
    response = await here.instances(f"/i/{here.my_id}?a=%2F")
    assert (response.status, response.get("Location")) == (301, f"/i/{here.my_id}/?a=%2F")
    assert here.portal.requests == []


PASS = ("X-Gate-Means", "pass")
NONSENSE = {
    "status 200": Answer(200),
    "status 302": Answer(302, [("Location", "/")]),
    "status 500": Answer(500),
    "status 503": Answer(503),
    "status 400": Answer(400),
    "no upstream": Answer(204, [("X-Gate-Prefix", "strip")]),
    "no “pass”": Answer(204, [("X-Gate-Upstream", "127.0.0.1:{port}"), ("X-Gate-Prefix", "strip")]),
    "no prefix": Answer(204, [PASS, ("X-Gate-Upstream", "127.0.0.1:{port}")]),
    "an odd prefix": Answer(204, [PASS, ("X-Gate-Upstream", "127.0.0.1:{port}"), ("X-Gate-Prefix", "both")]),
    "200 with an upstream": Answer(200, [PASS, ("X-Gate-Upstream", "127.0.0.1:{port}"), ("X-Gate-Prefix", "strip")]),
    "another host": Answer(204, [PASS, ("X-Gate-Upstream", "127.0.0.2:{port}"), ("X-Gate-Prefix", "strip")]),
    "a host name": Answer(204, [PASS, ("X-Gate-Upstream", "localhost:{port}"), ("X-Gate-Prefix", "strip")]),
    "a path": Answer(204, [PASS, ("X-Gate-Upstream", "127.0.0.1:{port}/x"), ("X-Gate-Prefix", "strip")]),
    "a socket": Answer(204, [PASS, ("X-Gate-Upstream", "unix:/run/x.sock:"), ("X-Gate-Prefix", "strip")]),
    "no port": Answer(204, [PASS, ("X-Gate-Upstream", "127.0.0.1"), ("X-Gate-Prefix", "strip")]),
    "no such port": Answer(204, [PASS, ("X-Gate-Upstream", "127.0.0.1:99999"), ("X-Gate-Prefix", "strip")]),
    "our own group": Answer(204, [PASS, ("X-Gate-Upstream", "launchpad_portal"), ("X-Gate-Prefix", "strip")]),
    "no HTTP": Answer(0, raw=b"hello\r\n\r\n"),
    "nothing": Answer(0, raw=b""),
    "half a head": Answer(0, raw=b"HTTP/1.1 204 No Content\r\nX-Gate-Up"),
    "a head without end": Answer(0, raw=b"HTTP/1.1 204 No Content\r\nX-Gate-Cookie: " + b"x" * 300_000),
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
async def test_g7_an_odd_answer_of_the_gate_opens_nothing(here: Stage, answer: Answer) -> None:
    headers = [(name, value.replace("{port}", str(here.mine.port))) for name, value in answer.headers]
    here.portal.answers[here.my_id] = Answer(answer.status, headers, raw=answer.raw)
    begun = time.monotonic()
    for sent in ([], PAGE):
        response = await here.instances(f"/i/{here.my_id}/", headers=sent)
        assert 500 <= response.status < 600
        assert b"stub" not in response.body
    assert here.mine.requests == []
    assert time.monotonic() - begun < 5


async def test_g7_a_slow_gate_is_given_up_within_five_seconds(here: Stage) -> None:
    told = here.portal.answers[here.my_id].headers
    here.portal.answers[here.my_id] = Answer(204, told, delay_seconds=8)
    begun = time.monotonic()
    bare, page = await asyncio.gather(
        here.instances(f"/i/{here.my_id}/"), here.instances(f"/i/{here.my_id}/", headers=PAGE)
    )
    assert time.monotonic() - begun < 5
    assert (bare.status, page.status) == (503, 503)
    assert "portal is not answering" in page.text
    assert here.mine.requests == []


async def test_g7_a_dead_portal_closes_every_instance_and_f15_its_return_opens_them(here: Stage) -> None:
    await here.portal.close()
    begun = time.monotonic()
    refused = await here.instances(f"/i/{here.my_id}/", headers=PAGE)
    here.socket.unlink()
    missing = await here.instances(f"/i/{here.my_id}/")
    assert time.monotonic() - begun < 5
    assert (refused.status, missing.status) == (503, 503)
    assert 'http-equiv="refresh"' in refused.text
    assert here.mine.requests == []
    await here.portal.listen(here.socket)
    assert (await here.instances(f"/i/{here.my_id}/")).status == 200


async def test_a_connection_to_the_gate_that_went_away_is_no_failure(here: Stage) -> None:
    """nginx keeps connections to the gate; a restart of the portal must not cost a request."""
    assert (await here.instances(f"/i/{here.my_id}/")).status == 200
    await here.portal.close()
    await here.portal.listen(here.socket)
    assert [(await here.instances(f"/i/{here.my_id}/")).status for _ in range(4)] == [200] * 4


async def test_a_kept_connection_that_ends_just_when_it_is_used_is_no_failure(here: Stage) -> None:
    """The other side of keeping connections: the portal may close one at the very moment nginx asks on it."""
    here.portal.hangs_up_on_reuse = True
    assert [(await here.instances(f"/i/{here.my_id}/")).status for _ in range(10)] == [200] * 10
    here.portal.answers[here.my_id] = Answer(404)
    assert [(await here.instances(f"/i/{here.my_id}/")).status for _ in range(10)] == [404] * 10


async def test_a_page_load_without_a_cookie_is_sent_to_sign_in(here: Stage) -> None:
    back = f"{here.settings.public_url}/instances/{here.my_id}/open?next={quote('/x y', safe='')}"
    here.portal.answers[here.my_id] = Answer(401, [("X-Gate-Location", back)])
    response = await here.instances(f"/i/{here.my_id}/x%20y", headers=PAGE)
    assert (response.status, response.get("Location")) == (303, back)
    assert response.get("Cache-Control") == "no-store"
    assert here.mine.requests == []


@pytest.mark.parametrize("address", ["http://evil.example/", "//evil.example/", "{portal}.evil.example/", "/x"])
async def test_nobody_is_sent_anywhere_but_to_the_portal(here: Stage, address: str) -> None:
    location = address.replace("{portal}", here.settings.public_url)
    here.portal.answers[here.my_id] = Answer(401, [("X-Gate-Location", location)])
    response = await here.instances(f"/i/{here.my_id}/", headers=PAGE)
    assert (response.status, response.get("Location")) == (401, None)


@pytest.mark.parametrize(
    ("answer", "status"),
    [(Answer(401), 401), (Answer(403), 403), (Answer(404), 404), (Answer(403, [("X-Gate-Means", "404")]), 404)],
)
async def test_a_call_that_is_no_page_load_gets_the_bare_status(here: Stage, answer: Answer, status: int) -> None:
    here.portal.answers[here.my_id] = answer
    for sent in ([("Accept", "*/*")], [("Accept", "text/html"), ("Sec-Fetch-Mode", "cors")]):
        response = await here.instances(f"/i/{here.my_id}/api", headers=sent)
        assert response.status == status
        assert "dashboard" not in response.text
    posted = await here.instances(f"/i/{here.my_id}/api", method="POST", headers=PAGE, body=b"x")
    assert posted.status == status
    assert here.mine.requests == []


@pytest.mark.parametrize("answer", [Answer(404), Answer(403, [("X-Gate-Means", "404")])])
async def test_a_page_of_an_instance_that_is_gone_leads_back_to_the_dashboard(here: Stage, answer: Answer) -> None:
    here.portal.answers[here.my_id] = answer
    response = await here.instances(f"/i/{here.my_id}/lab", headers=[("Accept", "text/html,*/*")])
    assert (response.status, response.get("Content-Type")) == (404, "text/html; charset=utf-8")
    assert f'href="{here.settings.public_url}/dashboard"' in response.text
    assert "default-src 'none'" in (response.get("Content-Security-Policy") or "")


async def test_a_means_404_only_in_a_refusal(here: Stage) -> None:
    here.allow(here.my_id, here.mine.address)
    here.portal.answers[here.my_id].headers.append(("X-Gate-Means", "404"))
    assert (await here.instances(f"/i/{here.my_id}/")).status == 200


async def test_g10_a_port_nobody_listens_on_gives_a_page_that_tries_again(here: Stage) -> None:
    await here.yours.close()
    here.allow(here.my_id, here.yours.address)
    page = await here.instances(f"/i/{here.my_id}/", headers=PAGE)
    assert (page.status, page.get("Retry-After")) == (502, "5")
    assert 'http-equiv="refresh"' in page.text
    assert f'href="{here.settings.public_url}/dashboard"' in page.text
    bare = await here.instances(f"/i/{here.my_id}/api")
    assert bare.status == 502
    assert "dashboard" not in bare.text
    await here.yours.listen()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 502, 503])
async def test_an_instances_own_refusals_pass_through(here: Stage, status: int) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(status, [("WWW-Authenticate", "Own")], b"in the application's words")

    here.mine.handlers["/x"] = refuse
    response = await here.instances(f"/i/{here.my_id}/x", headers=PAGE)
    assert (response.status, response.text) == (status, "in the application's words")


async def test_nothing_else_is_found_on_the_instances_origin(here: Stage) -> None:
    for target in (
        "/x",
        "/i/",
        "/i",
        "/i/short/",
        "/_gate",
        "/gate/authorize",
        "/gate/enter",
        "/api/v1/me",
        "/healthz",
    ):
        assert (await here.instances(target)).status == 404, target
    root = await here.instances("/")
    assert (root.status, root.get("Location")) == (302, f"{here.settings.public_url}/dashboard")
    assert here.portal.requests == []
