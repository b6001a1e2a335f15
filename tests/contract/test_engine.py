"""What only a real engine can show: isolation, limits, ports, faults."""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import socket
import subprocess
import tarfile
from pathlib import Path
from time import monotonic

import pytest
import structlog

from contract.conftest import created_containers, engine_settings, specification
from launchpad.domain.naming import container_name
from launchpad.errors import EngineRefused, EngineUnavailable, LaunchpadError, NetworkUnavailable
from launchpad.runtime.base import BindMount
from launchpad.runtime.engine import EngineRuntime
from support.live import docker, remove_network

ID, OTHER = "a" * 16, "b" * 16


def _inspect(engine: EngineRuntime, instance_id: str) -> dict[str, object]:
    name = container_name(engine.deployment_id, instance_id)
    found: dict[str, object] = json.loads(docker("inspect", name))[0]
    return found


async def test_c1_containers_do_not_reach_each_other(engine: EngineRuntime, small_image: str) -> None:
    """Neither by address nor through the gateway on the published port; its own port answers."""
    await engine.ensure_network()
    one = await engine.start(specification(small_image, ID))
    other = await engine.start(specification(small_image, OTHER))
    assert one.address is not None
    assert other.address is not None
    inside = _inspect(engine, ID)
    network = next(iter(_inspect(engine, OTHER)["NetworkSettings"]["Networks"].values()))  # type: ignore[index]
    for address, port, reached in (
        (network["IPAddress"], 8080, False),
        (network["Gateway"], other.address.port, False),
        (network["Gateway"], one.address.port, False),
        ("127.0.0.1", 8080, True),
    ):
        done = subprocess.run(
            ["docker", "exec", str(inside["Id"]), "/bin/sh", "-c", f"nc -w 2 {address} {port} </dev/null"],
            capture_output=True,
            check=False,
        )
        assert (done.returncode == 0) is reached, (address, port, done.stderr)


async def test_c3_everything_not_granted_is_dropped(engine: EngineRuntime, small_image: str) -> None:
    await engine.ensure_network()
    await engine.start(specification(small_image, capabilities=("CHOWN",), cpus=1.5, pids_limit=33))
    host: dict[str, object] = _inspect(engine, ID)["HostConfig"]  # type: ignore[assignment]
    assert host["Memory"] == host["MemorySwap"] == 64 * 1024**2
    assert host["NanoCpus"] == 1_500_000_000
    assert host["PidsLimit"] == 33
    assert host["CapDrop"] == ["ALL"]
    assert [name.removeprefix("CAP_") for name in host["CapAdd"]] == ["CHOWN"]  # type: ignore[attr-defined]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Privileged"] is False
    assert host["RestartPolicy"]["Name"] == "no"  # type: ignore[index]
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "2", "max-size": "10485760"}}
    assert not host["PidMode"]
    assert host["IpcMode"] in ("private", "shareable")
    assert {binding["HostIp"] for binding in host["PortBindings"]["8080/tcp"]} == {"127.0.0.1"}  # type: ignore[index]


async def test_f11_a_port_that_somebody_else_holds_is_passed_over(small_image: str) -> None:
    """The next one is taken, and nothing is left in state Created; a range that is used up is refused."""
    first = 12000 + secrets.randbelow(7000)  # where neither connections of other programs nor instances have theirs
    settings = engine_settings(port_range=f"{first}-{first + 2}")
    runtime = EngineRuntime(settings, secrets.token_hex(4))
    try:
        await runtime.ensure_network()
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", first))
            holder.listen()
            ports = set()
            for instance_id in (ID, OTHER):
                address = (await runtime.start(specification(small_image, instance_id))).address
                assert address is not None
                ports.add(address.port)
            assert ports == {first + 1, first + 2}
            with pytest.raises(EngineRefused):
                await runtime.start(specification(small_image, "c" * 16))
        assert created_containers(runtime) == []
        assert len(await runtime.list_containers()) == 2
    finally:
        for instance_id in (ID, OTHER, "c" * 16):
            await runtime.remove(instance_id)
        await runtime.aclose()
        await remove_network(settings.network, runtime.deployment_id)


