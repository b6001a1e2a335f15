"""What `runtime/base.py` promises, held against the fake and against Docker Engine alike."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic

import aiohttp
import pytest

from contract.conftest import specification
from launchpad.domain.instances import Address
from launchpad.errors import EngineRefused, GpuUnavailable, ImageMissing
from launchpad.runtime.base import (
    NORMAL_CPU_WEIGHT,
    BindMount,
    Caps,
    ConnectionCutter,
    Container,
    ContainerState,
    Engine,
    MemoryWatch,
)
from launchpad.runtime.fake import FakeRuntime

ID, OTHER = "a" * 16, "b" * 16


async def test_host_says_what_the_machine_has(runtime: Engine) -> None:
    facts = await runtime.host()
    assert facts.cpus >= 1
    assert facts.memory_bytes > 0
    assert facts.engine_version
    assert facts.cgroup_version in ("1", "2")
    assert facts.cgroup_driver
    limits = (facts.can_limit_memory, facts.can_limit_swap, facts.can_limit_cpus, facts.can_limit_pids)
    assert limits == (True, True, True, True)
    assert facts.outlives_restart is not None
    assert "seccomp" in facts.security


async def test_the_network_is_looked_at_and_left_as_it_is(runtime: Engine) -> None:
    """There is none before the first launch, and looking makes none; made, nothing is missing in it."""
    assert await runtime.network() == replace(await runtime.network(), exists=False, gaps=())
    await runtime.ensure_network()
    made = await runtime.network()
    assert (made.exists, made.gaps, made.shielded) == (True, (), True)


async def test_what_a_container_is_held_to(runtime: Engine, small_image: str) -> None:
    """As it was asked for, and nothing of one that does not run."""
    await runtime.ensure_network()
    spec = specification(small_image)
    assert await runtime.caps(ID) is None
    await runtime.start(spec)
    assert await runtime.caps(ID) == Caps(spec.memory_bytes, 0, spec.cpus, spec.pids_limit)
    await runtime.stop(ID, 1)
    assert await runtime.caps(ID) is None


async def test_memory_is_seen_to_and_nothing_was_ended(runtime: Engine, small_image: str) -> None:
    await runtime.ensure_network()
    await runtime.start(specification(small_image))
    assert await runtime.tend_memory() == {}
    assert await runtime.memory_watch() == MemoryWatch()


async def test_what_is_written_outside_of_mounts_is_told_of_what_is_up(runtime: Engine, small_image: str) -> None:
    await runtime.ensure_network()
    assert await runtime.written_all() == {}
    await runtime.start(specification(small_image))
    written = await runtime.written_all()
    assert list(written) == [ID]
    assert 0 <= written[ID] < 2**20
    await runtime.stop(ID, 1)
    assert await runtime.written_all() == {}


async def test_started_container_answers_on_loopback(runtime: Engine, small_image: str) -> None:
    """It runs, belongs to whom it was started for, and is reached at its address."""
    await runtime.ensure_network()
    container = await runtime.start(specification(small_image))
    assert (container.instance_id, container.owner_id, container.environment) == (ID, "owner", "small")
    assert container.state is ContainerState.RUNNING
    assert container.address is not None
    assert container.address.host == "127.0.0.1"
    async with aiohttp.ClientSession() as http:
        for _ in range(100):
            try:
                async with http.get(f"http://{container.address}/") as answer:
                    assert answer.status < 500
                    break
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
        else:
            raise AssertionError("it does not answer")


async def test_start_is_idempotent(runtime: Engine, small_image: str) -> None:
    """Started again, also several times at once, it is one container, and the same."""
    await runtime.ensure_network()
    spec = specification(small_image)
    first, *others = await asyncio.gather(*(runtime.start(spec) for _ in range(3)))
    assert [first, first] == others
    assert await runtime.start(spec) == first
    assert [one.instance_id for one in await runtime.list_containers()] == [ID]


async def test_an_ended_container_is_made_anew(runtime: Engine, small_image: str) -> None:
    await runtime.ensure_network()
    spec = specification(small_image)
    await runtime.start(spec)
    await runtime.stop(ID, 1)
    ended = await runtime.find(ID)
    assert ended is not None
    assert ended.state is ContainerState.EXITED
    assert ended.address is None
    assert ended.exit_code is not None
    again = await runtime.start(spec)
    assert again.state is ContainerState.RUNNING


async def test_missing_image_is_refused_at_once(runtime: Engine) -> None:
    """Nothing is pulled, nothing is left behind."""
    await runtime.ensure_network()
    began = monotonic()
    with pytest.raises(ImageMissing):
        await runtime.start(specification("launchpad-test/none:1"))
    assert monotonic() - began < 5
    assert await runtime.find(ID) is None
    assert await runtime.list_containers() == []


async def test_missing_mount_is_refused_and_not_made(runtime: Engine, small_image: str, tmp_path: Path) -> None:
    await runtime.ensure_network()
    missing = tmp_path / "not-there"
    with pytest.raises(EngineRefused) as refused:
        await runtime.start(specification(small_image, mounts=(BindMount(missing, "/home/x"),)))
    assert "not-there" not in refused.value.detail, "the engine's own words reach nobody"
    assert not missing.exists()
    assert await runtime.list_containers() == []


async def test_a_gpu_that_is_not_there_is_refused_in_the_users_words(runtime: Engine, small_image: str) -> None:
    """No server has a GPU of that id; without one, the same launch works, and nothing of the refused one is left."""
    await runtime.ensure_network()
    with pytest.raises(GpuUnavailable, match="needs a GPU, and this server has none available"):
        await runtime.start(specification(small_image, gpus=("GPU-00000000-0000-0000-0000-000000000000",)))
    assert await runtime.list_containers() == []
    assert (await runtime.start(specification(small_image))).state is ContainerState.RUNNING


async def test_unknown_ids_are_no_errors(runtime: Engine) -> None:
    """Stop, remove and questions about what is not there."""
    await runtime.stop(OTHER, 1)
    await runtime.remove(OTHER)
    assert await runtime.find(OTHER) is None
    assert await runtime.usage(OTHER) is None
    assert await runtime.log_tail(OTHER) == ""


async def test_stop_and_remove_twice(runtime: Engine, small_image: str) -> None:
    await runtime.ensure_network()
    await runtime.start(specification(small_image))
    for _ in range(2):
        await runtime.stop(ID, 1)
    for _ in range(2):
        await runtime.remove(ID)
    assert await runtime.find(ID) is None


async def test_remove_ends_what_runs(runtime: Engine, small_image: str) -> None:
    await runtime.ensure_network()
    await runtime.start(specification(small_image))
    await runtime.remove(ID)
    assert await runtime.list_containers() == []


async def test_usage_of_what_runs(runtime: Engine, small_image: str) -> None:
    await runtime.ensure_network()
    await runtime.start(specification(small_image))
    usage = await runtime.usage(ID)
    assert usage is not None
    assert 0 < usage.memory_bytes <= 64 * 1024**2
    assert usage.pids >= 1
    await runtime.stop(ID, 1)
    assert await runtime.usage(ID) is None


async def test_usage_of_all_that_run_in_one_look(runtime: Engine, small_image: str) -> None:
    """Each by its instance's id; not of one that has ended, nor of one that is gone, nor of other deployments'."""
    await runtime.ensure_network()
    assert await runtime.usage_all() == {}
    third = "c" * 16
    for instance_id in (ID, OTHER, third):
        await runtime.start(specification(small_image, instance_id))
    used = await runtime.usage_all()
    assert set(used) == {ID, OTHER, third}
    for usage in used.values():
        assert 0 < usage.memory_bytes <= 64 * 1024**2
        assert usage.pids >= 1
        assert usage.peak_memory_bytes is None or usage.peak_memory_bytes >= usage.memory_bytes
    await runtime.stop(ID, 1)
    await runtime.remove(OTHER)
    assert set(await runtime.usage_all()) == {third}
    await runtime.start(specification(small_image))
    assert set(await runtime.usage_all()) == {ID, third}


async def test_what_goes_on_in_all_that_run_in_one_look(runtime: Engine, small_image: str) -> None:
    """Its use is that of `usage`; counts never go back; one that is paused is told apart."""
    await runtime.ensure_network()
    assert await runtime.activity_all() == {}
    for instance_id in (ID, OTHER):
        await runtime.start(specification(small_image, instance_id))
    first = await runtime.activity_all()
    assert set(first) == {ID, OTHER}
    await runtime.pause(OTHER)
    second = await runtime.activity_all()
    assert (second[ID].is_paused, second[OTHER].is_paused) == (False, True)
    for before, after in ((first[one], second[one]) for one in (ID, OTHER)):
        assert 0 < after.usage.memory_bytes <= after.memory_with_cache_bytes <= 64 * 1024**2
        assert after.usage.cpu_seconds >= before.usage.cpu_seconds
        assert after.disk_read_bytes >= before.disk_read_bytes
        assert after.network_received_bytes >= before.network_received_bytes
        assert (after.kernels, after.terminals, after.terminal_input_at, after.r_is_busy) == (0, 0, None, False)
    await runtime.resume(OTHER)
    await runtime.stop(ID, 1)
    assert set(await runtime.activity_all()) == {OTHER}


async def test_the_list_says_what_asking_for_each_says(runtime: Engine, small_image: str) -> None:
    """Also where it has been asked before, and of those that have ended, how."""
    await runtime.ensure_network()
    for instance_id in (ID, OTHER):
        await runtime.start(specification(small_image, instance_id))
    for _ in range(2):
        listed = {one.instance_id: one for one in await runtime.list_containers()}
        assert listed == {instance_id: await runtime.find(instance_id) for instance_id in (ID, OTHER)}
    await runtime.stop(ID, 1)
    listed = {one.instance_id: one for one in await runtime.list_containers()}
    assert listed == {instance_id: await runtime.find(instance_id) for instance_id in (ID, OTHER)}
    assert listed[ID].exit_code is not None


async def test_events_tell_of_starts_and_ends(runtime: Engine, small_image: str) -> None:
    """From the call of `events` on, although nobody looks yet; nothing of before."""
    await runtime.ensure_network()
    await runtime.start(specification(small_image, OTHER))
    events = runtime.events()
    await runtime.start(specification(small_image))
    await runtime.stop(ID, 1)
    seen: list[tuple[str, str]] = []
    async with asyncio.timeout(60):
        async for event in events:
            seen.append((event.instance_id, event.kind))
            if event.kind == "ended":
                break
    assert {instance_id for instance_id, _ in seen} == {ID}
    kinds = [kind for _, kind in seen]
    assert (kinds[0], kinds[-1]) == ("started", "ended")
    assert set(kinds[1:-1]) == {"signalled"}, "asked to end, and killed if it does not, before it ends"


async def test_a_start_that_is_cancelled_can_be_repeated(runtime: Engine, small_image: str) -> None:
    await runtime.ensure_network()
    starting = asyncio.create_task(runtime.start(specification(small_image)))
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert await runtime.list_containers() == []
    assert (await runtime.start(specification(small_image))).state is ContainerState.RUNNING


async def test_many_starts_at_once(runtime: Engine, small_image: str) -> None:
    """Twenty: each has an address of its own."""
    await runtime.ensure_network()
    specs = [specification(small_image, f"{number:016}") for number in range(20)]
    started = await asyncio.gather(*(runtime.start(spec) for spec in specs))
    assert len({str(one.address) for one in started}) == 20
    assert len(await runtime.list_containers()) == 20
    await asyncio.gather(*(runtime.remove(spec.instance_id) for spec in specs))


async def test_image_exists(runtime: Engine, small_image: str) -> None:
    assert await runtime.image_exists(small_image)
    assert not await runtime.image_exists("launchpad-test/none:1")


async def test_which_languages_an_image_has(runtime: Engine, small_image: str) -> None:
    """Nothing is told of an image that has none; what is not there cannot be looked at."""
    assert await runtime.image_languages(small_image) == {}
    assert await runtime.list_containers() == []
    with pytest.raises(ImageMissing):
        await runtime.image_languages("launchpad-test/none:1")


async def test_connections_to_one_address_are_cut_and_no_others(
    runtime: Engine, cutter: ConnectionCutter, small_image: str
) -> None:
    """At once, as the client sees it; another instance's go on, and a new one can be made."""
    await runtime.ensure_network()
    one = await runtime.start(specification(small_image))
    other = await runtime.start(specification(small_image, OTHER))
    assert one.address is not None
    assert other.address is not None

    async def connect(container: Container) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert container.address is not None
        return await asyncio.open_connection(container.address.host, container.address.port)

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return (await asyncio.wait_for(reader.readline(), 60)).startswith(b"HTTP/1")

    reader, writer = await connect(one)
    others_reader, others_writer = await connect(other)
    await asyncio.sleep(0.2)
    await cutter.cut([one.address])
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 30) == b""
    assert await answers(others_reader, others_writer)
    again_reader, again_writer = await connect(one)
    assert await answers(again_reader, again_writer)
    for open_writer in (writer, others_writer, again_writer):
        open_writer.close()
    assert await cutter.can_cut()
    await cutter.cut([])
    await cutter.cut([Address("127.0.0.1", 9)])


