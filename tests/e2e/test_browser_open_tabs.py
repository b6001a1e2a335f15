"""Tabs left open after their instance has ended: what they say, and how often they ask, for a minute.

Three environments and four endings side by side: a minute is a minute for all of them.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Error, Page, expect

from support.echo_environment import echo_environment
from support.live import LivePlatform, Person
from support.smtp import MailServer

pytestmark = pytest.mark.timeout(900)  # twelve containers and tabs, on any machine

ENDINGS = ("stop", "expiry", "suspension", "sign-out")
ENVIRONMENTS = ("jupyterlab", "rstudio", "echo")
LEFT_OPEN_SECONDS = 60


@dataclass
class Tab:
    """One instance's page, left open."""

    ending: str
    environment: str
    instance_id: str
    page: Page
    requests: int = 0
    text: str = ""


@pytest.fixture(scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory, mail: MailServer) -> AsyncIterator[LivePlatform]:
    tables = {"environments": [echo_environment()], "limits": {"instances_per_user": 3}}
    live = LivePlatform(tmp_path_factory.mktemp("tabs"), mail, tables)
    await live.start()
    yield live
    await live.stop()


@pytest.fixture(scope="module")
async def tabs(live: LivePlatform, browser: Browser) -> AsyncIterator[list[Tab]]:
    """All of them after their minute."""
    contexts = {ending: await browser.new_context(viewport={"width": 1280, "height": 900}) for ending in ENDINGS}
    async with live.person("admin@example.org") as admin:
        people = {ending: Person(live, live.client(), f"{ending.replace('-', '')}@example.org") for ending in ENDINGS}
        try:
            for person in people.values():
                await person.sign_in()
            started = await asyncio.gather(*(launch(person) for person in people.values()))
            tabs = [
                tab
                for ending, instances in zip(ENDINGS, started, strict=True)
                for tab in await open_tabs(people[ending], contexts[ending], ending, instances)
            ]
            await asyncio.gather(*(end(live, people[ending], admin, tabs, ending) for ending in ENDINGS))
            log = Path(f"/run/launchpad-{live.deployment_id}/nginx/access.log")
            begin = log.stat().st_size
            await asyncio.sleep(LEFT_OPEN_SECONDS)  # what browsers do by themselves in that time is the question
            lines = log.read_bytes()[begin:].decode().splitlines()
            for tab in tabs:
                tab.requests = sum(f"/i/{tab.instance_id}/" in line for line in lines)
                tab.text = await tab.page.locator("body").inner_text()
            yield tabs
        finally:
            for person in people.values():
                await person.http.aclose()
            for context in contexts.values():
                await context.close()


async def launch(person: Person) -> list[str]:
    """All before any tab: every container changes the network, and a browser gives up what it is loading then."""
    started = [await person.launch(environment, memory="1g") for environment in ENVIRONMENTS]
    running = [await person.wait_for(one["id"], "running") for one in started]
    return [one["id"] for one in running]


async def open_tabs(person: Person, context: BrowserContext, ending: str, instances: list[str]) -> list[Tab]:
    """The person's three instances, each in a tab that works."""
    for one in person.http.cookies.jar:
        cookie = {"name": one.name, "value": str(one.value), "url": person.live.public_url}
        await context.add_cookies([cookie])  # type: ignore[list-item]
    tabs = [
        Tab(ending, environment, instance_id, await context.new_page())
        for environment, instance_id in zip(ENVIRONMENTS, instances, strict=True)
    ]
    await asyncio.gather(*(use(person, tab) for tab in tabs))
    return tabs


async def use(person: Person, tab: Tab) -> None:
    """Opens it until it works: on a machine where other containers come and go, some of it may not be loaded."""
    for _ in range(3):
        try:
            await tab.page.goto(f"{person.live.public_url}/instances/{tab.instance_id}/open")
            await works(tab)
        except (Error, AssertionError):
            continue
        return
    await works(tab)


