"""What a person does in a browser, from the landing page to an instance and back."""

from __future__ import annotations

from playwright.async_api import BrowserContext, Page, expect

from .live import LivePlatform

LAUNCH_SECONDS = 300_000

# A quick launch shows its stages for a second: they are noted as they appear, not looked for afterwards.
WATCH_STAGES = """() => {
  window.seenStages = [];
  const look = () => document.querySelectorAll("article.instance li").forEach((step) => {
    const text = step.textContent.trim();
    if (!window.seenStages.includes(text)) window.seenStages.push(text);
  });
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


async def sign_in(live: LivePlatform, page: Page, email: str) -> None:
    """As a person does: address, mail, code."""
    seen = len(live.mail.mails_to(email))
    await page.goto(live.public_url)
    await page.get_by_role("link", name="Sign in").first.click()
    await page.get_by_label("E-mail address").fill(email)
    await page.get_by_role("button", name="Send me a code").click()
    await page.get_by_label("Code", exact=True).fill(await live.mail.code_for(email, seen=seen))
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/dashboard")


async def sign_out(page: Page) -> None:
    """By the account menu."""
    await page.get_by_role("button", name="Account menu").click()
    await page.get_by_role("button", name="Sign out", exact=True).first.click()
    await expect(page.get_by_text("You are signed out")).to_be_visible()  # before another page is asked for


async def launch_and_open(context: BrowserContext, page: Page, title: str) -> Page:
    """Clicks Launch, sees at least one stage go by, and opens the instance in its own tab."""
    await page.goto(page.url.split("#")[0])
    await page.evaluate(WATCH_STAGES)
    await page.get_by_role("button", name=f"Launch {title}").click()
    instance = page.locator("article.instance", has_text=title)
    await expect(instance.get_by_text("Running", exact=True)).to_be_visible(timeout=LAUNCH_SECONDS)
    seen = await page.evaluate("window.seenStages.join(' | ')")
    assert "Creating the container" in seen, f"no stages were shown: {seen}"
    async with context.expect_page() as opened:
        await instance.get_by_role("link", name="Open").click()
    return await opened.value


async def stop(page: Page, patience_seconds: float = 120) -> None:
    instance = page.locator("article.instance").first
    await instance.get_by_role("button", name="Stop", exact=True).click()
    await page.get_by_role("dialog").get_by_role("button", name="Stop", exact=True).click()
    await expect(page.locator("li.ended").first).to_contain_text("topped by you", timeout=patience_seconds * 1000)
    await expect(page.locator("article.instance")).to_have_count(0)