async def test_what_a_running_container_is_held_to_can_be_changed(runtime: Engine, small_image: str) -> None:
    """Memory and its share of the processors, each alone; the container runs on, and nothing else of it changes."""
    await runtime.ensure_network()
    spec = specification(small_image)
    started = await runtime.start(spec)
    before = await runtime.caps(ID)
    assert before is not None
    assert before.cpu_weight
    await runtime.update(ID, memory_bytes=2 * spec.memory_bytes)
    larger = await runtime.caps(ID)
    assert larger == replace(before, memory_bytes=2 * spec.memory_bytes)
    assert larger is not None
    assert larger.cpu_weight == before.cpu_weight
    await runtime.update(ID, cpu_weight=10)
    low = await runtime.caps(ID)
    assert low == larger
    assert low is not None
    assert low.cpu_weight is not None
    assert low.cpu_weight <= before.cpu_weight / 4
    await runtime.update(ID, memory_bytes=spec.memory_bytes, cpu_weight=NORMAL_CPU_WEIGHT)
    after = await runtime.caps(ID)
    assert after == before
    assert after is not None
    assert after.cpu_weight == before.cpu_weight
    with pytest.raises(EngineRefused, match="does not have that much memory"):
        await runtime.update(ID, memory_bytes=2**50)
    assert await runtime.caps(ID) == before
    assert await runtime.find(ID) == started
    await runtime.stop(ID, 1)
    for instance_id in (ID, OTHER):
        with pytest.raises(EngineRefused):
            await runtime.update(instance_id, cpu_weight=10)


