"""What scripts add to the pages, in a real browser: dialogs, messages, the bar about the connection, live launches."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from launchpad.services.audit import CLI

from .pages_client import ADMIN, Person, Portal
from .served_portal import browser_of, serve_portal

ACTIVE = "document.activeElement"


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with serve_portal(tmp_path) as portal:
        yield portal


@pytest.fixture
async def ada(portal: Portal) -> Person:
    return await portal.signed_in("ada@example.org")


async def page_of(browser: Browser, person: Person, path: str = "/dashboard", **how: object) -> Page:
    context = await browser_of(browser, person, viewport={"width": 1280, "height": 900}, **how)
    page = await context.new_page()
    await page.goto(path)
    return page


# -- dialogs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opener", ["Stop", "Extend"])
async def test_a_dialog_holds_the_keyboard_and_gives_the_focus_back(
    portal: Portal, ada: Person, browser: Browser, opener: str
) -> None:
    await ada.running()
    page = await page_of(browser, ada)
    button = page.locator("article.instance").get_by_role("button", name=opener, exact=True)
    await button.focus()
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=re.compile(f"^{opener} JupyterLab"))
    await expect(dialog).to_be_visible()
    assert await page.evaluate("document.querySelector('dialog[open]').matches(':modal')")
    seen = set()
    for key in ["Tab"] * 8 + ["Shift+Tab"] * 8:
        await page.keyboard.press(key)
        assert await page.evaluate(f"document.querySelector('dialog[open]').contains({ACTIVE})"), "Tab left it"
        seen.add(await page.evaluate(f"{ACTIVE}.textContent.trim() || {ACTIVE}.type"))
    assert len(seen) >= 2, "Tab goes nowhere"
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(button).to_be_focused()
    await page.context.close()


async def test_dialogs_open_and_close_without_scripts(portal: Portal, ada: Person, browser: Browser) -> None:
    instance = await ada.running()
    page = await page_of(browser, ada, java_script_enabled=False)
    card = page.locator("article.instance")
    await card.get_by_role("button", name="Stop", exact=True).click()
    dialog = page.get_by_role("dialog", name="Stop JupyterLab?")
    await dialog.get_by_role("button", name="Keep running").click()
    await expect(dialog).to_be_hidden()
    await card.get_by_role("button", name="Stop", exact=True).click()
    await dialog.get_by_role("button", name="Stop", exact=True).click()
    await expect(page.get_by_text("JupyterLab is stopping")).to_be_visible()
    await portal.platform.runner.wait()
    assert not (await portal.platform.instances.get_any(instance.id)).is_live
    await page.context.close()


async def test_dialogs_work_in_a_browser_that_knows_no_commands(portal: Portal, ada: Person, browser: Browser) -> None:
    await ada.running()
    context = await browser_of(browser, ada)
    await context.add_init_script(
        """delete HTMLButtonElement.prototype.commandForElement;
        addEventListener("command", (event) => event.preventDefault(), true);"""
    )
    page = await context.new_page()
    await page.goto("/dashboard")
    await page.locator("article.instance").get_by_role("button", name="Stop", exact=True).click()
    dialog = page.get_by_role("dialog", name="Stop JupyterLab?")
    await dialog.get_by_role("button", name="Keep running").click()
    await expect(dialog).to_be_hidden()
    await context.close()


async def test_news_do_not_take_an_open_dialog_away(portal: Portal, ada: Person, browser: Browser) -> None:
    instance = await ada.running()
    page = await page_of(browser, ada)
    await page.locator("article.instance").get_by_role("button", name="Extend").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    user = await portal.platform.users.by_email(ada.address)
    extended = await portal.platform.instances.extend(instance.id, user, 2, CLI, portal.platform.now())
    async with page.expect_response(lambda response: response.url.endswith("/dashboard")):
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Escape")
    day = f"{extended.expires_at:%a} {extended.expires_at.day}"
    await expect(page.locator("article.instance .ends")).to_contain_text(day)
    await page.context.close()


# -- messages ----------------------------------------------------------------------------------------------------------


async def test_a_message_names_thing_and_result_moves_nothing_and_can_be_dismissed(
    portal: Portal, ada: Person, browser: Browser
) -> None:
    instance = await ada.running()
    page = await page_of(browser, ada, timezone_id="Asia/Singapore")
    card = page.locator("article.instance")
    before = await card.bounding_box()
    await card.get_by_role("button", name="Extend").click()
    await page.get_by_role("dialog").get_by_role("button", name="Extend").click()
    message = page.locator("#flash .flash")
    local = instance.expires_at + timedelta(days=1, hours=8)
    await expect(message).to_have_text(f"JupyterLab extended until {local:%a} {local.day} {local:%b}, {local:%H:%M}")
    assert await page.locator("#flash").get_attribute("aria-live") == "polite"
    assert await card.bounding_box() == before
    await message.get_by_role("button", name="Dismiss").click()
    await expect(message).to_have_count(0)
    assert await page.evaluate(f"{ACTIVE}.id") == "main", "the keyboard goes on from the content"
    await page.context.close()


async def test_a_message_leaves_by_itself_but_not_while_somebody_is_at_it(
    portal: Portal, ada: Person, browser: Browser
) -> None:
    """By the browser's own clock, moved by hand."""
    instance = await ada.running()
    context = await browser_of(browser, ada, viewport={"width": 1280, "height": 900})
    page = await context.new_page()
    await page.clock.install()
    await page.goto("/dashboard")
    await page.locator("article.instance").get_by_role("button", name="Stop", exact=True).click()
    await page.get_by_role("dialog").get_by_role("button", name="Stop", exact=True).click()
    message = page.locator("#flash .flash", has_text="JupyterLab is stopping")
    await expect(message).to_be_visible()
    await page.clock.run_for(5_000)
    await expect(message).to_be_visible()
    await message.get_by_role("button", name="Dismiss").focus()
    await page.clock.run_for(60_000)
    await expect(message).to_be_visible()
    await page.evaluate(f"{ACTIVE}.blur()")
    await message.hover()
    await page.clock.run_for(60_000)
    await expect(message).to_be_visible()
    await page.mouse.move(10, 10)
    await page.clock.run_for(20_000)
    await expect(message).to_have_count(0)
    assert instance.id
    await context.close()


