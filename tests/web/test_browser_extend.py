"""The link of a warning, over real SMTP and in a real browser: what a mail scanner does changes nothing, a person's act
does.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage, Message
from html import unescape
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from launchpad.domain.instances import Instance, State
from launchpad.domain.limits import Quota
from launchpad.domain.users import UserStatus
from launchpad.mail.smtp import SmtpMailer
from launchpad.services.audit import CLI
from launchpad.services.extension_links import NUMBERS, number_in_words
from launchpad.services.users import UserChange
from launchpad.settings import MailSettings
from support.smtp import MailServer, text_of

from .pages_client import Letters, Person, Portal
from .pages_client import Page as ReadPage
from .served_portal import serve_portal

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
IN_DIGITS = {number_in_words(number): str(number) for number in NUMBERS}
HELD = "[data-hold-button]"


class PostedLetters(Letters):
    """Sent by SMTP; what was sent can be read here, too."""

    def __init__(self, mail: MailServer) -> None:
        super().__init__()
        settings = MailSettings(host="127.0.0.1", port=mail.port, security="none", from_address="lp@example.org")
        self._smtp = SmtpMailer(settings)

    async def send(self, message: EmailMessage) -> None:
        await self._smtp.send(message)
        await super().send(message)


class Shifted:
    """The machine's clock, moved on."""

    def __init__(self) -> None:
        self.by = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.by


class Stage:
    """One portal for all tests of this file; each has a person and an instance of its own, a day before its end."""

    def __init__(self, portal: Portal, mail: MailServer, clock: Shifted) -> None:
        self.portal, self.mail, self.clock = portal, mail, clock
        self.people = 0

    async def warned(self) -> Warned:
        self.people += 1
        person = await self.portal.signed_in(f"person{self.people}@example.org")
        page = await person.launch("jupyterlab", days="2")
        assert page.status == 200, page.words
        await self.portal.platform.runner.wait()
        instance = (await person.instances())[0]
        assert instance.state is State.RUNNING
        before = len(self.mail.mails_to(person.address))
        self.clock.by += DAY + timedelta(minutes=1)
        warned = Warned(self, person, instance, before)
        await warned.warn()
        return warned


class Warned:
    def __init__(self, stage: Stage, person: Person, instance: Instance, mails: int) -> None:
        self.stage, self.person, self.instance, self.mails = stage, person, instance, mails

    async def warn(self) -> Message:
        """The mail that comes of a look for ends."""
        await self.stage.portal.platform.warnings.warn(self.stage.clock())
        for _ in range(1200):
            mails = self.stage.mail.mails_to(self.person.address)
            if len(mails) > self.mails:
                self.mails = len(mails)
                return mails[-1]
            await asyncio.sleep(0.05)
        raise AssertionError("no warning came")

    @property
    def mail(self) -> Message:
        return self.stage.mail.mails_to(self.person.address)[-1]

    @property
    def link(self) -> str:
        found = re.search(r"\S+/extend/\S+", text_of(self.mail))
        assert found, text_of(self.mail)
        return found[0]

    async def expires_at(self) -> datetime:
        return (await self.stage.portal.platform.instances.get_any(self.instance.id)).expires_at

    async def is_as_it_was(self) -> bool:
        return await self.expires_at() == self.instance.expires_at

    async def extended_by(self, page: Page) -> timedelta:
        await expect(page.get_by_role("heading", name="JupyterLab keeps running")).to_be_visible()
        return await self.expires_at() - self.instance.expires_at


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory, mail: MailServer) -> AsyncIterator[Stage]:
    clock = Shifted()
    settings: dict[str, Any] = {
        "limits": {"memory": ["1g"], "cpus": [1], "default_memory": "1g", "default_cpus": 1, "days": [1, 2, 7]},
        "capacity": {"memory": "64g", "cpus": 64},
        "web": {"sweep_seconds": 0},
        "sign_in": {"login_hours": 24 * 365, "login_idle_hours": 24 * 365},
    }
    folder = tmp_path_factory.mktemp("extend")
    async with serve_portal(folder, settings, now=clock, letters=PostedLetters(mail)) as portal:
        yield Stage(portal, mail, clock)


