"""Signing in and forms of an earlier sign-in in Chromium, against the portal itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from web.pages_client import ADMIN, Portal
from web.served_portal import serve_portal

DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with serve_portal(tmp_path) as portal:
        yield portal


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context()
    yield context
    await context.close()


async def code_page(portal: Portal, page: Page, email: str) -> str:
    """Asks for a code; the code."""
    await page.goto(f"{portal.url}/sign-in")
    await page.get_by_label("E-mail address").fill(email)
    await page.get_by_role("button", name="Send me a code").click()
    await page.wait_for_url("**/sign-in/code")
    await portal.platform.mail.drain()
    return portal.letters.newest_code(email)


async def sign_in(portal: Portal, page: Page, email: str) -> None:
    code = await code_page(portal, page, email)
    await page.get_by_label("Code", exact=True).fill(code)
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await page.wait_for_url("**/dashboard")


async def sign_in_again(portal: Portal, context: BrowserContext, email: str) -> None:
    """In another tab, where the login had ended."""
    await context.clear_cookies(name="lp_login")
    other = await context.new_page()
    await sign_in(portal, other, email)
    await other.close()


async def test_going_back_after_a_wrong_code_sends_nothing_again(portal: Portal, context: BrowserContext) -> None:
    page = await context.new_page()
    code = await code_page(portal, page, "ada@example.org")
    posts: list[str] = []
    page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    await page.get_by_label("Code", exact=True).fill("000000" if code != "000000" else "111111")
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await expect(page.get_by_text("That code is not right")).to_be_visible()
    assert len([url for url in posts if url.endswith("/sign-in/code")]) == 1
    await page.reload()
    await expect(page.get_by_text("That code is not right")).to_have_count(0)
    await page.go_back()
    await expect(page.get_by_label("E-mail address").or_(page.get_by_label("Code", exact=True))).to_be_visible()
    await page.go_forward()
    await expect(page.get_by_label("Code", exact=True)).to_be_visible()
    assert len([url for url in posts if url.endswith("/sign-in/code")]) == 1
    # Full-width digits, as an input method types them.
    await page.get_by_label("Code", exact=True).fill("".join(chr(ord(digit) + 0xFEE0) for digit in code))
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await page.wait_for_url("**/dashboard")


async def test_a_form_of_an_earlier_sign_in_is_renewed_and_sent_without_a_word(
    portal: Portal, context: BrowserContext
) -> None:
    page = await context.new_page()
    await sign_in(portal, page, "ada@example.org")
    await page.goto(f"{portal.url}/account")
    await page.get_by_label("Token name").fill("nightly report")
    await sign_in_again(portal, context, "ada@example.org")
    await page.get_by_role("button", name="Create token").click()
    await expect(page.get_by_label("New token")).to_be_visible()
    await expect(page.locator("#flash")).not_to_contain_text("earlier sign-in")


async def test_a_form_of_somebody_elses_sign_in_is_not_sent_in_their_name(
    portal: Portal, context: BrowserContext
) -> None:
    page = await context.new_page()
    await sign_in(portal, page, "ada@example.org")
    await page.goto(f"{portal.url}/account")
    await page.get_by_label("Token name").fill("nightly report")
    await sign_in_again(portal, context, "eve@example.org")
    await page.get_by_role("button", name="Create token").click()
    await expect(page.get_by_text("This page is from an earlier sign-in. Reload it and try again.")).to_be_visible()
    assert await page.get_by_label("Token name").input_value() == "nightly report", "what was typed is kept"
    eve = await portal.platform.users.by_email("eve@example.org")
    assert await portal.platform.tokens.of_user(eve) == []


async def test_without_scripts_it_says_so_and_keeps_what_was_typed(portal: Portal, browser: Browser) -> None:
    context = await browser.new_context(java_script_enabled=False)
    try:
        page = await context.new_page()
        await sign_in(portal, page, ADMIN)
        await page.goto(f"{portal.url}/admin/limits")
        await page.locator("#memory").fill("3g, 5g")
        await page.locator("#default_memory").fill("5g")
        await sign_in_again(portal, context, ADMIN)
        await page.get_by_role("button", name="Save", exact=True).click()
        await expect(page.get_by_text("This page was from an earlier sign-in")).to_be_visible()
        assert await page.locator("#memory").input_value() == "3g, 5g"
        await page.get_by_role("button", name="Save", exact=True).click()
        await expect(page.locator("#flash")).to_contain_text("Limits saved")
    finally:
        await context.close()


async def test_a_passkey_is_offered_in_the_address_field_and_the_account_page_goes_on_offering_to_add_one(
    portal: Portal, context: BrowserContext
) -> None:
    page = await context.new_page()
    devices = await context.new_cdp_session(page)
    await devices.send("WebAuthn.enable")
    added = await devices.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})
    device = {"authenticatorId": added["authenticatorId"]}
    await sign_in(portal, page, "ada@example.org")
    await page.goto(f"{portal.url}/account")
    add = page.get_by_role("button", name="Add passkey")
    await expect(add).to_be_visible()
    await page.get_by_label("Token name").fill("nightly report")
    await page.get_by_role("button", name="Create token").click()
    await expect(page.get_by_label("New token")).to_be_visible()
    await expect(add).to_be_visible()
    # Its page is from an earlier sign-in by now, which its script takes care of.
    await sign_in_again(portal, context, "ada@example.org")
    await page.get_by_label("Name of this device").fill("my laptop")
    await add.click()
    await expect(page.locator("#passkeys strong", has_text="my laptop")).to_be_visible()

    # The address field offers it; nothing is clicked but what the browser lists.
    await context.clear_cookies(name="lp_login")
    await devices.send("WebAuthn.setAutomaticPresenceSimulation", {**device, "enabled": False})
    await page.goto(f"{portal.url}/sign-in?next=/account")
    field = page.get_by_label("E-mail address")
    assert await field.get_attribute("autocomplete") == "username webauthn"
    await page.wait_for_timeout(500)
    assert page.url.endswith("/sign-in?next=/account"), "nothing happens unless it is picked"
    await devices.send("WebAuthn.setAutomaticPresenceSimulation", {**device, "enabled": True})
    await page.wait_for_url("**/account")

    # The button still works: what was offered in the field is given up for it.
    await context.clear_cookies(name="lp_login")
    await devices.send("WebAuthn.setAutomaticPresenceSimulation", {**device, "enabled": False})
    await page.goto(f"{portal.url}/sign-in?next=/account")
    await page.wait_for_timeout(500)
    await page.get_by_role("button", name="Sign in with a passkey").click()
    await devices.send("WebAuthn.setAutomaticPresenceSimulation", {**device, "enabled": True})
    await page.wait_for_url("**/account")