async def test_a_paused_container_stands_still_and_goes_on_where_it_was(runtime: Engine, small_image: str) -> None:
    """It keeps its address and its memory, and is up; asked again, both are no errors."""
    await runtime.ensure_network()
    started = await runtime.start(specification(small_image))
    assert started.address is not None

    async def asked() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert started.address is not None
        reader, writer = await asyncio.open_connection(started.address.host, started.address.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return reader, writer

    for _ in range(2):
        await runtime.pause(ID)
    paused = replace(started, state=ContainerState.PAUSED)
    assert await runtime.find(ID) == paused
    assert await runtime.list_containers() == [paused]
    assert paused.state.is_up
    usage = await runtime.usage(ID)
    assert usage is not None
    assert usage.memory_bytes > 0
    assert set(await runtime.usage_all()) == {ID}
    assert await runtime.start(specification(small_image)) == paused, "what is there is left as it is"
    reader, writer = await asked()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.5)
    for _ in range(2):
        await runtime.resume(ID)
    assert await runtime.find(ID) == started
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1")
    writer.close()


async def test_a_paused_container_can_be_ended(runtime: Engine, small_image: str) -> None:
    await runtime.ensure_network()
    for instance_id in (ID, OTHER):
        await runtime.start(specification(small_image, instance_id))
        await runtime.pause(instance_id)
    await runtime.stop(ID, 1)
    ended = await runtime.find(ID)
    assert ended is not None
    assert ended.state is ContainerState.EXITED
    await runtime.remove(OTHER)
    assert [one.instance_id for one in await runtime.list_containers()] == [ID]


