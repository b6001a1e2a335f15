"""Passkeys in a browser with a device in it: add one, sign in with a touch, remove it."""

from __future__ import annotations

from playwright.async_api import Browser, Route, expect

from support.browsing import sign_in, sign_out
from support.live import LivePlatform

OPTIONS = "/sign-in/passkey/options"
DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


async def test_a_touch_signs_in_and_codes_go_on_working(shared_platform: LivePlatform, browser: Browser) -> None:
    live, email = shared_platform, "pia@example.org"
    context = await browser.new_context(viewport={"width": 390, "height": 844})
    try:
        page = await context.new_page()
        devices = await context.new_cdp_session(page)
        await devices.send("WebAuthn.enable")
        added = await devices.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})

        async def touch(enabled: bool) -> None:
            """The sign-in page offers passkeys in its field, too: a device that says yes by itself would be quicker."""
            device = {"authenticatorId": added["authenticatorId"], "enabled": enabled}
            await devices.send("WebAuthn.setAutomaticPresenceSimulation", device)

        async def sign_in_with_passkey(address: str) -> None:
            """By the button; the device says yes from the moment in which the button's own request is under way.

            A request that it did not answer at once would stay open for ever.
            """
            await touch(enabled=False)
            async with page.expect_response(f"**{OPTIONS}"):  # what the field offers is asked for first
                await page.goto(f"{live.public_url}{address}")

            async def touch_now(route: Route) -> None:
                await touch(enabled=True)
                await route.continue_()

            await page.route(f"**{OPTIONS}", touch_now, times=1)
            await page.get_by_role("button", name="Sign in with a passkey").click()

        await sign_in(live, page, email)
        await page.goto(f"{live.public_url}/account")
        await page.get_by_label("Name of this device").fill("my phone")
        await page.get_by_role("button", name="Add passkey").click()
        await expect(page.locator("#flash").get_by_text("Passkey “my phone” added")).to_be_visible()
        await expect(page.locator("#passkeys strong", has_text="my phone")).to_be_visible()

        # The same device again: it has one already.
        await page.get_by_role("button", name="Add passkey").click()
        await expect(page.get_by_text("This device has a passkey for your account already.")).to_be_visible()

        await sign_out(page)
        await sign_in_with_passkey("/sign-in?next=/account")
        await page.wait_for_url("**/account")
        await expect(page.locator("#passkeys").get_by_text("last used")).to_be_visible()

        await page.get_by_role("button", name="Remove my phone").click()
        await page.get_by_role("dialog").get_by_role("button", name="Remove", exact=True).click()
        await expect(page.locator("#flash").get_by_text("Passkey “my phone” removed")).to_be_visible()
        await sign_out(page)
        await sign_in_with_passkey("/sign-in")
        await expect(page.get_by_text("That passkey is not known here")).to_be_visible()
        await sign_in(live, page, email)
    finally:
        await context.close()