async def test_stop_gives_time_to_save_and_not_more(engine: EngineRuntime, small_image: str, tmp_path: Path) -> None:
    """A program that saves on TERM gets to finish; one that ignores it is killed when the time is up."""
    await engine.ensure_network()
    tmp_path.chmod(0o777)
    saves = "trap 'sleep 1; echo saved > /out/saved; exit 0' TERM; while :; do sleep 0.1; done"
    await engine.start(
        specification(small_image, ID, command=("/bin/sh", "-c", saves), mounts=(BindMount(tmp_path, "/out"),))
    )
    ignores = "trap '' TERM; while :; do sleep 0.1; done"
    await engine.start(specification(small_image, OTHER, command=("/bin/sh", "-c", ignores)))
    await engine.stop(ID, 10)
    assert (tmp_path / "saved").read_text() == "saved\n"
    began = monotonic()
    await engine.stop(OTHER, 1)
    assert 0.9 < monotonic() - began < 6
    killed = await engine.find(OTHER)
    assert killed is not None
    assert killed.exit_code == 137


async def test_what_is_paused_gets_to_save_when_it_is_stopped(
    engine: EngineRuntime, small_image: str, tmp_path: Path
) -> None:
    await engine.ensure_network()
    tmp_path.chmod(0o777)
    saves = "trap 'echo saved > /out/saved; exit 0' TERM; while :; do sleep 0.1; done"
    mounts = (BindMount(tmp_path, "/out"),)
    await engine.start(specification(small_image, command=("/bin/sh", "-c", saves), mounts=mounts))
    await engine.pause(ID)
    await engine.stop(ID, 60)
    assert (tmp_path / "saved").read_text() == "saved\n"
    ended = await engine.find(ID)
    assert ended is not None
    assert ended.exit_code == 0


async def test_what_a_user_runs_is_ended_before_the_containers_own_and_is_named(
    engine: EngineRuntime, small_image: str
) -> None:
    """By the real kernel: the first process lives on, though it holds more; the program's name and size are told."""
    await engine.ensure_network()
    # The first process holds 80 MB of 128, and could be ended as the largest; the one that takes more is its child.
    holds, grows = "exec dd if=/dev/zero of=/dev/null bs=80M", "(sleep 4; exec tail /dev/zero) &"
    spec = specification(small_image, command=("/bin/sh", "-c", f"{grows} {holds}"), memory_bytes=128 * 1024**2)
    await engine.start(spec)
    async with asyncio.timeout(120):
        while not (deaths := (await engine.tend_memory()).get(ID)):
            await asyncio.sleep(0.3)
    (death,) = deaths
    assert death.program == "tail"
    assert death.memory_bytes is not None
    assert 10_000_000 < death.memory_bytes < 60_000_000
    assert not death.of_server
    container = await engine.find(ID)
    assert container is not None
    assert container.state.is_up
    await engine.remove(ID)
    assert (await engine.tend_memory())[ID] == deaths, "also of one that has ended since"


async def test_out_of_memory_is_told(engine: EngineRuntime, small_image: str) -> None:
    await engine.ensure_network()
    # The container outlives what was killed: with its last process goes its control group, and on version 1 of these
    # the engine then cannot always read the cause any more.
    hog = ("/bin/sh", "-c", "tail /dev/zero; sleep 1; exit 1")
    await engine.start(specification(small_image, command=hog, memory_bytes=16 * 1024**2))
    for _ in range(200):
        container = await engine.find(ID)
        assert container is not None
        if container.exit_code is not None:
            break
        await asyncio.sleep(0.05)
    assert container is not None
    assert container.out_of_memory


async def test_usage_is_what_the_kernel_counts(engine: EngineRuntime, small_image: str) -> None:
    """Memory that is held and given back, and its peak; time that is spent; as many processes as there are."""
    await engine.ensure_network()
    holds = "head -c 20000000 /dev/zero | tail -c 20000000 | (sleep 1; cat >/dev/null; sleep 600) & while :; do :; done"
    await engine.start(specification(small_image, command=("/bin/sh", "-c", holds)))
    before = await engine.usage(ID)
    assert before is not None
    async with asyncio.timeout(60):
        while (usage := await engine.usage(ID)) is None or usage.memory_bytes < 20_000_000:
            await asyncio.sleep(0.02)
    assert usage.pids >= 3
    assert usage.peak_memory_bytes is None or 20_000_000 <= usage.peak_memory_bytes <= 64 * 1024**2
    async with asyncio.timeout(60):
        while (usage := await engine.usage(ID)) is None or usage.memory_bytes > 15_000_000:
            await asyncio.sleep(0.02)
    assert usage.peak_memory_bytes is None or usage.peak_memory_bytes >= 20_000_000
    assert usage.cpu_seconds > before.cpu_seconds > 0
    shown = docker("top", str(_inspect(engine, ID)["Id"])).splitlines()[1:]
    assert (await engine.usage_all())[ID].pids == len(shown)


