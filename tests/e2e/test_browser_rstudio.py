"""The main job in RStudio's environment: the console runs real R, sockets work, variables outlive a stop.

Where rocker/rstudio can be had the same steps hold for it, but its page is another; here the stand-in's is driven.
"""

from __future__ import annotations

import httpx
from playwright.async_api import Browser, Page, expect

from support.browsing import launch_and_open, sign_in, stop
from support.live import LivePlatform, StartPlatform, docker

EMAIL = "rosa@example.org"


async def test_rstudio_from_sign_in_to_restored_variables(shared_platform: LivePlatform, browser: Browser) -> None:
    """Launch, see that it is a stand-in, run R, the WebSockets answer, stop, launch again: the variables are back."""
    live = shared_platform
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = await context.new_page()
        await sign_in(live, page, EMAIL)
        await expect(page.get_by_text("Stand-in for RStudio").first).to_be_visible()

        r = await launch_and_open(context, page, "RStudio")
        await expect(r.get_by_text("Stand-in for RStudio.")).to_be_visible()
        await run(r, "answer <- 6 * 7; cat('R', R.version$major, 'says', answer, '\\n')", "says 42")
        await run(r, "stop('on', ' purpose')", "on purpose")
        await expect(r.locator("#environment")).to_contain_text("answer")
        await expect(r.locator("#ws-status")).to_have_text("connected")
        await r.locator("#terminal-input").fill("id -u")
        await r.locator("#terminal-input").press("Enter")
        uid = (live.homes / "rosa").stat().st_uid
        await expect(r.locator("#terminal-output")).to_contain_text(str(uid))
        await run(r, "writeLines('from R', 'r.txt'); cat('r.txt', 'is there\\n')", "r.txt is there")
        assert (live.homes / "rosa" / "r.txt").stat().st_uid == uid >= 200_000
        cookies = {one["name"]: one for one in await context.cookies()}
        assert cookies["rs-csrf-token"]["path"].startswith("/i/"), "RStudio's cookies stay inside the instance"
        await r.close()

        await stop(page)
        again = await launch_and_open(context, page, "RStudio")
        await expect(again.locator("#environment")).to_contain_text("answer", timeout=20_000)
        await run(again, "cat('still', answer, '\\n')", "still 42")
        await again.close()
        await stop(page)
    finally:
        await context.close()


async def test_a_local_application_stays_inside_the_instance(shared_platform: LivePlatform) -> None:
    """RStudio's redirects for local applications lack the prefix; they come back inside. Large uploads pass.

    Nothing in it is the stand-in's own: it holds for rocker/rstudio as it is.
    """
    live = shared_platform
    async with live.person("sven@example.org") as sven:
        instance = await sven.launch_and_wait("rstudio", memory="1g")
        rstudio = await sven.enter_rstudio(instance["id"])
        address = await rstudio.start_application()
        answer = await sven.http.get(f"{address}redirect", follow_redirects=False)
        assert answer.status_code == 302
        assert answer.headers["location"].endswith(f"{httpx.URL(address).path}landing")
        assert f"/i/{instance['id']}/p/" in answer.headers["location"]
        size = 300 * 1024 * 1024
        await rstudio.upload("large.bin", bytes(size), Origin=live.instances_url)
        assert (live.homes / "sven" / "large.bin").stat().st_size == size
        back = await sven.http.get(sven.instance_url(instance["id"], "/files/large.bin"))
        assert len(back.content) == size
        container = live.container_of(instance["id"])
        assert container["HostConfig"]["CapDrop"] == ["ALL"]
        assert docker("exec", container["Id"], "sh", "-c", "ps -o user= -C rsession | sort -u").strip() == "rstudio"
        await sven.stop(instance["id"])


async def run(page: Page, code: str, output: str, patience_seconds: float = 20) -> None:
    """Types into the console, and waits for what R prints."""
    assert output not in code, "the console repeats what is typed, which is no answer"
    console = page.locator("#console-input")
    await console.fill(code)
    await console.press("Enter")
    await expect(page.locator("#console-output")).to_contain_text(output, timeout=patience_seconds * 1000)


async def test_a_large_session_is_saved_whole(start_platform: StartPlatform, browser: Browser) -> None:
    """What does not compress takes seconds to write; the init waits for R, and the engine for the init."""
    live = await start_platform({"limits": {"memory": ["2g"], "default_memory": "2g"}})
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = await context.new_page()
        await sign_in(live, page, "lars@example.org")
        r = await launch_and_open(context, page, "RStudio")
        await run(r, "large <- runif(2e6); total <- sum(large); cat('made', length(large), '\\n')", "made 2000000", 60)
        await r.close()
        await stop(page)
        again = await launch_and_open(context, page, "RStudio")
        await expect(again.locator("#environment")).to_contain_text("large", timeout=90_000)
        await run(again, "cat('the same:', identical(sum(large), total), '\\n')", "the same: TRUE", 60)
    finally:
        await context.close()
