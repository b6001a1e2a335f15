"""The gate: tickets, the instance's cookie, and the decision on every request that nginx asks about."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from time import monotonic
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from launchpad.domain.instances import Instance, State
from launchpad.domain.signin import Login
from launchpad.domain.users import User, UserStatus
from launchpad.errors import StoreUnavailable
from launchpad.platform import Platform
from launchpad.services.gate import COOKIES_TRIED_MAX
from launchpad.services.logins import Client
from launchpad.services.users import UserChange
from launchpad.settings import tables
from launchpad.web.app import create_app
from launchpad.wiring import build_platform
from support.platforms import ACTOR, World, launch, reaches, sign_in

PUBLIC_URL, INSTANCES_URL = "http://localhost:8080", "http://localhost:8081"
PAGE_LOAD = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}


class Door:
    """What nginx does with the portal, and one user with a running instance."""

    def __init__(self, world: World, platform: Platform) -> None:
        self.world = world
        self.platform = platform
        transport = httpx.ASGITransport(app=create_app(platform))
        self.http = httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL)

    async def comes(self, address: str) -> tuple[User, Login]:
        user, secret = await sign_in(self.platform, address)
        found = await self.platform.logins.authenticate(secret, self.world.clock())
        assert found is not None
        return user, found[1]

    async def runs(self, owner: User, environment: str = "jupyterlab") -> Instance:
        instance = await launch(self.platform, owner, environment)
        return await reaches(self.platform, instance.id, State.RUNNING)

    async def ticket(self, instance: Instance, login: Login, next_path: str | None = None) -> str:
        """The path and query on the instances origin."""
        address = await self.platform.gate.ticket(instance, login, next_path, self.world.clock())
        assert address.startswith(f"{INSTANCES_URL}/enter?")
        return "/gate" + address.removeprefix(INSTANCES_URL)

    async def cookie(self, instance: Instance, login: Login) -> str:
        answer = await self.http.get(await self.ticket(instance, login))
        assert answer.status_code == 303
        value = answer.cookies["lp_instance"]
        self.http.cookies.clear()
        return f"lp_instance={value}"

    async def asks(
        self, instance_id: str, cookie: str | None = None, *, uri: str = "", method: str = "GET", **headers: str
    ) -> httpx.Response:
        """What nginx asks; `headers` are the browser's, with _ for -."""
        given = {
            "X-Gate-Instance": instance_id,
            "X-Gate-Uri": uri or f"/i/{instance_id}/",
            "X-Gate-Method": method,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if cookie is not None:
            given["Cookie"] = cookie
        return await self.http.get("/gate/authorize", headers=given)


OpenDoor = tuple[Door, Instance, Login]


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    world = World(tmp_path)
    door = Door(world, await world.open())
    yield door
    await door.http.aclose()
    await world.close()


@pytest.fixture(scope="module")
async def open_door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenDoor]:
    """With an instance that runs and its owner's login; for tests that leave both as they are."""
    world = World(tmp_path_factory.mktemp("door"))
    door = Door(world, await world.open())
    user, login = await door.comes("alice@a.org")
    yield door, await door.runs(user), login
    await door.http.aclose()
    await world.close()


def refused_as_missing(answer: httpx.Response) -> bool:
    """nginx's way to hear 404: a 403 that says what it means."""
    return (answer.status_code, answer.headers.get("X-Gate-Means")) == (403, "404")


def refused(answer: httpx.Response, status: int) -> bool:
    """Refused so, and without a word about the upstream."""
    told = [name for name in answer.headers if name.startswith(("x-gate-upstream", "x-gate-header", "x-gate-cookie"))]
    return answer.status_code == status and not told


async def test_a_ticket_lets_a_browser_in_once_with_a_cookie_for_this_instance_only(door: Door) -> None:
    user, login = await door.comes("alice@a.org")
    instance = await door.runs(user)
    ticket = await door.ticket(instance, login)
    answer = await door.http.get(ticket)
    assert answer.status_code == 303
    assert answer.headers["Location"] == f"{INSTANCES_URL}/i/{instance.id}/lab"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    name_and_value, *flags = answer.headers["Set-Cookie"].split("; ")
    assert name_and_value.startswith("lp_instance=")
    assert sorted(flag.lower() for flag in flags) == ["httponly", f"path=/i/{instance.id}/", "samesite=lax"]
    again = await door.http.get(ticket)
    assert again.status_code == 404
    assert "Set-Cookie" not in again.headers
    stored = b"".join(path.read_bytes() for path in (door.world.folder / "state").glob("launchpad.db*"))
    assert name_and_value.partition("=")[2].encode() not in stored
    assert parse_qs(urlsplit(ticket).query)["ticket"][0].encode() not in stored