async def test_only_what_is_up_can_stand_still_or_go_on(runtime: Engine, small_image: str) -> None:
    await runtime.ensure_network()
    await runtime.start(specification(small_image))
    await runtime.stop(ID, 1)
    for instance_id in (ID, OTHER):
        for ask in (runtime.pause(instance_id), runtime.resume(instance_id)):
            with pytest.raises(EngineRefused):
                await ask


async def test_what_is_sent_to_a_paused_container_waits_unread_and_is_seen(runtime: Engine, small_image: str) -> None:
    """Of whoever is still connected; pushing its memory out changes nothing that can be seen from outside."""
    await runtime.ensure_network()
    assert (await runtime.freezer()).can_freeze
    started = await runtime.start(specification(small_image))
    assert started.address is not None
    await runtime.pause(ID)
    assert await runtime.unread_bytes((ID, OTHER)) == {ID: 0}
    await runtime.push_out(ID)
    await runtime.push_out(OTHER)
    reader, writer = await asyncio.open_connection(started.address.host, started.address.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    if isinstance(runtime, FakeRuntime):
        runtime.unread[ID] = 27
    for _ in range(200):
        if (await runtime.unread_bytes((ID,)))[ID] > 0:
            break
        await asyncio.sleep(0.05)
    assert (await runtime.unread_bytes((ID,)))[ID] == 27
    await runtime.resume(ID)
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1")
    writer.close()
