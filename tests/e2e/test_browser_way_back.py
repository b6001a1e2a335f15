"""From inside JupyterLab and RStudio back to the dashboard: an entry where people look for one, and no overlay."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from playwright.async_api import Browser, expect

from support.browsing import launch_and_open, sign_in, stop
from support.live import LivePlatform, StartPlatform, docker

CARD = '.jp-LauncherCard[data-category="Other"][title^="Time left"]'


async def test_jupyterlab_has_a_card_and_a_command_that_open_the_dashboard(
    shared_platform: LivePlatform, browser: Browser
) -> None:
    """In a new tab; the work stays open in its own."""
    live = shared_platform
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = await context.new_page()
        await sign_in(live, page, "wanda@example.org")
        lab = await launch_and_open(context, page, "JupyterLab")
        card = lab.locator(CARD)
        await expect(card).to_contain_text("Launchpad dashboard")
        await expect(card.locator("svg")).to_be_visible()
        if folder := os.environ.get("SCREENSHOTS"):
            await lab.screenshot(path=Path(folder) / "launcher.png")
        async with context.expect_page() as opened:
            await card.click()
        dashboard = await opened.value
        await dashboard.wait_for_url(f"{live.public_url}/dashboard")
        await expect(dashboard.get_by_text("JupyterLab").first).to_be_visible()
        await dashboard.close()

        await lab.keyboard.press("Control+Shift+C")
        await lab.locator("#modal-command-palette input").fill("launchpad dashboard")
        async with context.expect_page() as opened:
            await lab.keyboard.press("Enter")
        await (await opened.value).wait_for_url(f"{live.public_url}/dashboard")
        await lab.close()
        await stop(page)
    finally:
        await context.close()


async def test_the_entry_can_be_taken_away(start_platform: StartPlatform, browser: Browser) -> None:
    """By an empty variable of the environment."""
    live = await start_platform({"environments": [{"name": "jupyterlab", "env_vars": {"JUPYTER_PATH": ""}}]})
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = await context.new_page()
        await sign_in(live, page, "wim@example.org")
        lab = await launch_and_open(context, page, "JupyterLab")
        await lab.locator('.jp-LauncherCard[data-category="Other"]').first.wait_for(timeout=30_000)
        await expect(lab.locator(CARD)).to_have_count(0)
    finally:
        await context.close()


async def test_rstudio_names_the_dashboard_in_the_console_of_a_new_session(shared_platform: LivePlatform) -> None:
    """By the hook that RStudio runs when a session begins; called as RStudio does, as the stand-in has none."""
    live = shared_platform
    async with live.person("wes@example.org") as wes:
        instance = await wes.launch_and_wait("rstudio")
        container = live.container_of(instance["id"])["Id"]

        async def says(begin: str, *variables: str) -> str:
            code = f"for (hook in getHook('rstudio.sessionInit')) hook({begin})"
            r = ("/usr/bin/Rscript", "-e", f"sink(stdout(), type = 'message'); {code}")
            return await asyncio.to_thread(docker, "exec", container, "env", "-i", "HOME=/tmp", *variables, *r)

        assert await says("TRUE") == f"Dashboard (time left, extend, stop): {live.public_url}/dashboard"
        assert await says("FALSE") == "", "a session that is taken up again has said so before"
        await wes.stop(instance["id"])
