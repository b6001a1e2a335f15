"""What keeps an instance alive under an idle policy of a minute, and what does not: real JupyterLab and RStudio.

Every thing has an instance and a person of its own, with nothing else in it. They start together, one wait serves all
of them, and each test looks at the outcome of its own. docs/howto/activity.md has these tests as a table.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser, Error, Locator, Page, expect

from support.at_work import AtWork
from support.live import LivePlatform, Person, docker
from support.ports import free_ports
from support.smtp import MailServer

pytestmark = pytest.mark.timeout(1500)

SAMPLE_SECONDS = 2.0
IDLE = timedelta(minutes=1)
WATCHED_SECONDS = 2 * IDLE.total_seconds() + 5
PATIENCE_SECONDS = 180
SLOW_BYTES_PER_SECOND = 30_000
KERNEL_IS_IDLE = re.compile(r"^Python 3.* \| Idle")
AT_ONCE = 4  # things that are begun at the same time

LOOP = "repeat { x <- sum(sqrt(as.numeric(1:2e6))); Sys.sleep(12) }"
FILES = {
    "loop.R": f"cat('begun', 'to loop\\n'); {LOOP}",
    "Makefile": """all: $(patsubst %,part%.o,$(shell seq 1 5000))
part%.o:
\t@echo begun to make $*
\t@echo 'int part$*(int x) { return x * $*; }' > part$*.c
\t@cc -O2 -c part$*.c -o $@
\t@sleep 3
""",
}


@dataclass
class Case:
    """One thing that goes on, alone in its instance, and what came of it.

    Attributes:
        said: what the API said of its activity, look by look, while it ran.
        instance: as it was after the time.
        decisions: what the policy decided of it.
    """

    name: str
    environment: str
    begin: Callable[[Scene, Case], Awaitable[None]]
    person: Person | None = None
    instance_id: str = ""
    work: AtWork | None = None
    said: list[dict[str, Any]] = field(default_factory=list)
    instance: dict[str, Any] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def at_work(self) -> AtWork:
        assert self.work is not None
        return self.work

    @property
    def things(self) -> str:
        """For the message of a test that fails."""
        seen = [(str(idle_for(one)), one["evidence"]) for one in self.said]
        return f"{self.name}: {self.instance}\n{self.decisions}\n{seen}"

    async def ask(self, what: str) -> Any:
        answer = await self.at_work.person.http.get(f"/api/v1/instances/{self.instance_id}{what}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def look(self) -> None:
        self.instance = await self.ask("")
        if self.instance["state"] == "running":
            said = await self.ask("/activity")
            if said["sampled_at"]:
                self.said.append(said | {"points": []})


@dataclass
class Scene:
    live: LivePlatform
    browser: Browser
    stack: AsyncExitStack
    slow_url: str
    typing: list[asyncio.Task[None]] = field(default_factory=list)
    pages: dict[str, Page] = field(default_factory=dict)


# -- what people do ----------------------------------------------------------------------------------------------------


async def a_running_cell(scene: Scene, case: Case) -> None:
    """It sleeps, and its tab is closed."""
    await case.at_work.run_cell("import time; time.sleep(3600)")


async def an_r_loop_in_the_console(scene: Scene, case: Case) -> None:
    rstudio = await case.at_work.rstudio()
    await rstudio.call("console_input", LOOP, "", 0)


async def an_r_script_in_a_terminal(scene: Scene, case: Case) -> None:
    await in_a_terminal(case, "Rscript loop.R", "begun to loop")


async def make_in_a_terminal(scene: Scene, case: Case) -> None:
    await in_a_terminal(case, "make -j2", "begun to make")


async def a_slow_download(scene: Scene, case: Case) -> None:
    await in_a_terminal(case, f"echo load''ing; curl -s -o /dev/null {scene.slow_url}", "loading")


async def a_terminal_at_its_prompt(scene: Scene, case: Case) -> None:
    await in_a_terminal(case, "echo at the pro''mpt", "at the prompt")


async def in_a_terminal(case: Case, line: str, sign: str) -> None:
    if case.environment == "jupyterlab":
        await case.at_work.run_in_jupyter_terminal(line, sign)
    else:
        await case.at_work.run_in_rstudio_terminal(line, sign)


async def a_person_typing(scene: Scene, case: Case) -> None:
    """Into a notebook's cell, which nobody runs; into R's console, a line now and then."""
    page = await opened(scene, case)
    if case.environment == "jupyterlab":
        await page.locator(".jp-NotebookPanel .jp-CodeCell .cm-content").first.click(timeout=60_000)
        await page.keyboard.press("Control+End")
        scene.typing.append(asyncio.create_task(type_slowly(page, "x = 1 + 2  # and so on; ", 1.0)))
    else:
        await page.locator("#console-input").click()
        scene.typing.append(asyncio.create_task(type_slowly(page, "x <- 1\n", 1.5)))


async def an_open_untouched_tab(scene: Scene, case: Case) -> None:
    """With a kernel, or a terminal, that has been used."""
    await used(await opened(scene, case), case)


async def a_closed_tab_with_an_idle_kernel(scene: Scene, case: Case) -> None:
    page = await opened(scene, case)
    await used(page, case)
    await page.close()


async def type_slowly(page: Page, text: str, pause_seconds: float) -> None:
    while True:
        for letter in text:
            await (page.keyboard.press("Enter") if letter == "\n" else page.keyboard.type(letter))
            await asyncio.sleep(pause_seconds)


async def opened(scene: Scene, case: Case) -> Page:
    """The page of the case's instance, in a browser window of its person's own, ready to be used."""
    context = await scene.browser.new_context(viewport={"width": 1280, "height": 900})
    scene.stack.push_async_callback(context.close)
    person = case.at_work.person
    for one in person.http.cookies.jar:
        cookie = {"name": one.name, "value": str(one.value), "url": scene.live.public_url}
        await context.add_cookies([cookie])  # type: ignore[list-item]
    page = scene.pages[case.name] = await context.new_page()
    address = f"{scene.live.public_url}/instances/{case.instance_id}/open"
    if case.environment == "jupyterlab":
        kernel = page.get_by_role("button", name=KERNEL_IS_IDLE)
        await loaded(page, f"{address}?next=%2Flab%2Ftree%2Fwork.ipynb", kernel)
    else:
        await loaded(page, address, page.locator("#ws-status").get_by_text("connected"))
    return page


async def loaded(page: Page, address: str, sign: Locator) -> None:
    """Loads it until it works: a browser gives up what it is loading when other containers change the network."""
    for _ in range(4):
        try:
            await page.goto(address)
            await sign.wait_for(timeout=60_000)
        except Error:
            continue
        return
    await sign.wait_for(timeout=60_000)


async def used(page: Page, case: Case) -> None:
    """Something was computed in it, and is saved: what is not saved is saved later, by the page itself."""
    if case.environment == "rstudio":
        await page.locator("#console-input").fill("6 * 7")
        await page.locator("#console-input").press("Enter")
        await expect(page.locator("#console-output")).to_contain_text("[1] 42", timeout=60_000)
        await page.locator("#terminal-input").fill("echo at the pro''mpt")
        await page.locator("#terminal-input").press("Enter")
        await expect(page.locator("#terminal-output")).to_contain_text("at the prompt", timeout=60_000)
        return
    await page.locator(".jp-NotebookPanel .jp-CodeCell .cm-content").first.click(timeout=60_000)
    await page.keyboard.press("Shift+Enter")
    await expect(page.locator(".jp-OutputArea-output").first).to_contain_text("42", timeout=60_000)
    file = case.at_work.person.live.homes / str(case.at_work.person.me["username"]) / "work.ipynb"
    deadline = monotonic() + PATIENCE_SECONDS
    while "42\\n" not in file.read_text():
        assert monotonic() < deadline, "the notebook is not saved"
        await page.keyboard.press("Control+s")
        await asyncio.sleep(1)


def write_files(live: LivePlatform, person: Person) -> None:
    """As if they had been made before: a new notebook is given a name in a dialog."""
    cell: dict[str, Any] = {"cell_type": "code", "id": "first", "execution_count": None, "metadata": {}, "outputs": []}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": [cell | {"source": "print(6 * 7)"}]}
    home = live.homes / str(person.me["username"])
    owner = home.stat()
    for name, text in {**FILES, "work.ipynb": json.dumps(notebook)}.items():
        (home / name).write_text(text)
        os.chown(home / name, owner.st_uid, owner.st_gid)


# -- the scene ---------------------------------------------------------------------------------------------------------

BOTH = ("jupyterlab", "rstudio")
ENDED = ("stopped", "frozen")
POLICY = {
    "everyone": {"action": "stop", "idle_minutes": 1},
    "rules": [{"environment": "rstudio", "action": "freeze", "idle_minutes": 1}],
}
KEPT: dict[Callable[[Scene, Case], Awaitable[None]], tuple[str, ...]] = {
    a_running_cell: ("jupyterlab",),
    an_r_loop_in_the_console: ("rstudio",),
    an_r_script_in_a_terminal: ("rstudio",),
    make_in_a_terminal: BOTH,
    a_slow_download: BOTH,
    a_person_typing: BOTH,
}
NOT_KEPT: dict[Callable[[Scene, Case], Awaitable[None]], tuple[str, ...]] = {
    an_open_untouched_tab: BOTH,
    a_closed_tab_with_an_idle_kernel: BOTH,
    a_terminal_at_its_prompt: ("jupyterlab",),
}


def names_of(things: dict[Callable[[Scene, Case], Awaitable[None]], tuple[str, ...]], *which: str) -> list[str]:
    return [f"{one.__name__}-{where}" for one, places in things.items() for where in places if one.__name__ in which]


@pytest.fixture(scope="module")
async def cases(
    tmp_path_factory: pytest.TempPathFactory, mail: MailServer, browser: Browser
) -> AsyncIterator[dict[str, Case]]:
    """All of them, after twice the time of the policy."""
    (port,) = free_ports(1)
    gateway = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")
    tables = {
        "activity": {"sample_seconds": SAMPLE_SECONDS},
        "idle": {"settle_minutes": 0},
        "egress": {"allow": [f"{gateway}/32:{port}"]},
        "capacity": {"starts_at_once": AT_ONCE},
    }
    live = LivePlatform(tmp_path_factory.mktemp("idle"), mail, tables)
    everything = {
        f"{begin.__name__}-{environment}": Case(f"{begin.__name__}-{environment}", environment, begin)
        for begin, environments in (KEPT | NOT_KEPT).items()
        for environment in environments
    }
    async with AsyncExitStack() as stack:
        stack.push_async_callback(live.stop)
        await live.start()
        await stack.enter_async_context(slow_server(gateway, port))
        scene = Scene(live, browser, stack, f"http://{gateway}:{port}/")
        for number, case in enumerate(everything.values()):
            case.person = await stack.enter_async_context(live.person(f"person{number}@example.org"))
            case.instance_id = (await case.person.launch(case.environment, memory="1g"))["id"]
            case.work = AtWork(case.person, case.instance_id)
            stack.push_async_callback(case.work.close)
        few = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(begun(scene, case, few) for case in everything.values()))
        async with live.person("admin@example.org") as admin:
            answer = await admin.http.put("/api/v1/admin/policies", json=POLICY)
            assert answer.status_code == 200, answer.text
        await watch(live, list(everything.values()))
        yield everything
        for task in scene.typing:
            task.cancel()


async def begun(scene: Scene, case: Case, few: asyncio.Semaphore) -> None:
    async with few:
        await case.at_work.person.wait_for(case.instance_id, "running", patience_seconds=600)
        write_files(scene.live, case.at_work.person)
        await case.begin(scene, case)


@asynccontextmanager
async def slow_server(host: str, port: int) -> AsyncIterator[None]:
    """What is downloaded from it never comes to an end, and comes slowly."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(b"." * (SLOW_BYTES_PER_SECOND // 4))
                await asyncio.sleep(0.25)
        return response

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()