async def test_a_message_survives_the_news_that_come_with_it_and_a_reload_says_it_no_more(
    portal: Portal, ada: Person, browser: Browser
) -> None:
    page = await page_of(browser, ada)
    portal.runtime.hold_starts()
    await page.get_by_role("button", name="Launch JupyterLab").click()
    starting = page.locator("#flash .flash", has_text="JupyterLab is starting")
    await expect(starting).to_be_visible()
    portal.runtime.release_starts()
    await expect(page.locator("#flash .flash", has_text="JupyterLab is running")).to_be_visible()
    await expect(starting).to_be_visible()
    await expect(page).to_have_title(re.compile("^JupyterLab running"))
    await page.reload()
    await expect(page.locator("article.instance")).to_be_visible()
    await expect(page.locator("#flash .flash")).to_have_count(0)
    await page.context.close()


async def test_without_scripts_a_message_stands_above_the_page(portal: Portal, ada: Person, browser: Browser) -> None:
    await ada.running()
    page = await page_of(browser, ada, java_script_enabled=False)
    await page.locator("article.instance").get_by_role("button", name="Extend").click()
    await page.get_by_role("dialog").get_by_role("button", name="Extend").click()
    message, card = page.locator("#flash .flash"), page.locator("article.instance")
    await expect(message).to_contain_text("JupyterLab extended until")
    above, below = await message.bounding_box(), await card.bounding_box()
    assert above is not None
    assert below is not None
    assert above["y"] + above["height"] <= below["y"]
    await page.context.close()


# -- the connection ----------------------------------------------------------------------------------------------------