def calls_of(runtime: EngineRuntime) -> list[str]:
    """The paths that are asked for from now on."""
    asked: list[str] = []
    call = runtime._client.call

    async def note(path: str, method: str, **how: object) -> bytes:
        asked.append(path)
        return await call(path, method, **how)  # type: ignore[arg-type]

    runtime._client.call = note  # type: ignore[method-assign]
    return asked


async def test_what_is_written_into_the_containers_layer_is_counted(
    engine: EngineRuntime, small_image: str, tmp_path: Path
) -> None:
    """And neither what lies in a mounted directory nor what is in memory. Where the engine cannot limit the layer, it
    starts all the same, and is not asked again.
    """
    await engine.ensure_network()
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    mount = BindMount(mounted, "/mounted")
    with structlog.testing.capture_logs() as logged:
        for instance_id in (ID, OTHER):
            await engine.start(specification(small_image, instance_id, mounts=(mount,), shm_bytes=80 * 1024**2))
    refused = [entry for entry in logged if entry["event"] == "engine.layers_not_limited"]
    limits = _inspect(engine, ID)["HostConfig"].get("StorageOpt")  # type: ignore[attr-defined]
    assert len(refused) == (0 if limits else 1)
    container = str(_inspect(engine, ID)["Id"])
    for place, mib in (("/own", 5), ("/mounted/some", 9), ("/dev/shm/some", 9)):
        docker("exec", container, "/bin/sh", "-c", f"dd if=/dev/zero of={place} bs=1048576 count={mib}")
    written = await engine.written_all()
    assert 5 * 1024**2 <= written[ID] < 6 * 1024**2
    assert written[OTHER] < 1024**2
    assert "80.0M" in docker("exec", container, "/bin/sh", "-c", "df -h /dev/shm | tail -1")


async def test_what_runs_is_inspected_once(engine: EngineRuntime, small_image: str) -> None:
    """However often it is listed and measured: it takes one call of the engine to list them all, none to measure one.

    Another process, which has not started them, inspects each once.
    """
    await engine.ensure_network()
    ids = [f"{number:016}" for number in range(4)]
    await asyncio.gather(*(engine.start(specification(small_image, one)) for one in ids))
    other = EngineRuntime(engine._settings, engine.deployment_id)
    for runtime, inspects in ((engine, 0), (other, len(ids))):
        asked = calls_of(runtime)
        assert len(await runtime.list_containers()) == len(ids)
        assert len(asked) == 1 + inspects
        for _ in range(3):
            assert {one.instance_id for one in await runtime.list_containers()} == set(ids)
            assert set(await runtime.usage_all()) == set(ids)
        assert asked[1 + inspects :] == ["containers/json"] * 6
        del asked[:]
        for one in ids:
            assert await runtime.usage(one) is not None
        assert asked == []
    await other.aclose()


async def test_a_container_that_was_started_again_underneath_is_found_where_it_is_now(
    engine: EngineRuntime, small_image: str
) -> None:
    await engine.ensure_network()
    await engine.start(specification(small_image))
    name = container_name(engine.deployment_id, ID)
    docker("kill", name)
    async with asyncio.timeout(60):  # its port may be somebody else's by now
        while subprocess.run(["docker", "start", name], capture_output=True, check=False).returncode != 0:
            await asyncio.sleep(0.05)
    [listed] = await engine.list_containers()
    found = await engine.find(ID)
    assert found is not None
    assert listed.address == found.address
    assert (await engine.usage_all())[ID].pids >= 1
    assert await engine.usage(ID) is not None


