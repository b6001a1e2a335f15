"""A real engine that is asked for the impossible, interrupted, restarted, or out of addresses."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic

import pytest

from contract.conftest import BUSYBOX, SMALL_IMAGE, MakeEngine, engine_settings, specification
from launchpad.cli.engine_networks import set_network_list_aside
from launchpad.domain.naming import container_name
from launchpad.errors import EngineAnswer, EngineRefused, EngineUnavailable, NetworkUnavailable
from launchpad.runtime.base import LABEL_DEPLOYMENT, LABEL_INSTANCE, ContainerState, RuntimeEvent
from launchpad.runtime.engine import EngineRuntime
from launchpad.settings import EgressSettings
from support.live import docker

ID, OTHER = "a" * 16, "b" * 16
UNTIL_KILLED = ("/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")


def all_of(engine: EngineRuntime) -> list[str]:
    """Ids of a deployment's containers in every state, as the docker command sees them."""
    return docker("ps", "-aq", "--filter", f"label={LABEL_DEPLOYMENT}={engine.deployment_id}").split()


# -- ports -------------------------------------------------------------------------------------------------------------


def held_ports(stack: ExitStack, number: int) -> int:
    """The first of `number` ports in a row that a foreign process now holds; the one after them is free."""
    while True:
        first = 45000 + secrets.randbelow(900)
        with ExitStack() as trial:
            try:
                for port in range(first, first + number + 1):
                    trial.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        for port in range(first, first + number):
            holder = stack.enter_context(socket.socket())
            holder.bind(("127.0.0.1", port))
            holder.listen()
        return first


async def test_f11_many_held_ports_in_a_row_are_passed_over(make_engine: MakeEngine, small_image: str) -> None:
    with ExitStack() as stack:
        first = held_ports(stack, 12)
        engine = make_engine(port_range=f"{first}-{first + 12}")
        await engine.ensure_network()
        started = await engine.start(specification(small_image))
        assert started.address is not None
        assert started.address.port == first + 12
        assert len(all_of(engine)) == 1


async def test_f11_a_range_that_is_held_whole_is_refused_soon(make_engine: MakeEngine, small_image: str) -> None:
    """In the user's words; nothing is left, and the next start works once a port is free."""
    with ExitStack() as stack:
        first = held_ports(stack, 2)
        engine = make_engine(port_range=f"{first}-{first + 1}")
        await engine.ensure_network()
        began = monotonic()
        with pytest.raises(EngineRefused, match="No port is free"):
            await engine.start(specification(small_image))
        assert monotonic() - began < 10
        assert all_of(engine) == []
    assert (await engine.start(specification(small_image))).address is not None


async def test_ports_with_kept_connections_are_taken_first(make_engine: MakeEngine, small_image: str) -> None:
    """And the others of the range when those are used up; nothing is left behind of the attempt."""
    with ExitStack() as stack:
        first = held_ports(stack, 1)
    engine = make_engine(port_range=f"{first}-{first + 1}", keepalive_ports="1")
    await engine.ensure_network()
    starts = [await engine.start(specification(small_image, mark * 16)) for mark in "ab"]
    assert [started.address.port for started in starts if started.address] == [first, first + 1]
    assert len(all_of(engine)) == 2
    with pytest.raises(EngineRefused, match="No port is free"):
        await engine.start(specification(small_image, "c" * 16))
    assert len(all_of(engine)) == 2


# -- names and leftovers -----------------------------------------------------------------------------------------------


async def test_what_a_crash_left_in_state_created_is_made_anew(engine: EngineRuntime, small_image: str) -> None:
    await engine.ensure_network()
    name = container_name(engine.deployment_id, ID)
    labels = ("--label", f"{LABEL_DEPLOYMENT}={engine.deployment_id}", "--label", f"{LABEL_INSTANCE}={ID}")
    left = docker("create", "--name", name, *labels, small_image, "/bin/sh")
    found = await engine.find(ID)
    assert found is not None
    assert found.state is ContainerState.CREATED
    assert (await engine.start(specification(small_image))).state is ContainerState.RUNNING
    assert len(all_of(engine)) == 1
    assert not left.startswith(all_of(engine)[0])


async def test_a_strangers_container_is_never_touched(engine: EngineRuntime, small_image: str) -> None:
    """Not even one that has our name: it is not ours without our label."""
    await engine.ensure_network()
    strange = docker("run", "-d", "--name", container_name(engine.deployment_id, ID), small_image, *UNTIL_KILLED)
    try:
        assert await engine.find(ID) is None
        assert await engine.list_containers() == []
        await engine.stop(ID, 0)
        await engine.remove(ID)
        with pytest.raises(EngineRefused):
            await engine.start(specification(small_image))
        assert docker("inspect", "-f", "{{.State.Running}}", strange) == "true"
    finally:
        docker("rm", "-f", strange)


async def test_a_command_that_does_not_exist_is_refused(engine: EngineRuntime, small_image: str) -> None:
    await engine.ensure_network()
    with pytest.raises(EngineRefused) as refused:
        await engine.start(specification(small_image, command=("/no/such/program",)))
    assert "/no/such" not in refused.value.detail
    assert "does not have the program that it is to start with" in refused.value.detail
    assert all_of(engine) == []


