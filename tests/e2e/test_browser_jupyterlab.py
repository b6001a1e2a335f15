"""The main job, in a browser: JupyterLab from sign-in to the file that is still there after a relaunch."""

from __future__ import annotations

import re

from playwright.async_api import Browser, Page, expect

from support.browsing import launch_and_open, sign_in, stop
from support.live import LivePlatform

EMAIL = "ines@example.org"
CELL = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell"


async def test_jupyterlab_from_sign_in_to_relaunch(shared_platform: LivePlatform, browser: Browser) -> None:
    """Sign in with the mailed code, launch, watch the stages, run Python and R, write a file, stop, find it again."""
    live = shared_platform
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = await context.new_page()
        await sign_in(live, page, EMAIL)

        lab = await launch_and_open(context, page, "JupyterLab")
        await run_in_new_notebook(
            lab, "Python 3", "open('answer.txt', 'w').write(str(6 * 7)); print('python says', 6 * 7)", "python says 42"
        )
        await run_in_new_notebook(lab, "R", "cat('r says', sum(1:8), '\\n')", "r says 36")
        written = live.homes / "ines" / "answer.txt"
        assert written.read_text() == "42"
        assert written.stat().st_uid == (live.homes / "ines").stat().st_uid >= 200_000
        await lab.close()

        await stop(page)
        again = await launch_and_open(context, page, "JupyterLab")
        await expect(again.get_by_role("listitem", name="answer.txt").first).to_be_visible(timeout=30_000)
        await again.close()
        await stop(page)
    finally:
        await context.close()


async def run_in_new_notebook(lab: Page, kernel: str, code: str, output: str) -> None:
    """Makes a notebook from the launcher, runs one cell, and waits for its output."""
    await lab.wait_for_selector(".jp-LabShell", timeout=30_000)
    if await lab.locator(".jp-NotebookPanel").count():
        await lab.locator('[data-command="launcher:create"]').first.click()
    card = lab.locator(f'.jp-LauncherCard[data-category="Notebook"][title^="{kernel}"]:visible').first
    await card.click(timeout=30_000)
    cell = lab.locator(CELL).first
    await cell.wait_for(timeout=30_000)
    await lab.get_by_role("button", name=re.compile(rf"^{kernel}.* \| Idle")).wait_for(timeout=30_000)
    editor = cell.locator(".cm-content")
    await editor.fill(code)
    await editor.press("Shift+Enter")
    await expect(cell.locator(".jp-OutputArea-output")).to_contain_text(output, timeout=60_000)
