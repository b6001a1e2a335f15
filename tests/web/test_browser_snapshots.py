"""Yesterday's file comes back, in a real browser, from a real btrfs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.async_api import Browser, Page, expect

from launchpad.domain.snapshots import Cause
from launchpad.settings import SnapshotSettings
from launchpad.storage.btrfs_snapshots import BtrfsSnapshots
from support.btrfs import btrfs_in_a_file, run
from support.snapshots import Clock

from .pages_client import Person, Portal
from .served_portal import browser_of, serve_portal
from .test_browser_every_page import SIZES, violations

pytestmark = [pytest.mark.root]  # files are their owners'


@dataclass
class Yesterday:
    portal: Portal
    ada: Person
    home: Path
    snapshot: str

    async def page(self, browser: Browser, path: str, size: str = "desktop", **how: Any) -> Page:
        context = await browser_of(browser, self.ada, viewport=SIZES[size], reduced_motion="reduce", **how)
        page = await context.new_page()
        await page.goto(path)
        return page


@pytest.fixture(scope="module")
async def yesterday() -> AsyncIterator[Yesterday]:
    """A file as it was yesterday, and today, when it is broken; and moments in between."""
    with btrfs_in_a_file(300) as place:
        root, clock = place / "homes", Clock()
        snapshots = BtrfsSnapshots(root, SnapshotSettings(), clock)
        async with serve_portal(place, snapshots=snapshots) as portal:
            ada = await portal.signed_in("ada@example.org")
            user = await portal.platform.users.by_email("ada@example.org")
            home = root / user.username
            run("btrfs", "subvolume", "create", home)
            home.chmod(0o700)
            for hours, content in ((30, b"the thesis, yesterday"), (29, b"one more line"), (2, b"nearly there")):
                clock.now = portal.platform.now()
                put(home, user.uid, "writing/thesis.tex", content)
                if hours == 30:
                    put(home, user.uid, "writing/figures/one.csv", b"a,b\n1,2\n")
                clock.forward(hours=-hours)
                assert await snapshots.take(user.username, user.uid, Cause.BEFORE if hours == 2 else Cause.TIME)
            put(home, user.uid, "writing/thesis.tex", b"")
            first = (await snapshots.taken(user.username))[0]
            yield Yesterday(portal, ada, home, first.name)


def put(home: Path, uid: int, path: str, content: bytes) -> None:
    file = home / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    for one in (file, *(one for one in file.parents if one.is_relative_to(home))):
        os.chown(one, uid, uid)


async def tab_to(page: Page, what: Any) -> None:
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await what.evaluate("(it) => it === document.activeElement"):
            return
    raise AssertionError("the keyboard does not come there")


@pytest.mark.parametrize("size", SIZES)
async def test_yesterdays_file_is_restored_by_keys_alone(yesterday: Yesterday, browser: Browser, size: str) -> None:
    put(yesterday.home, yesterday.home.stat().st_uid, "writing/thesis.tex", b"broken")
    page = await yesterday.page(browser, "/files?path=writing", size)
    choice = page.get_by_label("As it was")
    await tab_to(page, choice)
    await page.keyboard.press("End")  # the oldest
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Nothing can be changed here")).to_be_visible()
    await expect(page.locator(".files-then strong")).to_contain_text("day, ")
    box = page.get_by_label("Select thesis.tex")
    await tab_to(page, box)
    await page.keyboard.press("Space")
    restore = page.get_by_role("group", name="Selected files").get_by_role("button", name="Restore in place")
    await restore.focus()
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Restore in place?")
    await expect(dialog).to_be_visible()
    await page.keyboard.press("Shift+Tab")  # from Cancel
    await expect(dialog.get_by_role("button", name="Restore in place")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("What was there before is in the Trash")).to_be_visible()
    assert (yesterday.home / "writing/thesis.tex").read_bytes() == b"the thesis, yesterday"
    await expect(page.get_by_text("Nothing can be changed here")).to_be_visible()
    await page.get_by_role("link", name="Back to now").click()
    await expect(page.get_by_role("button", name="Upload", exact=True).first).to_be_visible()
    await page.context.close()


async def test_a_copy_is_restored_beside_and_shown_before(yesterday: Yesterday, browser: Browser) -> None:
    page = await yesterday.page(browser, f"/files?path=writing&snapshot={yesterday.snapshot}")
    await page.get_by_role("link", name="thesis.tex", exact=True).click()
    await expect(page.locator(".preview-text")).to_have_text("the thesis, yesterday")
    await page.get_by_role("button", name="Restore a copy").click()
    await expect(page.locator(".flash-text")).to_contain_text("restored")
    copies = list((yesterday.home / "writing").glob("thesis (*).tex"))
    assert [one.read_bytes() for one in copies] == [b"the thesis, yesterday"]
    await page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_axe_finds_nothing_in_the_past(yesterday: Yesterday, browser: Browser, size: str, scheme: Any) -> None:
    axe, at = AXE_FILE_PATH.read_text(encoding="utf-8"), f"snapshot={yesterday.snapshot}"
    found: list[str] = []
    for number, path in enumerate(
        (
            "/files?path=writing",
            f"/files?path=writing&{at}",
            f"/files?path=later&{at}",
            f"/files/item?path=writing/thesis.tex&{at}",
        )
    ):
        page = await yesterday.page(browser, path, size, color_scheme=scheme)
        await page.evaluate("document.fonts.ready")
        await page.evaluate(axe)
        found += [f"{path}: {line}" for line in await violations(page)]
        wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            found.append(f"{path}: {wide} pixels too wide")
        if folder := os.environ.get("LAUNCHPAD_TEST_SHOTS"):
            await page.screenshot(path=f"{folder}/{number}-{size}-{scheme}.png", full_page=True)
        if number == 1:
            await page.evaluate("document.getElementById('in-place').showModal()")
            found += [f"the dialog: {line}" for line in await violations(page, "#in-place")]
        await page.context.close()
    assert found == []