async def test_under_https_the_cookie_is_secure_and_says_so_in_its_name(tmp_path: Path) -> None:
    urls = {"public_url": "https://lab.example.org", "instances_url": "https://run.example.org"}
    world = World(tmp_path, urls)
    door = Door(world, await world.open())
    user, login = await door.comes("alice@a.org")
    instance = await door.runs(user)
    address = await door.platform.gate.ticket(instance, login, None, world.clock())
    answer = await door.http.get("/gate" + address.removeprefix("https://run.example.org"))
    name, *flags = answer.headers["Set-Cookie"].split("; ")
    assert name.startswith("__Secure-lp_instance=")
    assert "Secure" in flags
    await door.http.aclose()
    await world.close()


async def test_a_ticket_is_too_old_after_thirty_seconds(door: Door) -> None:
    user, login = await door.comes("alice@a.org")
    instance = await door.runs(user)
    first, second = await door.ticket(instance, login), await door.ticket(instance, login)
    door.world.clock.now += timedelta(seconds=29)
    assert (await door.http.get(first)).status_code == 303
    door.world.clock.now += timedelta(seconds=1)
    assert (await door.http.get(second)).status_code == 404


async def test_a_ticket_dies_with_the_login_it_was_made_for(door: Door) -> None:
    user, login = await door.comes("alice@a.org")
    ticket = await door.ticket(await door.runs(user), login)
    await door.platform.logins.sign_out(user, login, Client("x"), door.world.clock())
    assert (await door.http.get(ticket)).status_code == 404


@pytest.mark.parametrize("ticket", ["", "x", "y" * 43, "y" * 300])
async def test_a_guessed_ticket_opens_nothing(open_door: OpenDoor, ticket: str) -> None:
    door, _, _ = open_door
    answer = await door.http.get("/gate/enter", params={"ticket": ticket})
    assert answer.status_code in (404, 422)
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "//evil.org/",
        "/\\evil.org",
        "https://evil.org/",
        "evil",
        "",
        "/a\r\nX: y",
        "/../other/",
        "/a/../../other/",
        "/%2e%2e/other/",
        "/.%2E/other",
        "/a\\..\\..\\other",
        "/..",
    ],
)
async def test_a_next_path_that_leaves_the_instance_is_refused(open_door: OpenDoor, path: str) -> None:
    door, instance, login = open_door
    query = urlsplit(await door.ticket(instance, login, "/fine")).query
    ticket = parse_qs(query)["ticket"][0]
    answer = await door.http.get("/gate/enter", params={"ticket": ticket, "next": path})
    assert answer.status_code == 404
    assert "Set-Cookie" not in answer.headers
    assert (await door.http.get(f"/gate/enter?{query}")).status_code == 303, "it costs no ticket"


@pytest.mark.parametrize("path", ["/", "/lab/tree/a..b/n.ipynb", "/tree?next=/../x#../y", "/a%20b?c=%2F&d=1"])
async def test_a_next_path_inside_is_kept_to_the_letter(open_door: OpenDoor, path: str) -> None:
    door, instance, login = open_door
    answer = await door.http.get(await door.ticket(instance, login, path))
    assert answer.headers["Location"] == f"{INSTANCES_URL}/i/{instance.id}{path}"


# -- the decision ------------------------------------------------------------------------------------------------------


async def test_with_its_cookie_a_request_is_passed_on_with_the_environments_headers(door: Door) -> None:
    user, login = await door.comes("alice@a.org")
    lab, studio = await door.runs(user), await door.runs(user, "rstudio")
    answer = await door.asks(lab.id, await door.cookie(lab, login))
    assert answer.status_code == 204
    assert answer.headers["X-Gate-Upstream"] == str(lab.address)
    assert answer.headers["X-Gate-Prefix"] == "keep"
    token = answer.headers["X-Gate-Header-Authorization"].removeprefix("token ")
    assert len(token) == 64
    answer = await door.asks(studio.id, await door.cookie(studio, login))
    assert answer.headers["X-Gate-Upstream"] == str(studio.address)
    assert answer.headers["X-Gate-Prefix"] == "strip"
    assert answer.headers["X-Gate-Header-X-RStudio-Root-Path"] == f"/i/{studio.id}"
    assert "X-Gate-Header-Authorization" not in answer.headers


