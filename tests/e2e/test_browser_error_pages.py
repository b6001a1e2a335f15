"""nginx's own pages in a browser: the look of the platform, words, a way back, and reloading that comes to an end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, expect

from web.nginx_stub import Answer, Exchange, Stage, stage

WIDTHS = (1280, 390)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.fixture
async def here() -> AsyncIterator[Stage]:
    async with stage() as here:
        yield here


async def application(exchange: Exchange) -> None:
    await exchange.respond(200, [("Content-Type", "text/html")], b"<h1>The application</h1>")


def asked(here: Stage) -> int:
    return here.nginx.access_log().count(f"/i/{here.my_id}/lab ")


async def lets_time_pass(page: Page, seconds: int) -> None:
    for _ in range(seconds):
        await page.clock.run_for(1000)
        await asyncio.sleep(0.03)  # the answers are real


@pytest.mark.parametrize("what", ["portal", "instance"])
async def test_what_is_away_is_asked_for_ever_more_seldom_and_comes_back_by_itself(
    here: Stage, browser: Browser, what: str
) -> None:
    away, address = (here.portal, here.socket) if what == "portal" else (here.mine, None)
    here.mine.handlers["/lab"] = application
    await away.close()
    if what == "instance":
        here.allow(here.my_id, "127.0.0.1:9")
    context = await browser.new_context()
    page = await context.new_page()
    try:
        await page.clock.install()
        await page.goto(f"{here.settings.instances_url}/i/{here.my_id}/lab")
        title = "The portal is not answering" if what == "portal" else "The instance is not answering"
        await expect(page.get_by_role("heading", level=1)).to_have_text(title)
        await expect(page.get_by_role("link", name="Dashboard")).to_have_attribute(
            "href", f"{here.settings.public_url}/dashboard"
        )
        await expect(page.locator("#retry")).to_have_text("Trying again in 2 seconds.")
        await lets_time_pass(page, 70)
        assert 3 <= asked(here) <= 8
        if address is not None:
            await here.portal.listen(address)
        else:
            await here.mine.listen()
            here.allow(here.my_id, here.mine.address)
        await lets_time_pass(page, 65)
        await expect(page.get_by_role("heading", level=1)).to_have_text("The application")
    finally:
        await context.close()
        if address is None and not here.mine.port:
            await here.mine.listen()


async def test_what_stays_away_is_not_asked_for_for_ever(here: Stage, browser: Browser) -> None:
    await here.portal.close()
    context = await browser.new_context()
    page = await context.new_page()
    try:
        await page.clock.install()
        await page.goto(f"{here.settings.instances_url}/i/{here.my_id}/lab")
        await lets_time_pass(page, 800)
        await expect(page.locator("#retry")).to_have_text("No longer trying. Reload the page to try again.")
        told = asked(here)
        assert told < 20
        await lets_time_pass(page, 200)
        assert asked(here) == told
    finally:
        await context.close()
        await here.portal.listen(here.socket)


async def test_they_look_like_the_platform_at_every_width_and_in_the_dark(here: Stage, browser: Browser) -> None:
    """With its name and mark, nothing wider than the window, and no style or script refused by their own policy."""
    reason = [
        ("X-Gate-Means", "404"),
        ("X-Gate-Title", "JupyterLab"),
        ("X-Gate-Reason", "Expired on Sat 28 Nov"),
    ]
    open_page = f"{here.settings.public_url}/instances/{here.my_id}/open?next=%2Flab"
    reason.append(("X-Gate-Location", open_page))
    answers = {
        "ended": Answer(403, reason),
        "gone": Answer(404),
        "refused": Answer(403),
        "too-long": Answer(401, [("X-Gate-Means", "too-long")]),
        "portal": Answer(500),
    }
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        complaints.append(message.text)

    for scheme in SCHEMES:
        for width in WIDTHS:
            context = await browser.new_context(viewport={"width": width, "height": 700}, color_scheme=scheme)
            page = await context.new_page()
            page.on("console", note)
            grounds = set()
            for name, answer in answers.items():
                here.portal.answers[here.my_id] = answer
                await page.goto(f"{here.settings.instances_url}/i/{here.my_id}/lab")
                await expect(page.get_by_role("banner")).to_have_text("Launchpad")
                await expect(page.get_by_role("link", name="Dashboard")).to_be_visible()
                assert await page.evaluate("document.documentElement.scrollWidth") <= width, name
                grounds.add(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
                if name == "ended":
                    await expect(page.get_by_text("Expired on Sat 28 Nov")).to_be_visible()
                    again = page.get_by_role("link", name="Launch again")
                    await expect(again).to_have_attribute("href", open_page)
            assert grounds == {"rgb(245, 244, 239)" if scheme == "light" else "rgb(16, 20, 19)"}
            assert [text for text in complaints if "Content Security Policy" in text] == []
            await context.close()
