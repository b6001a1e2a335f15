"""G4, G5 and G8 to G11 on a whole platform, in each of the three ways to keep portal and instances apart.

G1 to G3 stand in `tests/web/test_routes.py` and `test_api.py`, G6 and G7 in `tests/web/test_nginx_*.py`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from time import monotonic

import httpx
import pytest
from playwright.async_api import Browser, Page, expect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from support.browsing import launch_and_open, sign_in
from support.live import BROWSER, MODES, LivePlatform, Person, StartPlatform
from support.smtp import MailServer

SECOND_CUT_WITHIN_SECONDS = 5  # of an end
CLOSES_WITHIN_SECONDS = 5.0


@pytest.fixture(scope="module", params=[mode for mode in MODES if not mode.endswith("https")])
async def live(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mail: MailServer
) -> AsyncIterator[LivePlatform]:
    live = LivePlatform(tmp_path_factory.mktemp("gate"), mail, mode=request.param)
    await live.start()
    yield live
    await live.stop()


def cookie_of(person: Person, instance_id: str) -> str:
    """The instance's cookie, as the browser would send it."""
    name = "lp_instance"
    path = f"{person.live.origin.root_path(instance_id)}/"
    host = httpx.URL(person.live.origin.of(instance_id)).host
    found = [one for one in person.http.cookies.jar if one.name == name and one.path == path and host in one.domain]
    assert len(found) == 1, list(person.http.cookies.jar)
    return f"{name}={found[0].value}"


def socket(person: Person, instance_id: str, *, cookie: str | None = "own", origin: str | None = None) -> connect:
    """The echo of an application in the instance, with a tab's cookies and origin unless others are given."""
    url = f"{person.applications[instance_id]}echo/"
    request = httpx.Request("GET", url)
    person.http.cookies.set_cookie_header(request)
    headers = {"Cookie": request.headers["Cookie"] if cookie == "own" else cookie} if cookie else {}
    return connect(
        url.replace("http", "ws", 1),
        additional_headers=headers,
        origin=Origin(origin or person.live.origin.of(instance_id)),
        proxy=None,
        open_timeout=120,
    )


async def echoes(open_socket: ClientConnection) -> bool:
    await open_socket.send("hello")
    return await asyncio.wait_for(open_socket.recv(), 60) == "hello"


async def closes(open_socket: ClientConnection) -> float:
    """Seconds until the other side has closed it."""
    begun = monotonic()
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(open_socket.recv(), CLOSES_WITHIN_SECONDS + 3)
    return monotonic() - begun


async def running(person: Person) -> str:
    """A running RStudio that the person's client has the cookies of, with an application of the person's own in it."""
    instance = await person.launch_and_wait("rstudio", memory="1g")
    rstudio = await person.enter_rstudio(instance["id"])
    person.applications[instance["id"]] = await rstudio.start_application()
    return str(instance["id"])


async def test_g8_a_websocket_needs_the_cookie_the_owner_and_the_instances_origin(live: LivePlatform) -> None:
    async with live.person("anna@example.org") as anna, live.person("ben@example.org") as ben:
        hers, his = await asyncio.gather(running(anna), running(ben))
        async with socket(anna, hers) as echo:
            assert await echoes(echo)
        refused: list[tuple[str, connect, int]] = [
            ("no cookie", socket(anna, hers, cookie=None), 401),
            ("a made-up cookie", socket(anna, hers, cookie="lp_instance=x"), 401),
            ("the cookie of another instance", socket(anna, hers, cookie=cookie_of(ben, his)), 401),
            ("the portal's origin", socket(anna, hers, origin=live.public_url), 403),
            ("a foreign origin", socket(anna, hers, origin="https://evil.example"), 403),
            ("the other's origin", socket(anna, hers, origin=live.origin.of(his)), 403),
        ]
        if not live.origin.is_wildcard:  # one origin serves all instances: what keeps them apart is the cookie
            del refused[-1]
        for what, handshake, status in refused:
            with pytest.raises(InvalidStatus) as answer:
                async with handshake:
                    pass
            assert answer.value.response.status_code == status, what
        with pytest.raises(InvalidStatus) as answer:
            async with socket(anna, hers, cookie=None, origin="null"):
                pass
        assert answer.value.response.status_code == 401
        await asyncio.gather(anna.stop(hers), ben.stop(his))