async def test_without_a_cookie_a_page_load_is_led_to_the_portal_and_back_and_others_are_refused(door: Door) -> None:
    user, _ = await door.comes("alice@a.org")
    instance = await door.runs(user)
    for instance_id in (instance.id, "0123456789abcdef"):  # one that never was gets the same answer
        uri = f"/i/{instance_id}/lab/tree/a%20b?x=1&y=2"
        answer = await door.asks(instance_id, uri=uri, **PAGE_LOAD)
        assert refused(answer, 401)
        back = urlsplit(answer.headers["X-Gate-Location"])
        assert f"{back.scheme}://{back.netloc}{back.path}" == f"{PUBLIC_URL}/instances/{instance_id}/open"
        assert parse_qs(back.query) == {"next": ["/lab/tree/a%20b?x=1&y=2"]}
        for method, headers in (
            ("GET", {"Sec-Fetch-Mode": "cors", "Accept": "text/html"}),
            ("GET", {"Accept": "application/json"}),
            ("GET", {"X-Gate-Upgrade": "websocket", "Accept": "text/html"}),
            ("POST", PAGE_LOAD),
        ):
            answer = await door.asks(instance_id, method=method, **headers)
            assert refused(answer, 401)
            assert "X-Gate-Location" not in answer.headers


async def test_an_address_that_is_not_below_the_instance_is_not_come_back_to(door: Door) -> None:
    """The id is captured from what nginx understood; the raw address may begin in another instance."""
    answer = await door.asks("0123456789abcdef", uri="/i/fedcba9876543210/../0123456789abcdef/", **PAGE_LOAD)
    assert answer.headers["X-Gate-Location"] == f"{PUBLIC_URL}/instances/0123456789abcdef/open"


@pytest.mark.parametrize("cookie", ["lp_instance=", "lp_instance=guess", "lp_login=x", "other=1"])
async def test_a_guessed_cookie_is_no_cookie(open_door: OpenDoor, cookie: str) -> None:
    door, instance, _ = open_door
    assert refused(await door.asks(instance.id, cookie), 401)


@pytest.mark.slow
async def test_a_cookie_opens_its_own_instance_and_nobody_elses(door: Door) -> None:
    alice, alices_login = await door.comes("alice@a.org")
    bob, bobs_login = await door.comes("bob@a.org")
    alices, bobs = await door.runs(alice), await door.runs(bob)
    for instance, cookie in (
        (alices, await door.cookie(bobs, bobs_login)),
        (bobs, await door.cookie(alices, alices_login)),
        (await door.runs(alice, "rstudio"), await door.cookie(alices, alices_login)),
    ):
        assert refused(await door.asks(instance.id, cookie), 401)


async def test_even_an_administrator_opens_only_their_own(door: Door) -> None:
    """Not even with a ticket that something has made for them."""
    alice, _ = await door.comes("alice@a.org")
    admin, login = await door.comes("admin@example.org")
    assert admin.is_admin
    instance = await door.runs(alice)
    cookie = await door.cookie(instance, login)
    answer = await door.asks(instance.id, cookie)
    assert refused_as_missing(answer)
    assert refused(answer, 403)
    own = await door.runs(admin)
    assert (await door.asks(own.id, await door.cookie(own, login))).status_code == 204


@pytest.mark.slow
async def test_sign_out_suspension_and_expiry_close_the_way_in_at_once(door: Door) -> None:
    async def inside(address: str) -> tuple[User, Login, Instance, str]:
        user, login = await door.comes(address)
        instance = await door.runs(user)
        cookie = await door.cookie(instance, login)
        assert (await door.asks(instance.id, cookie)).status_code == 204
        return user, login, instance, cookie

    user, login, instance, cookie = await inside("out@a.org")
    await door.platform.logins.sign_out(user, login, Client("x"), door.world.clock())
    assert refused(await door.asks(instance.id, cookie), 401)

    user, _, instance, cookie = await inside("suspended@a.org")
    await door.platform.users.change(user.id, UserChange(status=UserStatus.SUSPENDED), ACTOR, door.world.clock())
    assert refused(await door.asks(instance.id, cookie), 401)

    _, _, instance, cookie = await inside("idle@a.org")
    door.world.clock.now += timedelta(hours=11)
    assert (await door.asks(instance.id, cookie)).status_code == 204, "work in the instance counts as use"
    await door.platform.last_seen.settle()
    door.world.clock.now += timedelta(hours=11)
    assert (await door.asks(instance.id, cookie)).status_code == 204
    await door.platform.last_seen.settle()
    door.world.clock.now += timedelta(hours=2)
    assert refused(await door.asks(instance.id, cookie), 401), "a day is a day"