async def watch(live: LivePlatform, cases: Collection[Case]) -> None:
    """Twice the policy's time, and until what is to end has ended."""
    enough, deadline = monotonic() + WATCHED_SECONDS, monotonic() + WATCHED_SECONDS + PATIENCE_SECONDS
    while True:
        for case in cases:
            await case.look()
        goes_on = [case for case in cases if case.begin in NOT_KEPT and case.instance["state"] not in ENDED]
        if monotonic() > enough and (not goes_on or monotonic() > deadline):
            break
        await asyncio.sleep(SAMPLE_SECONDS)
    for case in cases:
        case.decisions = await case.ask("/idle-decisions")


def idle_for(said: dict[str, Any]) -> timedelta:
    """For how long neither a person nor work had been seen at the look."""
    seen = [said[name] for name in ("last_person_at", "last_work_at") if said[name]]
    return instant(said["sampled_at"]) - max(map(instant, seen))


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


# -- what comes of it --------------------------------------------------------------------------------------------------


def stays(case: Case, evidence: str) -> None:
    """It runs, nothing was done to it, and what was seen of it says why; a person needs no words."""
    assert case.instance["state"] == "running", case.things
    assert {one["verdict"] for one in case.decisions} <= {"keep"}, case.things
    assert max(map(idle_for, case.said)) < IDLE, case.things
    seen = {one["evidence"] for one in case.said}
    assert any(one.startswith(evidence) for one in seen if one) if evidence else case.said[-1]["last_person_at"], (
        case.things
    )