@pytest.fixture
async def stranger(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A browser in which nobody is signed in."""
    context = await browser.new_context(viewport={"width": 390, "height": 844})
    yield context
    await context.close()


async def hold(page: Page, seconds: float = 1.6) -> None:
    button = page.locator(HELD)
    await expect(button).to_be_visible()
    box = await button.bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    await page.mouse.down()
    await asyncio.sleep(seconds)
    await page.mouse.up()


# -- scanners ----------------------------------------------------------------------------------------------------------


def addresses_in(mail: Message) -> set[str]:
    """Every address in any part of a mail."""
    found: set[str] = set()
    for part in mail.walk():
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes):
            found |= set(re.findall(r"https?://[^\s\"'<>]+", unescape(payload.decode())))
    return found


async def test_a_scanner_that_fetches_and_sends_everything_changes_nothing(stage: Stage) -> None:
    """Every address by every method, every form as it stands and with whatever filled in, by a quick and a slow one."""
    warned = await stage.warned()
    addresses = addresses_in(warned.mail)
    assert warned.link in addresses
    tried = 0
    async with httpx.AsyncClient(follow_redirects=True, base_url=stage.portal.url) as scanner:
        for wait in (0.0, 1.2):
            for address in sorted(addresses):
                for method in ("HEAD", "GET", "OPTIONS", "POST", "PUT", "DELETE"):
                    await scanner.request(method, address)
                page = ReadPage(await scanner.get(address, headers={"Accept": "text/html"}))
                await asyncio.sleep(wait)
                for form in page.forms:
                    names = sorted(form.fields)
                    for filled in ("", "1", "on", "yes", "test", "123", page.words):
                        fields = {name: form.fields[name] or filled for name in names}
                        for origin in ({}, {"Origin": stage.portal.url}, {"Origin": "null"}):
                            headers = {"Accept": "text/html", **origin}
                            await scanner.post(form.action or address, data=fields, headers=headers)
                            tried += form.action.startswith("/extend/")
                    everything = {name: value for name in names for value in (form.fields[name] or "1",)}
                    await scanner.post(form.action or address, data={**everything, "held": form.fields.get("mark", "")})
    assert tried > 20
    assert await warned.is_as_it_was()


CLICK_ALL = """async () => {
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  for (const element of document.querySelectorAll("button, summary, input, label")) {
    const rest = { bubbles: true, cancelable: true, button: 0, key: "Enter", pointerId: 1 };
    element.dispatchEvent(new PointerEvent("pointerdown", rest));
    element.dispatchEvent(new MouseEvent("mousedown", rest));
    element.dispatchEvent(new KeyboardEvent("keydown", rest));
  }
  await pause(1500);
  for (const element of document.querySelectorAll("button, summary, input, label")) {
    element.dispatchEvent(new PointerEvent("pointerup", { bubbles: true, pointerId: 1 }));
    if (element.type !== "submit") element.click();
  }
}"""


async def test_a_scanner_that_runs_scripts_and_clicks_on_everything_changes_nothing(
    stage: Stage, stranger: BrowserContext
) -> None:
    """Events made by scripts, held for long; every form sent by a script; trusted clicks, each over at once."""
    warned = await stage.warned()
    page = await stranger.new_page()
    await page.goto(warned.link)
    await expect(page.locator(HELD)).to_be_visible()
    await page.evaluate(CLICK_ALL)
    for send in ("requestSubmit", "submit"):
        await page.goto(warned.link)
        await asyncio.sleep(1.1)
        async with page.expect_navigation():
            await page.evaluate(f"document.querySelector('form[data-hold]').{send}()")
    await page.goto(warned.link)
    await page.locator(HELD).click()
    await page.locator(HELD).press("Enter")
    await page.locator("summary").click()
    await asyncio.sleep(1.2)
    await page.get_by_label("Type this number").fill("1234")
    await page.get_by_role("button", name="Extend", exact=True).click()
    await expect(page.get_by_text("type the number in digits")).to_be_visible()
    assert await warned.is_as_it_was()


# -- people ------------------------------------------------------------------------------------------------------------


async def test_holding_the_button_extends_once_and_signed_out(stage: Stage, stranger: BrowserContext) -> None:
    """After the owner has signed out. Let go too early, nothing happens; used once, it works no more."""
    warned = await stage.warned()
    dashboard = await warned.person.get("/dashboard")
    assert (await warned.person.send(dashboard.form("/sign-out"))).response.url.path == "/"
    page = await stranger.new_page()
    await page.goto(warned.link)
    await hold(page, 0.5)
    await asyncio.sleep(1)
    assert await warned.is_as_it_was(), "let go too early"
    await page.get_by_text("2 days").check()
    await hold(page)
    assert await warned.extended_by(page) == 2 * DAY
    record = (await stage.portal.platform.audit.page(limit=1, search="instance.extended"))[0]
    assert (record.actor, record.details["by"]) == (warned.person.address, "link in an e-mail")
    await page.goto(warned.link)
    await expect(page.get_by_text("This link was used already")).to_be_visible()
    await expect(page.locator(HELD)).to_have_count(0)
    assert await warned.expires_at() - warned.instance.expires_at == 2 * DAY


async def test_two_mails_about_one_end_extend_it_once(stage: Stage, stranger: BrowserContext) -> None:
    """A day before and an hour before; the second is used from a page that was open before the first was."""
    warned = await stage.warned()
    first = warned.link
    stage.clock.by += 23 * HOUR
    await warned.warn()
    assert warned.link == first, "it is about the same end"
    early, late = await stranger.new_page(), await stranger.new_page()
    for page in (early, late):
        await page.goto(first)
    await hold(late)
    assert await warned.extended_by(late) == DAY
    await early.bring_to_front()
    await hold(early)
    await expect(early.get_by_text("used already", exact=False).first).to_be_visible()
    assert await warned.expires_at() - warned.instance.expires_at == DAY


async def test_the_keyboard_can_hold_it(stage: Stage, stranger: BrowserContext) -> None:
    warned = await stage.warned()
    page = await stranger.new_page()
    await page.goto(warned.link)
    await page.locator(HELD).focus()
    await page.keyboard.down("Enter")
    await asyncio.sleep(0.4)
    await page.keyboard.down("Enter")  # as a key that is held repeats
    await asyncio.sleep(1.2)
    await page.keyboard.up("Enter")
    assert await warned.extended_by(page) == DAY


async def test_without_scripts_the_number_is_typed(stage: Stage, browser: Browser) -> None:
    """A wrong one is told and costs nothing; the choice stays."""
    warned = await stage.warned()
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(warned.link)
    await expect(page.locator(HELD)).to_be_hidden()
    await page.get_by_text("2 days").check()
    await page.locator("summary").click()
    await asyncio.sleep(1.2)
    await page.get_by_label("Type this number").fill("7")
    await page.get_by_role("button", name="Extend", exact=True).click()
    await expect(page.get_by_text("type the number in digits")).to_be_visible()
    assert await warned.is_as_it_was()
    await expect(page.get_by_label("2 days")).to_be_checked()
    shown = await page.locator("label[for=number] strong").inner_text()
    await asyncio.sleep(1.2)
    await page.get_by_label("Type this number").fill(IN_DIGITS[shown])
    await page.get_by_role("button", name="Extend", exact=True).click()
    assert await warned.extended_by(page) == 2 * DAY
    await context.close()


async def post(stage: Stage, link: str) -> httpx.Response:
    """As the page's script does after the button was held, whatever the page says by now."""
    platform = stage.portal.platform
    token = link.rpartition("/")[2]
    showing = platform.extensions.show(token, stage.clock() - timedelta(seconds=5))
    form = {"days": "1", "mark": showing.mark, "held": showing.proof}
    async with httpx.AsyncClient() as http:
        return await http.post(link, data=form, headers={"Accept": "application/json"})


async def _run_out(stage: Stage, warned: Warned) -> None:
    stage.clock.by += warned.instance.expires_at - stage.clock() + timedelta(seconds=1)


async def _stopped(stage: Stage, warned: Warned) -> None:
    await stage.portal.platform.instances.stop_any(warned.instance.id, CLI, stage.clock())
    await stage.portal.platform.runner.wait()


@pytest.mark.parametrize("end", [_run_out, _stopped])
async def test_not_after_the_end(stage: Stage, stranger: BrowserContext, end: Callable[[Stage, Warned], Any]) -> None:
    """Neither when its time is up, before anybody has ended it, nor when it was stopped."""
    warned = await stage.warned()
    page = await stranger.new_page()
    await page.goto(warned.link)
    await end(stage, warned)
    await hold(page)
    await expect(page.get_by_text("cannot be extended any more").first).to_be_visible()
    assert await warned.is_as_it_was()
    assert (await post(stage, warned.link)).status_code == 409
    again = await page.goto(warned.link)
    assert again is not None
    assert again.status == 410
    await expect(page.locator(HELD)).to_have_count(0)


async def test_what_policy_and_quota_no_longer_allow_is_refused(stage: Stage) -> None:
    """A duration that is not offered, a quota that was lowered, a suspended owner; each leaves it as it was."""
    warned = await stage.warned()
    platform, token = stage.portal.platform, warned.link.rpartition("/")[2]
    user = await platform.users.by_email(warned.person.address)
    showing = platform.extensions.show(token, stage.clock() - timedelta(seconds=5))
    async with httpx.AsyncClient() as http:
        form = {"days": "30", "mark": showing.mark, "held": showing.proof}
        answer = await http.post(warned.link, data=form, headers={"Accept": "application/json"})
    assert answer.status_code == 422
    await platform.users.change(user.id, UserChange(quota=Quota(memory_bytes=1)), CLI, stage.clock())
    refused = await post(stage, warned.link)
    assert (refused.status_code, refused.json()["code"]) == (409, "quota-exceeded")
    await platform.users.change(user.id, UserChange(quota=Quota()), CLI, stage.clock())
    await platform.users.change(user.id, UserChange(status=UserStatus.SUSPENDED), CLI, stage.clock())
    await platform.runner.wait()
    assert (await post(stage, warned.link)).status_code == 409
    assert await warned.is_as_it_was()
