"""An engine that is slow, odd, new, or gone halfway: what a stub on a socket can show and a healthy engine cannot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import monotonic

import pytest
from aiohttp import web

from contract.conftest import engine_settings
from launchpad.errors import EngineRefused, EngineUnavailable, ImageMissing, SettingsError
from launchpad.runtime import engine_images
from launchpad.runtime.engine import EngineRuntime

ID = "a" * 16
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StubEngine:
    """Tells its version; everything else is answered by `answer`. `paths` are those that were asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = {"ApiVersion": "1.41", "MinAPIVersion": "1.12"}
        self.answer: Handler = self.forget
        self.paths: list[str] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self.path.unlink(missing_ok=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/version":
            return web.json_response(self.version)
        self.paths.append(request.path_qs)
        return await self.answer(request)

    async def forget(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"message": "no such thing"}, status=404)


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[StubEngine]:
    stub = StubEngine(tmp_path / "engine.sock")
    await stub.start()
    yield stub
    await stub.stop()


@pytest.fixture
async def runtime(stub: StubEngine) -> AsyncIterator[EngineRuntime]:
    runtime = EngineRuntime(engine_settings(host=f"unix://{stub.path}"), "stub", answer_seconds=0.5)
    yield runtime
    await runtime.aclose()


async def pieces(request: web.Request, *parts: bytes, breaks_off: bool = False) -> web.StreamResponse:
    """An answer in pieces, with or without an end."""
    response = web.StreamResponse()
    await response.prepare(request)
    for part in parts:
        await response.write(part)
    if breaks_off:
        assert request.transport is not None
        request.transport.abort()
        await asyncio.sleep(0.1)
    return response


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"),
    [("1.41", "1.12", "v1.41"), ("1.44", "1.24", "v1.44"), ("1.52", "1.44", "v1.44"), ("1.60", "1.50", "v1.50")],
)
async def test_the_api_version_that_both_know_is_spoken(
    stub: StubEngine, runtime: EngineRuntime, newest: str, oldest: str, spoken: str
) -> None:
    stub.version = {"ApiVersion": newest, "MinAPIVersion": oldest}
    await runtime.image_exists("a/b:1")
    assert stub.paths == [f"/{spoken}/images/a/b:1/json"]


async def test_an_engine_that_was_replaced_by_a_newer_one_is_asked_anew(
    stub: StubEngine, runtime: EngineRuntime
) -> None:
    await runtime.image_exists("a/b:1")
    await stub.stop()
    with pytest.raises(EngineUnavailable):
        await runtime.image_exists("a/b:1")
    stub.version = {"ApiVersion": "1.52", "MinAPIVersion": "1.44"}
    await stub.start()
    await runtime.image_exists("a/b:1")
    assert [path.split("/")[1] for path in stub.paths] == ["v1.41", "v1.44"]


