"""The time zone that a browser tells once, and the last hour of an instance in the tab's title."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from launchpad.store import instances
from support.platforms import until

from .pages_client import Portal
from .served_portal import browser_of, serve_portal


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with serve_portal(tmp_path) as portal:
        yield portal


async def test_a_browser_tells_its_time_zone_once(portal: Portal, browser: Browser) -> None:
    """The first one; another one elsewhere changes nothing, and shows times in the zone that is set."""
    ada = await portal.signed_in("ada@example.org")
    instance = await ada.running()

    async def zone() -> str | None:
        return (await portal.platform.users.by_email(ada.address)).time_zone

    there = await browser_of(browser, ada, timezone_id="Asia/Tokyo")
    page = await there.new_page()
    await page.goto("/dashboard")
    assert await until(zone) == "Asia/Tokyo"
    await there.close()
    elsewhere = await browser_of(browser, ada, timezone_id="America/New_York")
    page = await elsewhere.new_page()
    await page.goto("/dashboard")
    shown = (instance.expires_at + timedelta(hours=9)).strftime("%H:%M")
    await expect(page.locator(".ends dd > time")).to_have_text(re.compile(f", {shown}$"))
    assert await zone() == "Asia/Tokyo"
    await elsewhere.close()


async def test_the_tab_counts_down_the_last_hour(portal: Portal, browser: Browser) -> None:
    """Also on a page that was loaded before it began, which then shows the warning, too."""
    ada = await portal.signed_in("ada@example.org")
    instance = await ada.running()
    context = await browser_of(browser, ada)
    page = await context.new_page()
    await page.clock.install()
    await page.goto("/dashboard")
    await expect(page).to_have_title(re.compile("^JupyterLab running · "))
    ends_at = portal.platform.now() + timedelta(minutes=42, seconds=30)
    async with portal.platform.database.transaction() as db:
        await instances.note(db, instance.id, expires_at=ends_at)
    await expect(page).to_have_title(re.compile(r"^JupyterLab ends: 4[12] min left · "))
    await expect(page.get_by_text("Ends soon:")).to_be_visible()
    await page.clock.fast_forward(10 * 60_000)
    await expect(page).to_have_title(re.compile(r"^JupyterLab ends: 3[12] min left · "))
    await context.close()