async def test_an_application_that_ends_at_once_leaves_its_exit_code_and_words(
    engine: EngineRuntime, small_image: str
) -> None:
    await engine.ensure_network()
    await engine.start(specification(small_image, command=("/bin/sh", "-c", "echo why; exit 3")))
    while (found := await engine.find(ID)) is not None and found.state is ContainerState.RUNNING:
        await asyncio.sleep(0.02)
    assert found is not None
    assert (found.state, found.exit_code, found.address) == (ContainerState.EXITED, 3, None)
    assert await engine.log_tail(ID) == "why\n"


@pytest.mark.parametrize("after_ms", [0, 2, 5, 10, 20, 40, 80, 160, 320])
async def test_a_start_that_is_cancelled_leaves_nothing(engine: EngineRuntime, small_image: str, after_ms: int) -> None:
    """At whatever moment, also while the engine is amid it; a second start then works."""
    await engine.ensure_network()
    starting = asyncio.create_task(engine.start(specification(small_image)))
    await asyncio.sleep(after_ms / 1000)
    starting.cancel()
    outcome = (await asyncio.gather(starting, return_exceptions=True))[0]
    if isinstance(outcome, asyncio.CancelledError):
        await asyncio.sleep(0.3)  # what the engine was amid would show by now
        assert all_of(engine) == []
    assert (await engine.start(specification(small_image))).state is ContainerState.RUNNING


async def test_two_starts_of_one_instance_by_two_processes_make_one_container(
    make_engine: MakeEngine, small_image: str
) -> None:
    engine = make_engine()
    await engine.ensure_network()
    other = EngineRuntime(engine._settings, engine.deployment_id)
    spec = specification(small_image)
    started = await asyncio.gather(*(one.start(spec) for one in (engine, other)), return_exceptions=True)
    await other.aclose()
    found = await engine.find(ID)
    assert found is not None
    assert found.state is ContainerState.RUNNING
    assert found in started
    assert len(all_of(engine)) == 1


async def test_remove_waits_for_a_removal_that_is_under_way(engine: EngineRuntime, small_image: str) -> None:
    """When it answers the name is free, whoever removed it."""
    await engine.ensure_network()
    for _ in range(5):
        await engine.start(specification(small_image))
        await asyncio.gather(*(engine.remove(ID) for _ in range(4)))
        assert all_of(engine) == []


# -- ends --------------------------------------------------------------------------------------------------------------


async def test_f3_events_tell_of_the_end_and_its_cause(engine: EngineRuntime, small_image: str) -> None:
    """From the call of `events` on, although nobody looks yet."""
    await engine.ensure_network()
    listening = engine.events()
    hog = ("/bin/sh", "-c", "sleep 0.2; tail /dev/zero; sleep 1; exit 1")  # outlives what is killed, so that it is told
    await engine.start(specification(small_image, command=hog, memory_bytes=16 * 1024**2))
    seen: list[RuntimeEvent] = []
    async with asyncio.timeout(30):
        async for event in listening:
            seen.append(event)
            if event.kind == "ended":
                break
    await listening.aclose()  # type: ignore[attr-defined]
    assert [event.kind for event in seen if event.kind != "out-of-memory"] == ["started", "ended"]
    assert RuntimeEvent(ID, "out-of-memory") in seen
    found = await engine.find(ID)
    assert found is not None
    assert found.out_of_memory


@pytest.mark.parametrize("command", [("kill",), ("stop", "-t", "5"), ("rm", "-f")])
async def test_f3_events_tell_that_somebody_ended_it_through_the_engine(
    engine: EngineRuntime, small_image: str, command: tuple[str, ...]
) -> None:
    await engine.ensure_network()
    await engine.start(specification(small_image, command=UNTIL_KILLED))
    listening = engine.events()
    docker(*command, container_name(engine.deployment_id, ID))
    seen: list[str] = []
    async with asyncio.timeout(30):
        async for event in listening:
            seen.append(event.kind)
            if event.kind == "ended":
                break
    await listening.aclose()  # type: ignore[attr-defined]
    assert "signalled" in seen
    assert seen[-1] == "ended"


# -- the network -------------------------------------------------------------------------------------------------------


async def test_two_networks_of_one_name_become_one(make_engine: MakeEngine, small_image: str) -> None:
    """Left by processes that died amid making them; newer engines do not let it come to that."""
    engine = make_engine()
    name = engine._settings.network
    body = {
        "Name": name,
        "Driver": "bridge",
        "Options": {"com.docker.network.bridge.enable_icc": "false"},
        "Labels": {LABEL_DEPLOYMENT: engine.deployment_id},
    }
    for _ in range(2):
        with suppress(EngineAnswer):
            await engine._client.call("networks/create", "POST", data=body)
    await engine.ensure_network()
    assert len(docker("network", "ls", "-q", "--filter", f"name=^{name}$").split()) == 1
    assert (await engine.start(specification(small_image))).address is not None