async def test_a_bar_says_that_the_browser_is_offline_and_goes_away(
    portal: Portal, ada: Person, browser: Browser
) -> None:
    await ada.running()
    page = await page_of(browser, ada)
    bar, card = page.locator("#connection"), page.locator("article.instance")
    await expect(bar).to_be_empty()
    before = await card.bounding_box()
    await page.context.set_offline(True)
    await expect(bar).to_have_text(re.compile("You are offline"))
    assert await bar.get_attribute("role") == "status"
    assert await card.bounding_box() == before
    await page.context.set_offline(False)
    await expect(bar).to_be_empty()
    await page.context.close()


async def test_a_server_that_does_not_respond_is_said_until_it_does(
    portal: Portal, ada: Person, browser: Browser
) -> None:
    """Without a server behind the form, and with a proxy that has no portal behind it."""
    instance = await ada.running()
    page = await page_of(browser, ada)
    bar = page.locator("#connection")
    away = re.compile(r".*(/healthz|/extend|/dashboard|/events)")
    await page.route(away, lambda route: route.abort("connectionrefused"))
    await page.locator("article.instance").get_by_role("button", name="Extend").click()
    await page.get_by_role("dialog").get_by_role("button", name="Extend").click()
    await expect(bar).to_have_text(re.compile("The server is not responding"))
    await page.unroute(away)
    await expect(bar).to_be_empty()
    await expect(page.locator("#flash")).to_contain_text("Please repeat your last action")
    assert (await portal.platform.instances.get_any(instance.id)).expires_at == instance.expires_at

    await page.route(away, lambda route: route.fulfill(status=502, body="Bad Gateway"))
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(bar).to_have_text(re.compile("The server is not responding"))
    await page.unroute(away)
    await expect(bar).to_be_empty()
    await page.context.close()


# -- launching again, the account menu, suspending ---------------------------------------------------------------------


async def test_launch_again_launches_in_place(portal: Portal, ada: Person, browser: Browser) -> None:
    instance = await ada.running()
    await portal.platform.instances.stop_any(instance.id, CLI, portal.platform.now())
    await portal.platform.runner.wait()
    page = await page_of(browser, ada)
    await page.locator(f"#instance-{instance.id}").get_by_role("button", name="Launch again").click()
    await expect(page.locator("article.instance").get_by_text("Running", exact=True)).to_be_visible()
    await expect(page.get_by_role("button", name="Launch again")).to_have_count(0)
    await page.context.close()


async def test_the_account_menu_leads_to_account_theme_and_sign_out(
    portal: Portal, ada: Person, browser: Browser
) -> None:
    page = await page_of(browser, ada)
    menu = page.get_by_role("button", name="Account menu of ada@example.org")
    await menu.click()
    await expect(page.get_by_role("link", name="Account", exact=True)).to_be_visible()
    await page.get_by_label("Dark").check()
    assert await page.evaluate("document.documentElement.dataset.theme") == "dark"
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    await expect(menu).to_be_focused()
    await menu.click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_text("You are signed out")).to_be_visible()
    await page.context.close()


async def test_suspending_is_confirmed_after_what_ends_is_listed(portal: Portal, ada: Person, browser: Browser) -> None:
    instance = await ada.running()
    admin = await portal.signed_in(ADMIN)
    page = await page_of(browser, admin, f"/admin/users/{instance.owner_id}")
    await page.get_by_role("button", name="Suspend").click()
    dialog = page.get_by_role("dialog", name="Suspend ada@example.org?")
    await expect(dialog).to_contain_text("JupyterLab, running: running code will be stopped")
    await expect(dialog).to_contain_text("1 signed-in browser")
    await dialog.get_by_role("button", name="Cancel").click()
    assert (await portal.platform.users.get(instance.owner_id)).is_active
    await page.get_by_role("button", name="Suspend").click()
    await dialog.get_by_role("button", name="Suspend").click()
    await expect(page.locator("#flash")).to_contain_text("ada@example.org suspended")
    await expect(page.get_by_role("button", name="Reactivate")).to_be_visible()
    assert not (await portal.platform.users.get(instance.owner_id)).is_active
    await page.context.close()