async def test_an_instance_that_does_not_run_is_not_there(door: Door) -> None:
    user, login = await door.comes("alice@a.org")
    instance = await door.runs(user)
    cookie = await door.cookie(instance, login)
    door.world.runtime.hold("before stop")
    await door.platform.instances.stop(instance.id, user, ACTOR, door.world.clock())
    assert refused_as_missing(await door.asks(instance.id, cookie))
    door.world.runtime.release()
    await reaches(door.platform, instance.id, State.STOPPED)
    assert refused_as_missing(await door.asks(instance.id, cookie))


async def test_its_owner_is_told_why_it_ended_and_nobody_else(door: Door) -> None:
    """As a header that nginx puts into its page: no markup, and nothing but ASCII."""
    user, login = await door.comes("alice@a.org")
    instance = await door.runs(user)
    cookie = await door.cookie(instance, login)
    await door.platform.instances.stop(instance.id, user, ACTOR, door.world.clock())
    await reaches(door.platform, instance.id, State.STOPPED)
    await door.world.change("UPDATE instances SET reason = ?", "<b>stopped</b> by “you”\r\nX: y")
    answer = await door.asks(instance.id, cookie, **PAGE_LOAD)
    assert refused_as_missing(answer)
    assert answer.headers["X-Gate-Title"] == "JupyterLab"
    assert answer.headers["X-Gate-Location"] == f"{PUBLIC_URL}/instances/{instance.id}/open?next=%2F"
    assert answer.headers["X-Gate-Reason"] == "&lt;b&gt;stopped&lt;/b&gt; by &#8220;you&#8221;  X: y"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "X-Gate-Reason" not in (await door.asks(instance.id, cookie)).headers
    assert "X-Gate-Reason" not in (await door.asks(instance.id, "lp_instance=x", **PAGE_LOAD)).headers


OPEN_PAGE = {"Sec-Fetch-Mode": "cors", "Accept": "*/*"}


@pytest.mark.parametrize(("environment", "status"), [("jupyterlab", "424"), ("rstudio", "401")])
async def test_an_open_page_is_told_what_its_application_understands(door: Door, environment: str, status: str) -> None:
    """After its end, and after sign-out, when only the cookie still says which application it is."""
    user, login = await door.comes("alice@a.org")
    first, second = await door.runs(user, environment), await door.runs(user, "rstudio")
    cookie = await door.cookie(first, login)
    await door.platform.instances.stop(first.id, user, ACTOR, door.world.clock())
    await reaches(door.platform, first.id, State.STOPPED)
    for headers in (OPEN_PAGE, {"Accept": "*/*", "Referer": f"{INSTANCES_URL}/i/{first.id}/lab"}):
        answer = await door.asks(first.id, cookie, **headers)
        assert refused(answer, 403)
        assert answer.headers["X-Gate-Means"] == status
        assert "Cache-Control" not in answer.headers, "nginx may answer it by itself for a second"
    assert refused_as_missing(await door.asks(first.id, cookie)), "a program is told what is so"

    await door.platform.logins.sign_out(user, login, Client("x"), door.world.clock())
    for instance_id in (first.id, second.id, "0123456789abcdef"):  # a guessed id gets the same answer as a real one
        answer = await door.asks(instance_id, cookie, **OPEN_PAGE)
        assert refused(answer, 401)
        assert answer.headers.get("X-Gate-Means", "401") == status
        assert refused(await door.asks(instance_id, cookie), 401)
    assert "X-Gate-Means" not in (await door.asks(first.id, "lp_instance=x.200", **OPEN_PAGE)).headers
    assert "X-Gate-Means" not in (await door.asks(first.id, "lp_instance=x", **OPEN_PAGE)).headers


