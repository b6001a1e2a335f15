"""What shows that a person uses an instance, and what that it works: real JupyterLab and RStudio, in a real browser.

One minute and a half of an open, untouched tab is waited for once, for all of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Error, Locator, Page, expect

from support.live import LivePlatform, Person, docker
from support.smtp import MailServer

pytestmark = pytest.mark.timeout(900)

SAMPLE_SECONDS = 2.0
UNTOUCHED_SECONDS = 90
SETTLE_SECONDS = 20  # of a tab that was just used: it saves, asks and connects
PATIENCE_SECONDS = 120
KERNEL_NOTES_SECONDS = 9  # it notes a terminal's use every eight seconds (tty_io.c, tty_update_time)
ENVIRONMENTS = ("jupyterlab", "rstudio")
KERNEL_IS_IDLE = re.compile(r"^Python 3.* \| Idle")


@dataclass
class Tab:
    """An instance's page. `untouched` is what the API said of it while nobody touched it."""

    instance_id: str
    page: Page
    requests: int = 0
    untouched: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Desk:
    person: Person
    tabs: dict[str, Tab]

    async def activity(self, environment: str) -> dict[str, Any]:
        answer = await self.person.http.get(f"/api/v1/instances/{self.tabs[environment].instance_id}/activity")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def wait_until(self, environment: str, **wanted: Any) -> dict[str, Any]:
        """What is said of it as soon as it is as wanted: a value, or a function of one."""
        deadline = monotonic() + PATIENCE_SECONDS
        while True:
            said = await self.activity(environment)
            fits = (want(said[name]) if callable(want) else said[name] == want for name, want in wanted.items())
            if all(fits):
                return said
            said.pop("points")
            assert monotonic() < deadline, f"{environment}: {said}\n{self.person.live.log()}"
            await asyncio.sleep(0.5)

    def container(self, environment: str) -> str:
        return docker("ps", "-q", "--filter", f"label=org.launchpad.instance={self.tabs[environment].instance_id}")


@pytest.fixture(scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory, mail: MailServer, browser: Browser) -> AsyncIterator[Desk]:
    """Both instances after a minute and a half in which nobody touched their tabs."""
    tables = {"activity": {"sample_seconds": SAMPLE_SECONDS}}
    live = LivePlatform(tmp_path_factory.mktemp("activity"), mail, tables)
    await live.start()
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        async with live.person("ada@example.org") as person:
            started = {name: await person.launch(name, memory="1g") for name in ENVIRONMENTS}
            for one in started.values():
                await person.wait_for(one["id"], "running", patience_seconds=240)
            tabs = {name: Tab(one["id"], await context.new_page()) for name, one in started.items()}
            desk = Desk(person, tabs)
            await use(desk, context)
            await asyncio.sleep(SETTLE_SECONDS)
            await leave_alone(desk)
            yield desk
    finally:
        await context.close()
        await live.stop()


async def use(desk: Desk, context: BrowserContext) -> None:
    """A notebook with a kernel that has computed and was saved; R's console and a terminal at its prompt."""
    for one in desk.person.http.cookies.jar:
        cookie = {"name": one.name, "value": str(one.value), "url": desk.person.live.public_url}
        await context.add_cookies([cookie])  # type: ignore[list-item]
    lab, rstudio = desk.tabs["jupyterlab"].page, desk.tabs["rstudio"].page
    write_notebook(desk.person.live.homes / "ada")
    portal = desk.person.live.public_url
    notebook = f"{portal}/instances/{desk.tabs['jupyterlab'].instance_id}/open?next=%2Flab%2Ftree%2Fwork.ipynb"
    await loaded(lab, notebook, lab.get_by_role("button", name=KERNEL_IS_IDLE))
    console = rstudio.locator("#ws-status").get_by_text("connected")
    await loaded(rstudio, f"{portal}/instances/{desk.tabs['rstudio'].instance_id}/open", console)
    await run_cell(lab, 0)
    await expect(lab.locator(".jp-OutputArea-output").first).to_contain_text("42", timeout=60_000)
    await save(lab, desk.person.live.homes / "ada" / "work.ipynb")
    await type_into_r(rstudio, "6 * 7")
    await expect(rstudio.locator("#console-output")).to_contain_text("[1] 42", timeout=60_000)


async def loaded(page: Page, address: str, sign: Locator) -> None:
    """Loads it until it works: a browser gives up what it is loading when other containers change the network."""
    for _ in range(4):
        try:
            await page.goto(address)
            await sign.wait_for(timeout=45_000)
        except Error:
            continue
        return
    await sign.wait_for(timeout=45_000)


async def save(lab: Page, file: Path) -> None:
    """Returns when the file has what the cell printed: what is not saved is saved later, by the page itself."""
    deadline = monotonic() + PATIENCE_SECONDS
    while "42\\n" not in file.read_text():
        assert monotonic() < deadline, "the notebook is not saved"
        await lab.keyboard.press("Control+s")
        await asyncio.sleep(1)