async def test_g8_another_users_instance_is_not_there_even_with_a_login_of_ones_own(live: LivePlatform) -> None:
    """Whose instance it is counts, not only who holds its cookie."""
    async with live.person("anna@example.org") as anna, live.person("ben@example.org") as ben:
        hers = await running(anna)
        await ben.http.get("/api/v1/me")
        # As a fault of ours would leave it: his login holds a cookie of her instance.
        value = cookie_of(anna, hers)
        with sqlite3.connect(live.state / "launchpad.db", timeout=10) as db:
            db.execute(
                "UPDATE grants SET login_id = (SELECT l.id FROM logins l JOIN users u ON u.id = l.user_id"
                " WHERE u.email = ? ORDER BY l.created_at DESC LIMIT 1) WHERE instance_id = ?",
                (ben.email, hers),
            )
        await asyncio.sleep(1.1)  # what nginx has kept
        with pytest.raises(InvalidStatus) as answer:
            async with socket(anna, hers, cookie=value):
                pass
        assert answer.value.response.status_code == 404
        async with httpx.AsyncClient(timeout=60) as http:
            page = await http.get(anna.instance_url(hers), headers={"Cookie": value, **BROWSER})
        assert page.status_code == 404
        await anna.stop(hers)


@pytest.mark.parametrize("end", ["sign-out", "stop", "suspension", "expiry"])
async def test_g9_the_end_of_a_way_in_closes_open_websockets(live: LivePlatform, end: str) -> None:
    """Within five seconds; a neighbour's stays open, and nothing gets in anew."""
    async with (
        live.person("carl@example.org") as carl,
        live.person("dora@example.org") as dora,
        live.person("admin@example.org") as admin,
    ):
        his, hers = await asyncio.gather(running(carl), running(dora))
        async with socket(carl, his) as echo, socket(dora, hers) as neighbour:
            assert await echoes(echo)
            again = socket(carl, his)
            if end == "sign-out":
                assert (await carl.http.post("/api/v1/sign-out")).status_code == 204
            elif end == "stop":
                assert (await carl.http.post(f"/api/v1/instances/{his}/stop")).status_code == 202
            elif end == "suspension":
                change = await admin.http.patch(f"/api/v1/admin/users/{carl.me['id']}", json={"status": "suspended"})
                assert change.status_code == 200, change.text
            else:
                past = (datetime.now(UTC) - timedelta(minutes=1)).strftime("%Y-%m-%d %H:%M:%S.%f")
                with sqlite3.connect(live.state / "launchpad.db", timeout=10) as db:
                    db.execute("UPDATE instances SET expires_at = ? WHERE id = ?", (past, his))
                await asyncio.to_thread(live.command, "sweep")
            assert await closes(echo) < CLOSES_WITHIN_SECONDS
            with pytest.raises(InvalidStatus) as answer:
                async with again:
                    pass
            assert answer.value.response.status_code in (401, 404)
            await asyncio.sleep(2.5)  # the second cut
            assert await echoes(neighbour)
        await dora.stop(hers)
        if end == "suspension":
            await admin.http.patch(f"/api/v1/admin/users/{carl.me['id']}", json={"status": "active"})
        elif end == "sign-out":
            await carl.sign_in()
            await carl.stop(his)


async def test_g9_another_browser_of_the_same_person_comes_back_by_itself(live: LivePlatform) -> None:
    """Signing out in one of two browsers cuts both; the other one's next attempt is let in."""
    async with live.person("emil@example.org") as here, live.person("emil@example.org") as there:
        instance_id = await running(here)
        # The newer tab takes RStudio's session; what runs in it goes on, and each tab has its own address for it.
        there.applications[instance_id] = await (await there.enter_rstudio(instance_id)).start_application(7412)
        async with socket(here, instance_id) as echo:
            assert await echoes(echo)
            await here.http.post("/api/v1/sign-out")
            assert await closes(echo) < CLOSES_WITHIN_SECONDS
        await asyncio.sleep(2.5)
        async with socket(there, instance_id) as echo:
            assert await echoes(echo)
        await there.stop(instance_id)