async def works(tab: Tab) -> None:
    if tab.environment == "echo":
        await expect(tab.page.locator("#state")).to_have_text("connected")
    elif tab.environment == "rstudio":
        await expect(tab.page.locator("#ws-status")).to_have_text("connected", timeout=60_000)
    else:
        card = tab.page.locator('.jp-LauncherCard[data-category="Notebook"][title^="Python 3"]:visible').first
        await card.click(timeout=60_000)
        await tab.page.get_by_role("button", name=re.compile(r"^Python 3.* \| Idle")).wait_for(timeout=60_000)


async def end(live: LivePlatform, person: Person, admin: Person, tabs: list[Tab], ending: str) -> None:
    ids = [tab.instance_id for tab in tabs if tab.ending == ending]
    if ending == "stop":
        await asyncio.gather(*(person.stop(one) for one in ids))
    elif ending == "expiry":
        past = (datetime.now(UTC) - timedelta(minutes=1)).strftime("%Y-%m-%d %H:%M:%S.%f")
        with sqlite3.connect(live.state / "launchpad.db", timeout=10) as db:
            db.executemany("UPDATE instances SET expires_at = ? WHERE id = ?", [(past, one) for one in ids])
        await asyncio.to_thread(live.command, "sweep")
    elif ending == "suspension":
        change = await admin.http.patch(f"/api/v1/admin/users/{person.me['id']}", json={"status": "suspended"})
        assert change.status_code == 200, change.text
    else:
        assert (await person.http.post("/api/v1/sign-out")).status_code == 204


def one(tabs: list[Tab], ending: str, environment: str) -> Tab:
    return next(tab for tab in tabs if (tab.ending, tab.environment) == (ending, environment))


async def test_they_ask_less_than_once_a_second(tabs: list[Tab]) -> None:
    counts = {f"{tab.environment} after {tab.ending}": tab.requests for tab in tabs}
    assert max(counts.values()) < LEFT_OPEN_SECONDS, counts


@pytest.mark.parametrize("ending", ENDINGS)
async def test_jupyterlab_says_that_its_server_is_away(tabs: list[Tab], ending: str) -> None:
    """And nothing that is not so: no folder is missing, and no kernel has died of itself."""
    tab = one(tabs, ending, "jupyterlab")
    # The second where it was about to save a notebook by itself, which it does every half minute.
    assert "Server Connection Error" in tab.text or "This instance does not run any more" in tab.text
    assert not re.search("not found|died|invalid", tab.text, re.IGNORECASE)
    await tab.page.get_by_role("button", name="Close", exact=True).first.click()
    await leads_on(tab, "JupyterLab")


@pytest.mark.parametrize("ending", ENDINGS)
async def test_rstudio_shows_its_log_in_dialog_at_the_next_call(tabs: list[Tab], ending: str) -> None:
    """Where R was saved at a stop, the page sleeps until somebody types; else it learns it from the next events."""
    tab = one(tabs, ending, "rstudio")
    assert "Status code" not in tab.text
    dialog = tab.page.get_by_role("dialog")
    if not await dialog.is_visible():
        await tab.page.locator("#console-input").fill("1 + 1")
        await tab.page.locator("#console-input").press("Enter")
    await expect(dialog).to_contain_text("Log in")
    await dialog.get_by_role("button", name="Log in").click()
    await leads_on(tab, "RStudio", reload=False)


@pytest.mark.parametrize("ending", ENDINGS)
async def test_another_environment_gets_a_status_that_is_no_missing_page(tabs: list[Tab], ending: str) -> None:
    tab = one(tabs, ending, "echo")
    assert tab.text == "lost the connection: 424"
    await leads_on(tab, "Echo")


REASONS = {"stop": "Stopped by you", "expiry": "Expired on"}


async def leads_on(tab: Tab, title: str, *, reload: bool = True) -> None:
    """Loading the page tells why it ended, or asks to sign in where nobody is signed in any more."""
    if reload:
        tab.page.on("dialog", lambda dialog: dialog.accept())  # "there are unsaved changes"
        await tab.page.reload()
    if tab.ending in REASONS:
        await expect(tab.page.get_by_role("heading", level=1)).to_have_text(f"{title} is not running")
        await expect(tab.page.get_by_text(REASONS[tab.ending])).to_be_visible()
        await expect(tab.page.get_by_role("link", name="Launch again")).to_be_visible()
    else:
        await tab.page.wait_for_url("**/sign-in?next=**")