def write_notebook(home: Path) -> None:
    """As if it had been made before: a new one is given a name in a dialog."""
    cells: list[dict[str, Any]] = [
        {"cell_type": "code", "id": name, "execution_count": None, "metadata": {}, "outputs": [], "source": source}
        for name, source in (("first", "print(6 * 7)"), ("second", "import time; time.sleep(20)"))
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    file = home / "work.ipynb"
    file.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": cells}))
    owner = home.stat()
    os.chown(file, owner.st_uid, owner.st_gid)


async def run_cell(lab: Page, number: int) -> None:
    await lab.get_by_role("button", name=KERNEL_IS_IDLE).wait_for(timeout=PATIENCE_SECONDS * 1000)
    editor = lab.locator(".jp-NotebookPanel .jp-CodeCell .cm-content").nth(number)
    await editor.click(timeout=60_000)
    await editor.press("Shift+Enter")


async def type_into_r(rstudio: Page, code: str) -> None:
    await rstudio.locator("#console-input").fill(code)
    await rstudio.locator("#console-input").press("Enter")


async def leave_alone(desk: Desk) -> None:
    log = Path(f"/run/launchpad-{desk.person.live.deployment_id}/nginx/access.log")
    begin, deadline = log.stat().st_size, monotonic() + UNTOUCHED_SECONDS
    while monotonic() < deadline:
        for name, tab in desk.tabs.items():
            tab.untouched.append(await desk.activity(name))
        await asyncio.sleep(SAMPLE_SECONDS)
    lines = log.read_bytes()[begin:].decode().splitlines()
    for tab in desk.tabs.values():
        tab.requests = sum(f"/i/{tab.instance_id}/" in line for line in lines)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
async def test_an_open_untouched_tab_is_no_person_and_no_work(desk: Desk, environment: str) -> None:
    """Its page asks again and again, its kernel and its terminal are there, and nothing of it counts."""
    tab = desk.tabs[environment]
    assert tab.requests >= 3, "the page asked for nothing, so nothing was shown"
    assert len({said["last_person_at"] for said in tab.untouched}) == 1, [
        said["last_person_at"] for said in tab.untouched
    ]
    assert tab.untouched[-1]["kernels"] == (1 if environment == "jupyterlab" else 0)
    assert tab.untouched[-1]["terminals"] == (1 if environment == "rstudio" else 0)
    evidence = [said["evidence"] for said in tab.untouched]
    assert set(evidence) == {""}, evidence
    assert {said["verdict"] for said in tab.untouched} == {"idle"}
    assert len({said["sampled_at"] for said in tab.untouched}) >= 3, "it was not looked at"


async def test_a_running_cell_is_work_although_it_sleeps(desk: Desk) -> None:
    before = await desk.activity("jupyterlab")
    await run_cell(desk.tabs["jupyterlab"].page, 1)
    said = await desk.wait_until("jupyterlab", verdict="working", evidence="a notebook is running")
    assert instant(said["last_work_at"]) > instant(before["sampled_at"])
    said = await desk.wait_until("jupyterlab", verdict="idle")
    assert instant(said["last_work_at"]) > instant(before["sampled_at"])


async def test_r_that_sleeps_amid_its_code_is_work(desk: Desk) -> None:
    """RStudio says so itself, and a call of the console is a person's act."""
    before = await desk.activity("rstudio")
    await type_into_r(desk.tabs["rstudio"].page, "Sys.sleep(20)")
    said = await desk.wait_until("rstudio", verdict="working", evidence=lambda text: text.startswith("R is running"))
    assert instant(said["last_person_at"]) > instant(before["last_person_at"])
    await desk.wait_until("rstudio", verdict="idle")


async def test_typing_into_a_terminal_is_a_persons_act(desk: Desk) -> None:
    """Although it goes through a WebSocket, which nobody looks into."""
    before = await desk.activity("rstudio")
    page = desk.tabs["rstudio"].page
    for text in ("echo first", "echo second"):
        await page.locator("#terminal-input").fill(text)
        await page.locator("#terminal-input").press("Enter")
        await asyncio.sleep(KERNEL_NOTES_SECONDS)
    await expect(page.locator("#terminal-output")).to_contain_text("second")
    await desk.wait_until("rstudio", last_person_at=lambda at: instant(at) > instant(before["last_person_at"]))


async def test_opening_a_file_is_a_persons_act(desk: Desk) -> None:
    before = await desk.activity("jupyterlab")
    page = desk.tabs["jupyterlab"].page
    await page.evaluate("fetch(location.pathname.replace(/lab.*/, 'api/contents/x.txt'), {method: 'PUT', body: '{}'})")
    await desk.wait_until("jupyterlab", last_person_at=lambda at: instant(at) > instant(before["last_person_at"]))


async def test_programs_are_told_by_their_names(desk: Desk) -> None:
    """A loop of processes that live for a moment is told by what has started them."""
    container = desk.container("jupyterlab")
    script = "while :; do head -c 4000000 /dev/zero | md5sum; done > /dev/null"
    docker("exec", container, "sh", "-c", f"echo '{script}' > /tmp/many.sh; echo 'while True: pass' > /tmp/train.py")
    docker("exec", "-d", container, "timeout", "300", "python3", "/tmp/train.py")
    said = await desk.wait_until("jupyterlab", evidence=lambda text: text.startswith("Python: train.py, "))
    assert said["busy"][0]["name"] == "Python: train.py"
    assert said["busy"][0]["cpu_cores"] > 0
    docker("exec", container, "pkill", "-f", "train.py")
    docker("exec", "-d", container, "timeout", "300", "sh", "/tmp/many.sh")
    await desk.wait_until("jupyterlab", evidence=lambda text: text.startswith("Shell: many.sh, "))
    docker("exec", container, "pkill", "-f", "many.sh")


async def test_the_series_are_kept(desk: Desk) -> None:
    said = await desk.wait_until("jupyterlab", points=lambda points: len(points) >= 2)
    assert said["step_seconds"] == 60
    assert any(point["used"] for point in said["points"])
    assert all(point["memory_bytes"] > 10_000_000 and point["pids"] >= 1 for point in said["points"])


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