def ends(case: Case) -> None:
    """It was stopped or frozen as its rule says, once, and it is told why."""
    assert case.instance["state"] == ("stopped" if case.environment == "jupyterlab" else "frozen"), case.things
    (decision,) = (one for one in case.decisions if one["verdict"] != "keep")
    assert decision["verdict"] == ("stop" if case.environment == "jupyterlab" else "freeze"), case.things
    assert decision["why"] == "idle", case.things
    assert "no person and no work" in decision["evidence"], case.things
    assert instant(decision["at"]) - instant(decision["idle_since"]) >= IDLE, case.things


@pytest.mark.parametrize("name", names_of(KEPT, "a_running_cell"))
async def test_a1_a_running_cell(cases: dict[str, Case], name: str) -> None:
    stays(cases[name], "a notebook is running")


@pytest.mark.parametrize("name", names_of(KEPT, "an_r_loop_in_the_console", "an_r_script_in_a_terminal"))
async def test_a2_r_that_sleeps_and_computes_from_time_to_time(cases: dict[str, Case], name: str) -> None:
    stays(cases[name], "R")


@pytest.mark.parametrize("name", names_of(KEPT, "make_in_a_terminal"))
async def test_a3_make_in_a_terminal(cases: dict[str, Case], name: str) -> None:
    stays(cases[name], "make, ")


@pytest.mark.parametrize("name", names_of(KEPT, "a_slow_download"))
async def test_a4_a_download_that_takes_little_processor_time(cases: dict[str, Case], name: str) -> None:
    stays(cases[name], "transferring data")


@pytest.mark.parametrize("name", names_of(KEPT, "a_person_typing"))
async def test_a5_a_person_typing(cases: dict[str, Case], name: str) -> None:
    stays(cases[name], "")


@pytest.mark.parametrize("name", names_of(NOT_KEPT, "an_open_untouched_tab"))
async def test_a6_an_open_untouched_tab_does_not(cases: dict[str, Case], name: str) -> None:
    ends(cases[name])


@pytest.mark.parametrize("name", names_of(NOT_KEPT, "a_closed_tab_with_an_idle_kernel"))
async def test_a7_a_closed_tab_with_an_idle_kernel_does_not(cases: dict[str, Case], name: str) -> None:
    ends(cases[name])


@pytest.mark.parametrize("name", names_of(NOT_KEPT, "a_terminal_at_its_prompt"))
async def test_a8_a_terminal_at_its_prompt_does_not(cases: dict[str, Case], name: str) -> None:
    ends(cases[name])