# -- cookies that are in the way ---------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_stale_cookie_hides_no_good_one(door: Door) -> None:
    """A page of the instance can set cookies of the name at longer paths; browsers send those first."""
    user, login = await door.comes("alice@a.org")
    instance = await door.runs(user)
    good = await door.cookie(instance, login)
    stale = [f"lp_instance=stale{number}" for number in range(COOKIES_TRIED_MAX - 1)]
    for sent in ([*stale, good], [stale[0], good], [good, *stale], ["lp_instance=", good], [*stale[:1] * 40, good]):
        answer = await door.asks(instance.id, "; ".join(sent))
        assert answer.status_code == 204, sent
        assert "lp_instance" not in answer.headers["X-Gate-Cookie"]
    others = await door.runs(user, "rstudio")
    assert (await door.asks(instance.id, f"{await door.cookie(others, login)}; {good}")).status_code == 204
    await door.platform.logins.sign_out(user, login, Client("x"), door.world.clock())
    assert refused(await door.asks(instance.id, f"{stale[0]}; {good}"), 401)


async def test_more_cookies_than_are_tried_lead_to_an_explanation_not_round_in_circles(door: Door) -> None:
    user, login = await door.comes("alice@a.org")
    instance = await door.runs(user)
    good = await door.cookie(instance, login)
    many = "; ".join(f"lp_instance=stale{number}" for number in range(COOKIES_TRIED_MAX))
    answer = await door.asks(instance.id, f"{many}; {good}", uri=f"/i/{instance.id}/lab?x=1", **PAGE_LOAD)
    assert refused(answer, 401)
    assert answer.headers["X-Gate-Location"] == f"{PUBLIC_URL}/instances/{instance.id}/cookies?next=%2Flab%3Fx%3D1"
    assert refused(await door.asks(instance.id, f"{many}; {good}"), 401), "and the number that is looked up is bounded"


async def test_a_browser_that_comes_back_without_its_cookie_is_sent_round_twice_and_no_more(door: Door) -> None:
    user, login = await door.comes("alice@a.org")
    instance = await door.runs(user)
    explanation = f"{PUBLIC_URL}/instances/{instance.id}/cookies?next=%2Flab%2Fx"

    async def lap(path: str = "/lab/x") -> str:
        answer = await door.http.get(await door.ticket(instance, login, path))
        door.http.cookies.clear()
        return str(answer.headers["Location"])

    assert await lap() == await lap() == f"{INSTANCES_URL}/i/{instance.id}/lab/x"
    assert await lap("/lab/y") == f"{INSTANCES_URL}/i/{instance.id}/lab/y", "another tab is none of its laps"
    assert await lap() == explanation
    assert (await door.asks(instance.id, await door.cookie(instance, login))).status_code == 204
    assert await lap() == f"{INSTANCES_URL}/i/{instance.id}/lab/x", "a request that worked ends the count"
    await lap()
    door.world.clock.now += timedelta(seconds=31)
    assert await lap() == f"{INSTANCES_URL}/i/{instance.id}/lab/x", "and so does time"


@pytest.mark.parametrize("origin", [PUBLIC_URL, INSTANCES_URL])
async def test_the_cookies_in_the_way_are_dropped_wherever_they_are(open_door: OpenDoor, origin: str) -> None:
    door, instance, _ = open_door
    asked = {"instance": instance.id, "next": "/lab/tree/a.ipynb?x=1"}
    answer = await door.http.post("/gate/clear-cookies", params=asked, headers={"Origin": origin})
    assert answer.status_code == 303
    assert (
        answer.headers["Location"] == f"{PUBLIC_URL}/instances/{instance.id}/open?next=%2Flab%2Ftree%2Fa.ipynb%3Fx%3D1"
    )
    dropped = answer.headers.get_list("Set-Cookie")
    assert all(one.startswith('lp_instance="";') and "Max-Age=0" in one for one in dropped)
    root = f"/i/{instance.id}"
    for path in ("/", "/i", "/i/", root, f"{root}/", f"{root}/lab", f"{root}/lab/tree/", f"{root}/lab/tree/a.ipynb"):
        assert any(f"Path={path};" in one and "Domain" not in one for one in dropped), path
    assert sum(map(len, dropped)) < 16_000


@pytest.mark.parametrize("origin", ["https://evil.org", "null", ""])
async def test_no_other_site_drops_cookies(open_door: OpenDoor, origin: str) -> None:
    door, instance, _ = open_door
    headers = {"Origin": origin} if origin else {}
    answer = await door.http.post("/gate/clear-cookies", params={"instance": instance.id}, headers=headers)
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