async def test_g5_neither_cookies_nor_trusted_headers_of_ours_reach_the_container(live: LivePlatform) -> None:
    """Asked of an application in the instance: it tells what it was sent."""
    async with live.person("fred@example.org") as fred:
        instance_id = await running(fred)
        forged = {
            **dict.fromkeys(("X-Forwarded-For", "X-RStudio-Root-Path", "X-Auth-User", "X-Original-URI"), "forged"),
            "Forwarded": "for=evil",
            "X-Own": "kept",
        }
        answer = await fred.http.get(f"{fred.applications[instance_id]}headers", headers=forged)
        assert answer.status_code == 200, answer.text
        seen = {name: value for name, _, value in (line.partition(": ") for line in answer.text.splitlines())}
        assert seen["x-own"] == "kept"
        assert seen["x-forwarded-for"] == "127.0.0.1"
        assert "forged" not in seen.values()
        assert not {"forwarded", "x-auth-user", "x-original-uri"} & seen.keys()
        assert "lp_" not in seen.get("cookie", "")
        assert seen.get("x-rstudio-root-path", "") == live.origin.root_path(instance_id)
        await fred.stop(instance_id)


async def test_g11_even_an_administrator_opens_only_their_own(live: LivePlatform) -> None:
    async with live.person("gina@example.org") as gina, live.person("admin@example.org") as admin:
        hers = await running(gina)
        assert any(one["id"] == hers for one in (await admin.http.get("/api/v1/admin/instances")).json())
        opened = await admin.http.get(f"/api/v1/instances/{hers}/open", follow_redirects=False)
        assert opened.status_code == 404
        page = await admin.http.get(f"/instances/{hers}/open", headers=BROWSER, follow_redirects=False)
        assert page.status_code == 404
        direct = await admin.http.get(admin.instance_url(hers), headers=BROWSER, follow_redirects=True)
        assert direct.status_code == 404
        await gina.stop(hers)


async def test_g10_a_port_that_somebody_else_has_now_answers_nobody_else(start_platform: StartPlatform) -> None:
    """One port for everybody: Anna's old address never shows what Ben runs there now."""
    live = await start_platform({"engine": {"port_range": "45999-45999"}})
    async with live.person("anna@example.org") as anna, live.person("ben@example.org") as ben:
        hers = await running(anna)
        old = cookie_of(anna, hers)
        port = live.container_of(hers)["NetworkSettings"]["Ports"]["8787/tcp"][0]["HostPort"]
        await anna.stop(hers)
        stopped = monotonic()
        his = await running(ben)
        assert live.container_of(his)["NetworkSettings"]["Ports"]["8787/tcp"][0]["HostPort"] == port
        async with socket(ben, his) as echo:
            await asyncio.sleep(max(0.0, stopped + SECOND_CUT_WITHIN_SECONDS - monotonic()))
            assert await echoes(echo), "what is cut for Anna is not Ben's"
        assert (await ben.http.get(ben.instance_url(his, "/auth-public-key"))).status_code == 200
        async with httpx.AsyncClient(timeout=60) as http:
            for headers in ({"Cookie": old}, {"Cookie": old, **BROWSER}, BROWSER):
                answer = await http.get(anna.instance_url(hers, "/auth-public-key"), headers=headers)
                assert answer.status_code in (303, 401, 404), answer.text
                other = await http.get(anna.instance_url(his, "/auth-public-key"), headers=headers)
                assert other.status_code in (303, 401), other.text
        await ben.stop(his)


async def test_g10_connections_kept_to_a_container_end_with_it(start_platform: StartPlatform) -> None:
    """JupyterLab leaves them open between requests; the container that has its port next gets its own only."""
    live = await start_platform({"engine": {"port_range": "45998-45998"}})
    async with live.person("anna@example.org") as anna, live.person("ben@example.org") as ben:
        ids = []
        for person in (anna, ben, anna):
            instance = await person.launch_and_wait("jupyterlab", memory="1g")
            ids.append(instance["id"])
            await person.open(ids[-1])
            urls = [person.instance_url(ids[-1], "/api/status")] * 8
            answers = await asyncio.gather(*map(person.http.get, urls))
            # Another's JupyterLab knows neither the path nor the token.
            assert [answer.status_code for answer in answers] == [200] * 8, answers[0].text
            assert all(answer.json()["connections"] == 0 for answer in answers)
            for old in ids[:-1]:
                old_urls = [anna.instance_url(old, "/api/status"), ben.instance_url(old, "/api/status")]
                for answer in await asyncio.gather(*map(person.http.get, old_urls)):
                    assert answer.status_code in (401, 404, 424), answer.text
            await person.stop(ids[-1])


