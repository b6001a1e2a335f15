"""Cookies that a page of an instance sets under the name of the gate's keep nobody out for good."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, expect

from support.echo_environment import echo_environment
from support.live import LivePlatform, Person
from support.smtp import MailServer

SET = "([name, paths]) => paths.forEach((path, n) => { document.cookie = `${name}=stale${n}; path=${path}`; })"


@pytest.fixture(scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory, mail: MailServer) -> AsyncIterator[LivePlatform]:
    live = LivePlatform(tmp_path_factory.mktemp("cookies"), mail, {"environments": [echo_environment()]})
    await live.start()
    yield live
    await live.stop()


async def shown(page: Page) -> dict[str, str]:
    """What the application says that it was asked."""
    seen: dict[str, str] = json.loads(await page.locator("body").inner_text())
    return seen


async def use_login_of(person: Person, page: Page) -> None:
    for one in person.http.cookies.jar:
        cookie = {"name": one.name, "value": str(one.value), "url": person.live.public_url}
        await page.context.add_cookies([cookie])  # type: ignore[list-item]


async def test_stale_cookies_keep_nobody_out(live: LivePlatform, browser: Browser) -> None:
    """A few are looked past; of very many the user is told, and clears them with one click."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    async with live.person("olga@example.org") as olga:
        try:
            page = await context.new_page()
            await use_login_of(olga, page)
            instance = await olga.launch_and_wait("echo")
            root = f"/i/{instance['id']}"
            deep = "/" + "/".join(f"d{number}" for number in range(30))
            await page.goto(f"{live.public_url}/instances/{instance['id']}/open")
            await expect(page.locator("#state")).to_have_text("connected")

            await page.evaluate(SET, ["lp_instance", [f"{root}/d0"]])
            await page.goto(olga.instance_url(instance["id"], "/d0/x?y=1"))
            assert (await shown(page))["path"] == "/d0/x?y=1"
            assert "lp_instance" not in (await shown(page))["cookie"]

            steps = deep.split("/")[1:]
            paths = [root + "/" + "/".join(steps[:depth]) for depth in range(1, len(steps) + 1)]
            await page.goto(olga.instance_url(instance["id"], "/page"))
            await page.evaluate(SET, ["lp_instance", paths])
            await page.goto(olga.instance_url(instance["id"], f"{deep}/x?y=1"))
            await expect(page.get_by_role("heading", level=1)).to_have_text("Echo cannot be opened in this browser")
            assert urlsplit(page.url).path == f"/instances/{instance['id']}/cookies"
            await page.get_by_role("button", name="Clear cookies and open").click()
            await page.wait_for_url(f"**{deep}/x?y=1")
            assert (await shown(page))["path"] == f"{deep}/x?y=1"
            left = [one for one in await context.cookies() if one["name"] == "lp_instance"]
            assert [one["path"] for one in left] == [f"{root}/"]
            await page.goto(live.public_url + "/dashboard")
            await expect(page.get_by_role("heading", name="Echo").first).to_be_visible()
            await olga.stop(instance["id"])
        finally:
            await context.close()
