"""The faults that the fake can be told to have, for tests of the services."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from contract.conftest import specification
from launchpad.errors import EngineRefused, EngineUnavailable, ImageMissing
from launchpad.runtime.base import ContainerState, RuntimeEvent
from launchpad.runtime.fake import FakeRuntime

ID, OTHER = "a" * 16, "b" * 16


async def test_while_it_is_down_nothing_answers_and_what_runs_goes_on(fake: FakeRuntime) -> None:
    started = await fake.start(specification("any:1"))
    listening = fake.events()
    fake.go_down()
    for ask in (
        fake.host(),
        fake.ensure_network(),
        fake.start(specification("any:1", OTHER)),
        fake.find(ID),
        fake.list_containers(),
        fake.stop(ID, 1),
        fake.remove(ID),
        fake.usage(ID),
        fake.log_tail(ID),
        fake.image_exists("any:1"),
        fake.list_images(),
        fake.image_languages("any:1"),
        anext(listening),
    ):
        with pytest.raises(EngineUnavailable):
            await ask
    async with aiohttp.ClientSession() as http, http.get(f"http://{started.address}/") as answer:
        assert await answer.text() == ID
    fake.come_back()
    assert await fake.find(ID) == started
    assert len(await fake.list_containers()) == 1


async def test_listeners_are_told_that_it_went_down(fake: FakeRuntime) -> None:
    listening = fake.events()
    waiting = asyncio.ensure_future(anext(listening))
    await asyncio.sleep(0)
    fake.go_down()
    with pytest.raises(EngineUnavailable):
        await waiting


async def test_held_starts_go_on_when_they_are_released(fake: FakeRuntime) -> None:
    fake.hold_starts()
    starting = asyncio.create_task(fake.start(specification("any:1")))
    await asyncio.sleep(0.05)
    assert not starting.done()
    assert await fake.find(ID) is None
    fake.release_starts()
    assert (await starting).state is ContainerState.RUNNING


async def test_what_is_killed_has_ended_and_tells_why(fake: FakeRuntime) -> None:
    listening = fake.events()
    await fake.start(specification("any:1"))
    await fake.kill(ID, out_of_memory=True)
    assert [await anext(listening) for _ in range(3)] == [
        RuntimeEvent(ID, "started"),
        RuntimeEvent(ID, "out-of-memory"),
        RuntimeEvent(ID, "ended"),
    ]
    found = await fake.find(ID)
    assert found is not None
    assert (found.state, found.exit_code, found.out_of_memory) == (ContainerState.EXITED, 137, True)


async def test_an_end_closes_the_port_and_every_connection(fake: FakeRuntime) -> None:
    started = await fake.start(specification("any:1"))
    assert started.address is not None
    reader, writer = await asyncio.open_connection(started.address.host, started.address.port)
    await asyncio.sleep(0.05)
    await fake.kill(ID, exit_code=1)
    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection(started.address.host, started.address.port)


async def test_images_can_be_missing_unknown_or_out_of_reach(fake: FakeRuntime) -> None:
    fake.missing_images |= {"a:1", "b:1"}
    fake.unknown_images.add("b:1")
    with pytest.raises(ImageMissing):
        await fake.start(specification("a:1"))
    fake.registry_answers = False
    with pytest.raises(EngineRefused):
        [step async for step in fake.pull_image("a:1")]
    assert not await fake.image_exists("a:1")
    fake.registry_answers = True
    with pytest.raises(ImageMissing):
        [step async for step in fake.pull_image("b:1")]
    assert [step.fraction async for step in fake.pull_image("a:1")]
    assert await fake.image_exists("a:1")


async def test_builds_can_fail(fake: FakeRuntime, tmp_path: Path) -> None:
    """What was built is listed, newest first."""
    fake.missing_images |= {"a:1", "b:1", "c:1"}
    fake.broken_builds.add("c:1")
    for tag in ("a:1", "b:1"):
        [step async for step in fake.build_image(context_tar=tmp_path, tag=tag, build_args={}, labels={"recipe": "x"})]
        assert await fake.image_exists(tag)
    with pytest.raises(EngineRefused):
        [step async for step in fake.build_image(context_tar=tmp_path, tag="c:1", build_args={}, labels={})]
    assert [image.references for image in await fake.list_images("recipe")] == [("b:1",), ("a:1",)]
    assert not await fake.image_exists("c:1")
