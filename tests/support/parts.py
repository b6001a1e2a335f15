"""Fixtures of real parts for every folder: one SMTP server and one browser, platforms on demand."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, async_playwright, expect

from .live import LivePlatform, StartPlatform
from .open_program import Program, open_program
from .smtp import MailServer

expect.set_options(timeout=90_000)  # a slow machine is no fault

# The same browser without what draws windows: half of the processor time that the whole one takes.
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium-headless-shell")
WHOLE_CHROMIUM = os.environ.get("WHOLE_CHROMIUM", "/usr/bin/chromium")
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def mail() -> Iterator[MailServer]:
    server = MailServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def start_platform(tmp_path: Path, mail: MailServer) -> AsyncIterator[StartPlatform]:
    """Starts a platform with these tables over the settings; it is stopped, with its instances, after the test."""
    started: list[LivePlatform] = []

    async def start(tables: Mapping[str, Any] | None = None, *, below: Path = tmp_path, **how: Any) -> LivePlatform:
        folder = below / f"platform-{len(started)}"
        folder.mkdir()
        live = LivePlatform(folder, mail, tables, **how)
        started.append(live)
        await live.start()
        return live

    yield start
    for live in started:
        await live.stop()


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    """The program under test, as a user without rights can run it."""
    with open_program() as made:
        yield made


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own are root's alone."""
    with tempfile.TemporaryDirectory(prefix="launchpad-open-folder-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
async def shared_platform(tmp_path_factory: pytest.TempPathFactory, mail: MailServer) -> AsyncIterator[LivePlatform]:
    """One platform for the tests that leave it as they found it; every test uses users of its own."""
    live = LivePlatform(tmp_path_factory.mktemp("shared"), mail)
    await live.start()
    yield live
    await live.stop()


@asynccontextmanager
async def _launched(program: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        variables: dict[str, str | float | bool] = {**os.environ, "CHROMIUM": program}
        alone = Path(__file__).with_name("browser_alone.py")
        browser = await playwright.chromium.launch(executable_path=alone, env=variables, args=CHROMIUM_ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with _launched(CHROMIUM) as browser:
        yield browser


@pytest.fixture
async def whole_browser() -> AsyncIterator[Browser]:
    """With Chromium's own program for PDF files."""
    async with _launched(WHOLE_CHROMIUM) as browser:
        yield browser