async def test_an_engine_that_hangs_is_given_up(stub: StubEngine, runtime: EngineRuntime) -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError("nobody waits that long")

    stub.answer = hang
    began = monotonic()
    for ask in (runtime.host(), runtime.find(ID), runtime.stop(ID, 600), runtime.usage(ID), runtime.ensure_network()):
        with pytest.raises(EngineUnavailable):
            await ask
    assert monotonic() - began < 5


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("content_type", ["application/json", "text/html"])
async def test_what_does_not_speak_as_an_engine_is_none(
    stub: StubEngine, runtime: EngineRuntime, status: int, content_type: str
) -> None:
    """A user reads our words, whatever it says."""

    async def babble(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<h1>It works!</h1>", status=status, content_type=content_type)

    stub.answer = babble
    for ask in (runtime.host(), runtime.find(ID), runtime.list_containers()):
        with pytest.raises((EngineUnavailable, EngineRefused)) as error:
            await ask
        assert "It works" not in error.value.detail


async def test_the_engines_words_reach_no_user(stub: StubEngine, runtime: EngineRuntime) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.json_response({"message": "secret: /srv/inner/path"}, status=500)

    stub.answer = refuse
    for ask in (runtime.host(), runtime.find(ID), runtime.stop(ID, 1), runtime.usage(ID), runtime.list_images()):
        with pytest.raises(EngineRefused) as error:
            await ask
        assert "inner" not in error.value.detail


async def test_a_build_that_breaks_off_has_not_succeeded(
    stub: StubEngine, runtime: EngineRuntime, tmp_path: Path
) -> None:
    context = tmp_path / "context.tar"
    context.write_bytes(b"x" * 100_000)

    async def break_off(request: web.Request) -> web.StreamResponse:
        await request.read()
        return await pieces(request, b'{"stream":"Step 1/2 : FROM a"}\n', breaks_off=True)

    stub.answer = break_off
    steps = runtime.build_image(context_tar=context, tag="a:1", build_args={}, labels={})
    assert (await anext(steps)).text == "Step 1/2 : FROM a"
    with pytest.raises(EngineUnavailable):
        await anext(steps)


async def test_lines_may_be_long_and_come_in_any_pieces(
    stub: StubEngine, runtime: EngineRuntime, tmp_path: Path
) -> None:
    context = tmp_path / "context.tar"
    context.write_bytes(b"x")
    long = "x" * 300_000
    printed = json.dumps({"stream": f"{long}\n"}) + "\r\n" + json.dumps({"stream": "done\n"}) + "\r\n"

    async def print_it(request: web.Request) -> web.StreamResponse:
        await request.read()
        text = printed.encode()
        return await pieces(request, *(text[at : at + 7001] for at in range(0, len(text), 7001)))

    stub.answer = print_it
    steps = runtime.build_image(context_tar=context, tag="a:1", build_args={}, labels={})
    assert [progress.text async for progress in steps] == [long, "done"]


async def test_who_stops_listening_leaves_no_connection(stub: StubEngine, runtime: EngineRuntime) -> None:
    gone = asyncio.Event()

    async def tell_for_ever(request: web.Request) -> web.StreamResponse:
        event = {"Action": "start", "Actor": {"Attributes": {"org.launchpad.instance": ID}}}
        try:
            response = await pieces(request, json.dumps(event).encode() + b"\n")
            while True:
                await response.write(b"\n")
                await asyncio.sleep(0.01)
        finally:
            gone.set()

    stub.answer = tell_for_ever
    listening = runtime.events()
    assert (await anext(listening)).kind == "started"
    await listening.aclose()  # type: ignore[attr-defined]
    await asyncio.wait_for(gone.wait(), 60)


async def test_more_slow_stops_than_http_clients_like_hold_up_nothing(stub: StubEngine) -> None:
    """A hundred and fifty instances that save, and the engine still answers at once."""
    runtime = EngineRuntime(engine_settings(host=f"unix://{stub.path}"), "stub")
    enough = asyncio.Event()

    async def slowly(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/stop"):
            await enough.wait()
            return web.Response(status=204)
        labels = {"org.launchpad.deployment": "stub"}
        return web.json_response({"Id": "x", "Config": {"Labels": labels}, "State": {"Running": True}})

    stub.answer = slowly
    stops = [asyncio.create_task(runtime.stop(f"{number:016}", 60)) for number in range(150)]
    while sum(path.split("?")[0].endswith("/stop") for path in stub.paths) < 150:
        await asyncio.sleep(0.01)
    assert await runtime.image_exists("a/b:1")
    enough.set()
    await asyncio.gather(*stops)
    await runtime.aclose()


@pytest.mark.parametrize(
    ("message", "status", "raised"),
    [
        ("manifest for a:1 not found: manifest unknown", 404, ImageMissing),
        ("pull access denied for a, repository does not exist or may require 'docker login'", 404, ImageMissing),
        ("Get https://hub/v2/: dial tcp: lookup hub: no such host", 500, EngineRefused),
    ],
)
async def test_a_pull_says_whether_the_image_or_the_registry_is_missing(
    stub: StubEngine, runtime: EngineRuntime, message: str, status: int, raised: type[Exception]
) -> None:
    """Whether the engine tells it by its status or within the stream."""

    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.json_response({"message": message}, status=status)

    async def refuse_later(request: web.Request) -> web.StreamResponse:
        return await pieces(request, json.dumps({"status": "Pulling"}).encode(), b"\n", *in_stream)

    in_stream = (json.dumps({"error": message, "errorDetail": {"message": message}}).encode(), b"\n")
    for stub.answer in (refuse, refuse_later):
        with pytest.raises(raised):
            async for _ in runtime.pull_image("a:1"):
                pass


async def test_a_registry_that_does_not_answer_is_given_up(
    stub: StubEngine, runtime: EngineRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError("nobody waits that long")

    stub.answer = hang
    monkeypatch.setattr(engine_images, "REGISTRY_SECONDS", 0.3)
    with pytest.raises(EngineRefused, match="no registry answers"):
        async for _ in runtime.pull_image("a:1"):
            pass


async def test_a_pull_tells_how_far_it_is(stub: StubEngine, runtime: EngineRuntime) -> None:
    """And asks for one tag only."""
    steps = [
        {"status": "Pulling from a/b", "id": "latest"},
        {"status": "Downloading", "id": "1", "progressDetail": {"current": 10, "total": 40}},
        {"status": "Downloading", "id": "2", "progressDetail": {"current": 30, "total": 40}},
        {"status": "Download complete", "id": "2", "progressDetail": {}},
    ]

    async def pull(request: web.Request) -> web.StreamResponse:
        return await pieces(request, *(json.dumps(step).encode() + b"\n" for step in steps))

    stub.answer = pull
    seen = [progress.fraction async for progress in runtime.pull_image("a/b")]
    assert seen == [None, 0.25, 0.5, 0.5]
    assert stub.paths == ["/v1.41/images/create?fromImage=a/b&tag=latest"]


def test_what_is_no_engines_address_is_a_fault_of_the_settings() -> None:
    with pytest.raises(SettingsError, match=r"engine\.host"):
        EngineRuntime(engine_settings(host="/var/run/docker.sock"), "x")
