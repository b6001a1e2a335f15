"""Freeze and thaw with real applications on the real engine: what was in memory is there afterwards, and pages go on.

One platform for the whole file: one person's JupyterLab in a browser, another's RStudio, and twenty small instances.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Error, Page, expect
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin

from support.echo_environment import echo_environment
from support.live import BROWSER, LivePlatform, Person
from support.smtp import MailServer

pytestmark = pytest.mark.timeout(900)  # twenty containers and more, on any machine

MANY = 20
PATIENCE_SECONDS = 60
CELLS = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell"
BEGIN = """import threading, time
kept, count = 6 * 7, 0
def tick():
    global count
    while True:
        count += 1
        time.sleep(0.02)
threading.Thread(target=tick, daemon=True).start()
print("counting", kept)"""
JOB = "i=0; while :; do i=$((i+1)); echo $i > ~/job.txt; sleep 0.05; done &\r"
LEFT_ALONE_SECONDS = 13  # JupyterLab's page asks for its folder every ten seconds, and for other things too


@pytest.fixture(scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory, mail: MailServer) -> AsyncIterator[LivePlatform]:
    tables = {
        "environments": [echo_environment(request_headers={"X-Set": "theirs=1"})],
        "limits": {"instances_per_user": MANY, "instances_per_environment": MANY, "memory": ["256m", "1g"]},
        "capacity": {"starts_at_once": 4},
    }
    live = LivePlatform(tmp_path_factory.mktemp("freezing"), mail, tables)
    await live.start()
    yield live
    await live.stop()


async def freeze(person: Person, instance_id: str) -> None:
    answer = await person.http.post(f"/api/v1/instances/{instance_id}/freeze")
    assert answer.status_code == 202, answer.text
    await person.wait_for(instance_id, "frozen")
    assert person.live.container_of(instance_id)["State"]["Paused"]


async def changes(look: Callable[[], object], before: object) -> None:
    """Waits until it is another one than before."""
    deadline = monotonic() + PATIENCE_SECONDS
    while look() == before:
        assert monotonic() < deadline, f"it stays {before!r}"
        await asyncio.sleep(0.05)


async def own_terminal(live: LivePlatform, context: BrowserContext, instance_id: str) -> connect:
    """The WebSocket of a new terminal, as a page of this browser holds it."""
    found = next(one for one in await context.cookies() if one["name"] == "lp_instance")
    headers = {"Cookie": f"lp_instance={found['value']}"}
    origin = live.origin.of(instance_id)
    async with httpx.AsyncClient(headers=headers | {"Origin": origin}, timeout=60) as http:
        made = await http.post(live.origin.url(instance_id, "/api/terminals"), json={})
        assert made.status_code == 200, made.text
    url = live.origin.url(instance_id, f"/terminals/websocket/{made.json()['name']}")
    return connect(url.replace("http", "ws", 1), origin=Origin(origin), additional_headers=headers, proxy=None)


async def without_autosave(person: Person, instance_id: str) -> None:
    """A page with unsaved changes saves them by itself every two minutes, which is nothing of this test's."""
    assert (await person.open(instance_id)).status_code == 200
    plugin = person.instance_url(instance_id, "/lab/api/settings/@jupyterlab/docmanager-extension:plugin")
    own = {"Origin": person.live.origin.of(instance_id)}
    answer = await person.http.put(plugin, json={"raw": '{"autosave": false}'}, headers=own)
    assert answer.status_code == 204, answer.text


async def open_notebook(lab: Page, address: str) -> None:
    """Opens it until it works: where other containers come and go, the browser gives up some of what it loads."""
    for patience in (30_000, 60_000, 120_000):
        try:
            await lab.goto(address)
            card = lab.locator('.jp-LauncherCard[data-category="Notebook"][title^="Python 3"]:visible').first
            await card.click(timeout=patience)
            await lab.get_by_role("button", name=re.compile(r"^Python 3.* \| Idle")).wait_for(timeout=patience)
        except Error:
            continue
        return
    raise AssertionError("JupyterLab's page does not come to work")


async def says(socket: ClientConnection, text: str) -> None:
    """Reads until the terminal shows a text."""
    shown = ""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while text not in shown:
            kind, *rest = json.loads(await socket.recv())
            shown += str(rest[0]) if kind == "stdout" else ""


async def run_cell(lab: Page, number: int, code: str, output: re.Pattern[str]) -> str:
    """Runs a notebook's cell by its keys; what it prints."""
    cell = lab.locator(CELLS).nth(number)
    editor = cell.locator(".cm-content")
    await editor.fill(code)
    await editor.press("Shift+Enter")
    shown = cell.locator(".jp-OutputArea-output")
    await expect(shown).to_contain_text(output, timeout=PATIENCE_SECONDS * 1000)
    return await shown.inner_text()