async def test_deployments_do_not_see_each_other(engine: EngineRuntime, small_image: str) -> None:
    await engine.ensure_network()
    await engine.start(specification(small_image))
    stranger = EngineRuntime(engine._settings, secrets.token_hex(4))
    assert await stranger.list_containers() == []
    assert await stranger.find(ID) is None
    await stranger.remove(ID)
    await stranger.aclose()
    assert await engine.find(ID) is not None


async def test_an_absent_engine_is_told_at_once(tmp_path: Path) -> None:
    runtime = EngineRuntime(engine_settings(host=f"unix://{tmp_path}/none.sock"), "none")
    began = monotonic()
    for ask in (
        runtime.host(),
        runtime.ensure_network(),
        runtime.start(specification("x:1")),
        runtime.find(ID),
        runtime.list_containers(),
        runtime.stop(ID, 1),
        runtime.remove(ID),
        runtime.usage(ID),
        runtime.image_exists("x:1"),
        runtime.list_images(),
    ):
        with pytest.raises(EngineUnavailable):
            await ask
    with pytest.raises(EngineUnavailable):
        async for _ in runtime.events():
            pass
    assert monotonic() - began < 5
    await runtime.aclose()


async def test_a_network_that_connects_instances_is_refused() -> None:
    settings = engine_settings()
    docker("network", "create", settings.network)
    runtime = EngineRuntime(settings, "x")
    with pytest.raises(NetworkUnavailable, match="lets containers reach each other"):
        await runtime.ensure_network()
    await runtime.aclose()
    await remove_network(settings.network, "x")


async def test_the_network_is_made_once() -> None:
    """Also when several processes want it at the same instant; and anew when it was removed underneath."""
    settings = engine_settings()
    runtimes = [EngineRuntime(settings, "x") for _ in range(4)]
    await asyncio.gather(*(runtime.ensure_network() for runtime in runtimes))
    assert len(docker("network", "ls", "-q", "--filter", f"name={settings.network}").split()) == 1
    for runtime in runtimes:
        await runtime.aclose()
    await remove_network(settings.network, "x")


async def test_a_network_removed_underneath_is_made_again(engine: EngineRuntime, small_image: str) -> None:
    await engine.ensure_network()
    docker("network", "rm", engine._settings.network)
    assert (await engine.start(specification(small_image))).address is not None


async def test_pull_without_a_registry_fails_soon(engine: EngineRuntime) -> None:
    began = monotonic()
    with pytest.raises(LaunchpadError):
        async for _ in engine.pull_image("localhost:1/none:1"):
            pass
    assert monotonic() - began < 10


async def test_build_shows_what_it_prints_and_why_it_failed(
    engine: EngineRuntime, small_image: str, tmp_path: Path
) -> None:
    def context(dockerfile: str) -> Path:
        path = tmp_path / "context.tar"
        with tarfile.open(path, "w") as tar:
            member = tarfile.TarInfo("Dockerfile")
            member.size = len(dockerfile)
            tar.addfile(member, io.BytesIO(dockerfile.encode()))
        return path

    tag = f"launchpad-test/built:{secrets.token_hex(4)}"
    good = f'FROM {small_image}\nARG WORD\nRUN ["/bin/sh", "-c", "echo it says $WORD"]\n'
    lines = [
        progress.text
        async for progress in engine.build_image(
            context_tar=context(good), tag=tag, build_args={"WORD": "hello"}, labels={"org.launchpad.recipe": "x"}
        )
    ]
    assert any("it says hello" in line for line in lines)
    assert any(tag in image.references for image in await engine.list_images("org.launchpad.recipe"))
    docker("rmi", tag)
    bad = f'FROM {small_image}\nRUN ["/bin/sh", "-c", "echo the cause; exit 3"]\n'
    with pytest.raises(EngineRefused, match="the cause"):
        async for _ in engine.build_image(context_tar=context(bad), tag=tag, build_args={}, labels={}):
            pass


async def test_log_tail(engine: EngineRuntime, small_image: str) -> None:
    await engine.ensure_network()
    await engine.start(specification(small_image, command=("/bin/sh", "-c", "echo one; echo two >&2; sleep 30")))
    for _ in range(40):
        text = await engine.log_tail(ID)
        if "two" in text:
            break
        await asyncio.sleep(0.05)
    assert sorted(text.split()) == ["one", "two"]
