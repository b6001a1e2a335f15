"""What the owner of a running instance has to know reaches a dashboard that is open, without reloading it."""

from __future__ import annotations

import asyncio

from playwright.async_api import Browser, expect

from support.browsing import sign_in
from support.live import LivePlatform, docker

EMAIL = "hungry@example.org"
PATIENCE = 60_000
HOG = "x = bytearray(2 << 30)"


async def exhaust_memory(container: str) -> None:
    hog = await asyncio.create_subprocess_exec("docker", "exec", container, "python3", "-c", HOG)
    assert await hog.wait() != 0, "the kernel ended it"


async def test_lack_of_memory_reaches_an_open_dashboard_and_a_second_one_reads_differently(
    shared_platform: LivePlatform, browser: Browser
) -> None:
    live = shared_platform
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = await context.new_page()
        await sign_in(live, page, EMAIL)
        async with live.person(EMAIL) as owner:
            instance = await owner.launch_and_wait("jupyterlab", memory="1g")
            await page.goto(f"{live.public_url}/dashboard")
            card = page.locator(f"#instance-{instance['id']}")
            await expect(card.get_by_text("Running", exact=True)).to_be_visible(timeout=PATIENCE)
            await page.evaluate("window.neverReloaded = true")
            container = live.container_of(instance["id"])["Id"]

            await exhaust_memory(container)
            notice = card.locator(".note", has_text="needed more than its 1 GB of memory")
            await expect(notice).to_be_visible(timeout=PATIENCE)
            first = await notice.inner_text()
            assert "time" not in first

            await asyncio.sleep(3)  # two that follow each other at once are one
            await exhaust_memory(container)
            await expect(notice).to_contain_text("for the 2nd time", timeout=PATIENCE)
            assert await page.evaluate("window.neverReloaded"), "the page was not loaded again"

            stopped = await owner.stop(instance["id"])
            assert stopped["reason"].startswith("stopped by you; before, a program in it ran out of memory at 1 GB")
            await expect(page.locator(f"li#instance-{instance['id']}")).to_contain_text("ran out of memory at 1 GB")
    finally:
        await context.close()


async def test_other_notices_reach_an_open_dashboard_and_leave_it(
    shared_platform: LivePlatform, browser: Browser
) -> None:
    """Processes without end: told while it is so, and not afterwards."""
    live = shared_platform
    context = await browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    try:
        page = await context.new_page()
        await sign_in(live, page, EMAIL)
        async with live.person(EMAIL) as owner:
            instance = await owner.launch_and_wait("jupyterlab", memory="1g")
            await page.goto(f"{live.public_url}/dashboard")
            await page.evaluate("window.neverReloaded = true")
            container = live.container_of(instance["id"])["Id"]
            threads = (
                "import os, threading, time\n"
                "open('/tmp/pid', 'w').write(f'{os.getpid()}\\n')\n"
                "for n in range(3000):\n"
                "    try: threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
                "    except RuntimeError: time.sleep(0.05)\n"
                "time.sleep(600)"
            )
            docker("exec", "-d", container, "python3", "-c", threads)
            card = page.locator(f"#instance-{instance['id']}")
            notice = card.locator(".note", has_text="as many processes and threads as it may")
            await expect(notice).to_be_visible(timeout=PATIENCE)
            docker("exec", container, "sh", "-c", "read pid < /tmp/pid; kill -9 $pid")  # no fork is left
            await expect(notice).to_have_count(0, timeout=PATIENCE)
            assert await page.evaluate("window.neverReloaded")
            await owner.stop(instance["id"])
    finally:
        await context.close()
