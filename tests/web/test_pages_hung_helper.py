"""A helper that takes every question and never answers: pages, API and gate go on without what it would have said."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
from aiohttp import web

from launchpad.helper_client import HelperClient
from launchpad.runtime.fake import FakeRuntime
from launchpad.settings import tables
from launchpad.storage.helper import HelperHomes
from launchpad.web.app import create_app
from launchpad.wiring import build_platform

from .pages_client import ADMIN, INSTANCES_URL, PUBLIC_URL, DirectoryHomes, Letters, Person, Portal

# Far below the patience of nginx with its questions to the gate (5 s), far above what a busy machine needs.
SHORT_SECONDS = 3.0
ASKED = 8


class HungHelper:
    """Answers what signing in needs until `hangs` is set."""

    def __init__(self) -> None:
        self.hangs = False
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        verb = request.match_info["verb"]
        self.asked.append(verb)
        if self.hangs or verb not in ("homes-owners", "home-exists"):
            await asyncio.Event().wait()
        return web.json_response({"value": [] if verb == "homes-owners" else False})


@asynccontextmanager
async def portal_with_helper(folder: Path) -> AsyncIterator[tuple[Portal, HungHelper]]:
    helper = HungHelper()
    application = web.Application()
    application.router.add_post("/{verb}", helper.answer)
    serving = web.AppRunner(application, shutdown_timeout=0.1)
    await serving.setup()
    socket = folder / "helper.sock"
    await web.UnixSite(serving, str(socket)).start()
    line = HelperClient(socket)
    given: dict[str, Any] = {
        "public_url": PUBLIC_URL,
        "instances_url": INSTANCES_URL,
        "state_dir": folder / "state",
        "admin_emails": [ADMIN],
    }
    letters = Letters()
    platform = build_platform(tables(given), helper=line, homes=HelperHomes(line, folder / "homes"), mailer=letters)
    app = create_app(platform)
    portal = Portal(platform, app, FakeRuntime("test"), letters, DirectoryHomes(folder / "homes"))
    async with app.router.lifespan_context(app):
        try:
            yield portal, helper
        finally:
            for person in portal.people:
                await person.http.aclose()
            await serving.cleanup()


@pytest.fixture
def short_folder() -> Any:
    with tempfile.TemporaryDirectory(prefix="lp-") as name:
        yield Path(name)


async def took(person: Person, path: str, **headers: str) -> tuple[float, httpx.Response]:
    began = monotonic()
    answer = await person.http.get(path, headers=headers, follow_redirects=False)
    return monotonic() - began, answer


@pytest.mark.slow
async def test_nobody_waits_for_a_helper_that_never_answers(short_folder: Path) -> None:
    async with portal_with_helper(short_folder) as (portal, helper):
        admin = await portal.signed_in(ADMIN)
        helper.hangs = True
        pages = [
            asyncio.create_task(took(admin, path))
            for path in ("/admin", "/dashboard", "/account", "/admin/limits", "/api/v1/environments")
            for _ in range(2)
        ]
        while not pages[0].done():  # the gate and /me answer while these pages are on their way
            for path in ("/gate/authorize", "/api/v1/me", "/api/v1/instances"):
                seconds, answer = await took(admin, path, Accept="application/json")
                assert seconds < SHORT_SECONDS, f"{path} took {seconds:.1f} s"
                assert answer.status_code == (401 if path.startswith("/gate") else 200)
        for seconds, answer in await asyncio.gather(*pages):
            assert answer.status_code == 200
            assert seconds < SHORT_SECONDS, f"{answer.url} took {seconds:.1f} s"
        assert helper.asked, "the helper was asked, and nobody waited for it"


@pytest.mark.slow
async def test_once_it_hangs_pages_do_not_wait_again_and_again(short_folder: Path) -> None:
    async with portal_with_helper(short_folder) as (portal, helper):
        admin = await portal.signed_in(ADMIN)
        helper.hangs = True
        await took(admin, "/dashboard")
        began = monotonic()
        for _ in range(ASKED):
            assert (await took(admin, "/dashboard"))[1].status_code == 200
        assert monotonic() - began < SHORT_SECONDS, "each of them waited for itself"