async def test_a_notebook_its_counter_and_a_terminals_job_go_on_where_they_were(
    live: LivePlatform, browser: Browser
) -> None:
    """In the open page, without a reload, as soon as its person types; left alone it wakes nothing, and complains of
    nothing. A new visit wakes it, too."""
    async with live.person("nora@example.org") as person:
        context = await browser.new_context(viewport={"width": 1280, "height": 900})
        for one in person.http.cookies.jar:
            cookie = {"name": one.name, "value": str(one.value), "url": live.public_url}
            await context.add_cookies([cookie])  # type: ignore[list-item]
        instance_id = (await person.launch_and_wait("jupyterlab", memory="1g"))["id"]
        await without_autosave(person, instance_id)
        lab = await context.new_page()
        await open_notebook(lab, f"{live.public_url}/instances/{instance_id}/open")
        await run_cell(lab, 0, BEGIN, re.compile("counting 42"))
        loads: list[str] = []
        lab.on("framenavigated", lambda frame: loads.append(frame.url))

        job = live.homes / "nora" / "job.txt"
        async with await own_terminal(live, context, instance_id) as socket:
            await socket.send(json.dumps(["stdin", JOB]))
            await changes(job.exists, before=False)
            await changes(job.read_text, before=job.read_text())

            await freeze(person, instance_id)
            stopped_at = job.read_text()
            await asyncio.sleep(LEFT_ALONE_SECONDS)  # what the page does by itself meanwhile is the question
            assert (await person.get(instance_id))["state"] == "frozen", live.log()
            assert job.read_text() == stopped_at
            assert "429" in answers(live, instance_id), "the page has asked, and was told to ask later"
            assert await lab.locator(".jp-Dialog").all_inner_texts() == []

            counted = await run_cell(lab, 1, "print('still', kept, count)", re.compile(r"still 42 \d+"))
            assert (await person.get(instance_id))["state"] == "running"
            await changes(job.read_text, before=stopped_at)
            await socket.send(json.dumps(["stdin", "echo gone-$((40+2))\r"]))
            await says(socket, "gone-42")
        again = await run_cell(lab, 2, "print('later', kept, count)", re.compile(r"later 42 \d+"))
        assert int(again.split()[-1]) > int(counted.split()[-1]), "the thread counts on"
        assert loads == [], "the page was never loaded again"

        await lab.close()
        await freeze(person, instance_id)
        visit = await context.new_page()
        await visit.goto(person.instance_url(instance_id, "/lab/tree/Untitled.ipynb"))
        await expect(visit.locator(CELLS).first).to_be_visible(timeout=60_000)
        assert (await person.get(instance_id))["state"] == "running"
        await context.close()

        await freeze(person, instance_id)
        await person.stop(instance_id)
        assert live.containers() == [], "a frozen one can be stopped"


def answers(live: LivePlatform, instance_id: str) -> set[str]:
    """The statuses that an instance's requests got."""
    log = Path(f"/run/launchpad-{live.deployment_id}/nginx/access.log").read_text()
    return {line.split()[2] for line in log.splitlines() if f"/i/{instance_id}/" in line}


async def test_rs_variables_survive_and_what_somebody_runs_thaws(live: LivePlatform) -> None:
    """What RStudio's page asks for by itself does not."""
    async with live.person("rhea@example.org") as person:
        instance_id = (await person.launch_and_wait("rstudio", memory="1g"))["id"]
        rstudio = await person.enter_rstudio(instance_id)
        await rstudio.run("kept <- 6 * 7")
        await freeze(person, instance_id)
        assert (await rstudio.post("get_events", -1)).status_code == 429
        assert (await person.get(instance_id))["state"] == "frozen"
        assert "42" in await rstudio.run("cat(kept)")
        assert (await person.get(instance_id))["state"] == "running"
        await person.stop(instance_id)


async def test_twenty_are_frozen_and_thawed_at_once(live: LivePlatform) -> None:
    """By twenty visits at the same time, each of which gets its own instance's answer."""
    async with live.person("max@example.org") as person:
        started = [await person.launch("echo", memory="256m") for _ in range(MANY)]
        ids = [one["id"] for one in started]
        assert len(set(ids)) == MANY
        await asyncio.gather(*(person.wait_for(one, "running", patience_seconds=300) for one in ids))
        for one in ids:
            assert (await person.open(one)).status_code == 200
        await asyncio.gather(*(freeze(person, one) for one in ids))
        metrics = await person.http.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"})
        assert f"launchpad_instances_frozen {MANY:.1f}" in metrics.text

        async def visits(instance_id: str) -> httpx.Response:
            url = person.instance_url(instance_id, f"/which-{instance_id}")
            return await person.http.get(url, headers=BROWSER | {"Sec-Fetch-Mode": "navigate"})

        answered = await asyncio.gather(*map(visits, ids))
        assert [answer.status_code for answer in answered] == [200] * MANY
        assert [answer.json()["path"] for answer in answered] == [f"/which-{one}" for one in ids]
        await asyncio.gather(*(person.wait_for(one, "running") for one in ids))
        assert not any(live.container_of(one)["State"]["Paused"] for one in ids)