# -- an engine of its own ----------------------------------------------------------------------------------------------


class PrivateEngine:
    """A second engine, beside the machine's: it may run out of addresses, and it may be stopped.

    It lives in a network namespace of its own, since an engine takes over the bridges and the packet filter that it
    finds at its start. Its address pool has room for two networks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/engine.sock"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        folder = self.folder
        apart = ("unshare", "--net", str(BUSYBOX), "sh", "-c", f'{BUSYBOX} ip link set lo up; exec "$@"', "sh")
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *apart,
                    *("dockerd", "--host", self.host, "--pidfile", f"{folder}/pid", "--storage-driver", "vfs"),
                    *("--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--iptables=false"),
                    *("--bridge", "none", "--default-address-pool", "base=10.213.7.0/24,size=25"),
                ],
                stdout=log,
                stderr=log,
            )
        for _ in range(300):
            if subprocess.run(self.command("version"), capture_output=True, check=False).returncode == 0:
                return
            if self._process.poll() is not None:
                break
            await asyncio.sleep(0.1)
        raise AssertionError((folder / "log").read_text()[-3000:])

    async def has_ended(self) -> int:
        """Its exit code."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, 60)

    async def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            await asyncio.to_thread(self._process.wait, 60)
            self._process = None

    def command(self, *arguments: str) -> list[str]:
        return ["docker", "--host", self.host, *arguments]

    def run(self, *arguments: str) -> None:
        subprocess.run(self.command(*arguments), check=True, capture_output=True)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A path short enough for the name of a socket."""
    folder = Path(tempfile.mkdtemp(prefix="lp-engine-"))
    yield folder
    shutil.rmtree(folder)


# That engine's bridges are in another network namespace than the rules would be.
ELSEWHERE = EgressSettings(rules="off")


@pytest.fixture
async def private(short_folder: Path) -> AsyncIterator[PrivateEngine]:
    private = PrivateEngine(short_folder)
    await private.start()
    yield private
    await private.stop()
    # An engine that crashed has left its folder mounted on itself.
    while subprocess.run(["umount", short_folder / "data"], capture_output=True, check=False).returncode == 0:
        pass


async def test_f17_used_up_addresses_are_told(private: PrivateEngine) -> None:
    runtime = EngineRuntime(engine_settings(host=private.host), "d", ELSEWHERE)
    for name in ("one", "two"):
        private.run("network", "create", name)
    with pytest.raises(NetworkUnavailable, match="no network addresses left"):
        await runtime.ensure_network()
    private.run("network", "rm", "one")
    await runtime.ensure_network()
    await runtime.aclose()


async def test_an_engine_that_was_killed_amid_its_networks(private: PrivateEngine) -> None:
    """It ends at every start, until its list of networks is set aside."""
    log, data = private.folder / "log", private.folder / "data"
    private.run("network", "create", "one")
    await private.stop()
    assert set_network_list_aside(log, data) is None
    networks = data / "network" / "files" / "local-kv.db"
    whole = networks.read_bytes()
    half = whole.replace(b'"ipamV4Info"', b'"ipamV4Inf0"')  # as if killed before its addresses were written
    assert half != whole
    networks.write_bytes(half)
    with pytest.raises(AssertionError, match="reservePools"):
        await private.start()
    assert await private.has_ended() != 0
    moved = set_network_list_aside(log, data)
    assert moved is not None
    assert moved.read_bytes() == half
    await private.start()
    runtime = EngineRuntime(engine_settings(host=private.host), "d", ELSEWHERE)
    await runtime.ensure_network()
    await runtime.aclose()
    await private.stop()
    assert set_network_list_aside(log, data) is None


async def test_f2_an_engine_that_restarts(private: PrivateEngine, small_image: str) -> None:
    """Listeners are told, questions say that it is away, and the same runtime goes on when it is back."""
    runtime = EngineRuntime(engine_settings(host=private.host), "d", ELSEWHERE)
    image = private.folder / "image.tar"
    docker("save", "-o", str(image), SMALL_IMAGE)
    private.run("load", "-i", str(image))
    await runtime.ensure_network()
    await runtime.start(specification(small_image, command=UNTIL_KILLED, stop_grace_seconds=1))

    async def listen() -> list[str]:
        seen = []
        try:
            async for event in runtime.events():
                seen.append(event.kind)
        except EngineUnavailable:
            seen.append("unavailable")
        return seen

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0.2)
    await private.stop()
    seen = await asyncio.wait_for(listening, 60)
    assert next(kind for kind in seen if kind != "signalled") == "ended"
    began = monotonic()
    with pytest.raises(EngineUnavailable):
        await runtime.find(ID)
    with pytest.raises(EngineUnavailable):
        await runtime.start(specification(small_image))
    assert monotonic() - began < 2

    await private.start()
    [found] = await runtime.list_containers()
    assert found.state is ContainerState.EXITED, "it is not restarted behind the platform's back"
    again = await runtime.start(specification(small_image, command=UNTIL_KILLED, stop_grace_seconds=1))
    assert again.state is ContainerState.RUNNING
    await runtime.aclose()
