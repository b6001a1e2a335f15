"""What is known of versions of Docker Engine, and how the runtime goes round it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from launchpad.runtime.base import LABEL_DEPLOYMENT
from launchpad.runtime.engine import EngineRuntime
from launchpad.runtime.engine_versions import hangs_when_many_end
from launchpad.settings import EngineSettings

MANY = 6
DEPLOYMENT = "f" * 32


@pytest.mark.parametrize(
    ("version", "hangs"),
    [
        ("20.10.24+dfsg1", True),
        ("20.10.26", True),
        ("20.10.27", False),
        ("23.0.0-rc.1", False),
        ("28.2.2", False),
        ("19.03.15", True),
        ("", True),
        ("fake", True),
    ],
)
def test_versions_that_hang_when_many_end(version: str, hangs: bool) -> None:
    assert hangs_when_many_end(version) is hangs


class Ends:
    """How many containers end at the same time, at most."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.now = 0
        self.most = 0
        self.all = 0
        self.everybody_is_here = asyncio.Event()

    async def tell_version(self, _: web.Request) -> web.Response:
        return web.json_response({"Version": self.version, "ApiVersion": "1.41", "MinAPIVersion": "1.12"})

    async def inspect(self, request: web.Request) -> web.Response:
        labels = {LABEL_DEPLOYMENT: DEPLOYMENT}
        found = {"Id": request.match_info["name"], "State": {"Running": True}, "Config": {"Labels": labels}}
        return web.json_response(found)

    async def end(self, _: web.Request) -> web.Response:
        self.now += 1
        self.all += 1
        self.most = max(self.most, self.now)
        if self.now == MANY:
            self.everybody_is_here.set()
        if not hangs_when_many_end(self.version):  # each waits for all others, so that they must come together
            await self.everybody_is_here.wait()
        for _turn in range(20):  # whoever may come together would be here by now
            await asyncio.sleep(0)
        self.now -= 1
        return web.Response(status=204)


@asynccontextmanager
async def engine_of(ends: Ends) -> AsyncIterator[EngineRuntime]:
    app = web.Application()
    app.router.add_get("/version", ends.tell_version)
    app.router.add_get("/{version}/containers/{name}/json", ends.inspect)
    app.router.add_delete("/{version}/containers/{name}", ends.end)
    app.router.add_post("/{version}/containers/{name}/stop", ends.end)
    runner = web.AppRunner(app)
    await runner.setup()
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        socket = Path(folder) / "engine.sock"
        await web.UnixSite(runner, str(socket)).start()
        engine = EngineRuntime(EngineSettings(host=f"unix://{socket}"), DEPLOYMENT)
        try:
            yield engine
        finally:
            await engine.aclose()
            await runner.cleanup()


@pytest.mark.parametrize(("version", "most"), [("20.10.24+dfsg1", 1), ("28.2.2", MANY)])
async def test_ends_are_kept_apart_where_the_engine_would_hang(
    monkeypatch: pytest.MonkeyPatch, version: str, most: int
) -> None:
    for name in ("REMOVALS_APART_SECONDS", "STOPS_APART_SECONDS"):
        monkeypatch.setattr(f"launchpad.runtime.engine.{name}", 60.0)
    ends = Ends(version)
    async with engine_of(ends) as engine:
        ids = [f"{number:016}" for number in range(MANY)]
        await asyncio.gather(
            *(engine.remove(one) for one in ids[::2]), *(engine.stop(one, grace_seconds=5) for one in ids[1::2])
        )
    assert (ends.all, ends.most) == (MANY, most)


class SlowEnds(Ends):
    """Nobody ends before two are asked to."""

    async def end(self, _: web.Request) -> web.Response:
        self.all += 1
        if self.all == 2:
            self.everybody_is_here.set()
        await self.everybody_is_here.wait()
        return web.Response(status=204)


async def test_an_end_that_takes_long_does_not_hold_up_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launchpad.runtime.engine.STOPS_APART_SECONDS", 0.01)
    ends = SlowEnds("20.10.24")
    async with engine_of(ends) as engine:
        await asyncio.gather(*(engine.stop(f"{number:016}", grace_seconds=5) for number in range(2)))
    assert ends.all == 2


async def test_a_cancelled_end_lets_the_next_go() -> None:
    ends = Ends("20.10.24")
    async with engine_of(ends) as engine:
        await engine.remove("1" * 16)
        await engine._ending.acquire()
        waiting = asyncio.ensure_future(engine.remove("2" * 16))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        engine._ending.release()
        await engine.remove("3" * 16)
    assert ends.all == 2