FROM_THE_INSTANCE = """async ([portal, instance]) => {
  const tried = {};
  const attempt = async (name, what) => {
    try { tried[name] = await what(); } catch (error) { tried[name] = "refused"; }
  };
  const all = { credentials: "include" };
  await attempt("read", async () => (await fetch(`${portal}/api/v1/me`, all)).status);
  await attempt("read a page", async () => (await fetch(`${portal}/dashboard`, all)).status);
  await attempt("stop", async () =>
    (await fetch(`${portal}/api/v1/instances/${instance}/stop`, { ...all, method: "POST", mode: "no-cors" })).type);
  await attempt("sign out", async () =>
    (await fetch(`${portal}/sign-out`, { ...all, method: "POST", mode: "no-cors" })).type);
  await attempt("worker", async () => String(await navigator.serviceWorker.register(`${portal}/static/app.js`)));
  await attempt("script", async () => String(await import(`${portal}/static/app.js`)));
  await attempt("frame", () => new Promise((resolve) => {
    const frame = document.createElement("iframe");
    frame.src = `${portal}/dashboard`;
    frame.onload = () => {
      try { resolve(frame.contentDocument ? "readable" : "not readable"); } catch { resolve("not readable"); }
    };
    document.body.append(frame);
    setTimeout(() => resolve("nothing"), 4000);
  }));
  tried.cookies = document.cookie;
  return tried;
}"""


async def test_g4_a_page_of_an_instance_reaches_nothing_of_the_portal(live: LivePlatform, browser: Browser) -> None:
    """Scripts there are the user's own code: they can neither read, change, frame nor take over the portal."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = await context.new_page()
        await sign_in(live, page, "hans@example.org")
        r = await launch_and_open(context, page, "RStudio")
        await expect(r.locator("#console-input")).to_be_visible()
        instances = await page.evaluate("fetch('/api/v1/instances').then((answer) => answer.json())")
        assert instances[0]["state"] == "running", "the portal's own page may ask"
        tried = await r.evaluate(FROM_THE_INSTANCE, [live.public_url, instances[0]["id"]])
        assert tried["read"] == "refused"
        assert tried["read a page"] == "refused"
        assert tried["worker"] == "refused"
        assert tried["script"] == "refused"
        assert tried["frame"] != "readable"
        assert "lp_login" not in tried["cookies"]
        assert "lp_instance" not in tried["cookies"]
        assert await framed_text(r, live.public_url) == "", "the portal is shown in no frame"
        await asyncio.sleep(0.5)
        after = await page.evaluate("fetch('/api/v1/instances').then((answer) => answer.json())")
        assert [one["state"] for one in after] == ["running"], "neither stopped nor signed out"

        # A form that sends itself, with a made-up token: the change is refused, and the page says so to nobody else.
        await r.evaluate(
            """([portal]) => {
              const form = document.createElement("form");
              Object.assign(form, { method: "post", action: `${portal}/sign-out`, target: "_blank" });
              const field = Object.assign(document.createElement("input"), { name: "csrf_token", value: "0" });
              form.append(field); document.body.append(form); form.submit();
            }""",
            [live.public_url],
        )
        await asyncio.sleep(1)
        assert await page.evaluate("fetch('/api/v1/me').then((answer) => answer.status)") == 200
    finally:
        await context.close()


async def framed_text(page: Page, url: str) -> str:
    """What stands in frames of that page which show something of `url`."""
    texts = [await frame.locator("body").inner_text() for frame in page.frames[1:] if frame.url.startswith(url)]
    return "".join(text for text in texts if "Dashboard" in text or "Launch" in text)