# -- what else is looked at --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "headers", "allowed"),
    [
        ("GET", {"Origin": "https://evil.org"}, True),  # a link; what it answers, the browser keeps from that page
        ("GET", {"X-Gate-Upgrade": "websocket", "Origin": INSTANCES_URL}, True),
        ("GET", {"X-Gate-Upgrade": "websocket", "Origin": "https://evil.org"}, False),
        ("GET", {"X-Gate-Upgrade": "websocket", "Origin": PUBLIC_URL}, False),
        ("GET", {"X-Gate-Upgrade": "websocket", "Origin": "null"}, False),
        ("GET", {"X-Gate-Upgrade": "websocket", "Sec-Fetch-Site": "cross-site"}, False),
        ("POST", {"Origin": INSTANCES_URL}, True),
        ("POST", {"Origin": INSTANCES_URL.upper()}, True),
        ("POST", {"Origin": INSTANCES_URL + ".evil.org"}, False),
        ("POST", {"Origin": PUBLIC_URL}, False),
        ("DELETE", {"Sec-Fetch-Site": "same-site"}, False),
        ("PUT", {"Sec-Fetch-Site": "same-origin"}, True),
        ("POST", {}, True),  # no browser
    ],
)
async def test_changes_and_websockets_come_from_the_instances_origin_only(
    open_door: OpenDoor, method: str, headers: dict[str, str], allowed: bool
) -> None:
    door, instance, login = open_door
    answer = await door.asks(instance.id, await door.cookie(instance, login), method=method, **headers)
    if allowed:
        assert answer.status_code == 204
    else:
        assert refused(answer, 403)
        assert "X-Gate-Means" not in answer.headers


async def test_our_cookies_are_taken_out_and_the_others_passed_on_byte_for_byte(door: Door) -> None:
    user, login = await door.comes("alice@a.org")
    instance = await door.runs(user)
    own = await door.cookie(instance, login)
    theirs = b'_xsrf=2|ab=="; user-id="a b,c"; flag; =odd; caf\xe9=\xff; lp_loginx=1; LP_LOGIN=2'
    header = b"lp_login=secret; " + theirs + b"; " + own.encode() + b"; lp_challenge=x; lp_instance=second"
    answer = await door.http.get(
        "/gate/authorize", headers=[(b"X-Gate-Instance", instance.id.encode()), (b"Cookie", header)]
    )
    assert answer.status_code == 204
    assert dict(answer.headers.raw)[b"x-gate-cookie"] == theirs
    several = await door.http.get(
        "/gate/authorize",
        headers=[(b"X-Gate-Instance", instance.id.encode()), (b"Cookie", b"a=1"), (b"Cookie", own.encode())],
    )
    assert several.headers["X-Gate-Cookie"] == "a=1"


async def test_a_database_that_cannot_be_written_lets_instances_go_on(door: Door) -> None:
    """The look at a login is written down now and then; when that cannot be, nobody loses their work."""
    user, login = await door.comes("alice@a.org")
    instance = await door.runs(user)
    cookie = await door.cookie(instance, login)
    door.world.clock.now += timedelta(hours=1)
    read_only = f"sqlite+aiosqlite:///file:{door.world.database_file}?mode=ro&uri=true"
    world = door.world
    world.settings["database_url"] = read_only
    other = Door(world, build_platform(tables(world.settings), now=world.clock, runtime=world.runtime))
    with pytest.raises(StoreUnavailable):
        await other.platform.sign_in.ask("alice@a.org", Client("192.0.2.1"), world.clock())
    assert (await other.asks(instance.id, cookie)).status_code == 204
    await other.http.aclose()
    await other.platform.aclose()


async def test_g7_a_database_that_is_locked_for_writing_lets_nobody_wait(door: Door) -> None:
    """What was last seen is written when there is time; the decision is made at once."""
    user, login = await door.comes("alice@a.org")
    instance = await door.runs(user)
    cookie = await door.cookie(instance, login)
    door.world.clock.now += timedelta(minutes=5)
    writer = sqlite3.connect(door.world.database_file, isolation_level=None, check_same_thread=False)
    try:
        await asyncio.to_thread(writer.execute, "BEGIN IMMEDIATE")  # which may have to wait for the platform
        begun = monotonic()
        assert (await door.asks(instance.id, cookie)).status_code == 204
        assert monotonic() - begun < 2
    finally:
        writer.execute("ROLLBACK")
        writer.close()
    await door.platform.last_seen.settle()
    stamp = door.world.clock().strftime("%Y-%m-%d %H:%M:%S")
    [(seen,)] = door.world.rows("SELECT last_seen_at FROM logins WHERE id = ?", login.id)
    assert str(seen).startswith(stamp)
