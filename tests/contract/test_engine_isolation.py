"""Real containers on a real engine: what they cannot reach, and what they are not allowed."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from contract.conftest import MakeEngine, specification
from launchpad.domain.naming import container_name
from launchpad.runtime.base import BindMount
from launchpad.runtime.engine import EngineRuntime
from launchpad.settings import EgressSettings
from support.firewalls import CHAINS, FIREWALLS, Firewall, empty_chain, our_rules, remove_shield
from support.live import docker

ID, OTHER = "a" * 16, "b" * 16


def inspect(instance_id: str, engine: EngineRuntime) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("inspect", container_name(engine.deployment_id, instance_id)))[0]
    return found


def inside(container: str, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", "exec", container, "/bin/sh", "-c", script], capture_output=True, text=True, check=False, timeout=60
    )


def reaches(container: str, host: str, port: int) -> bool:
    return inside(container, f"nc -w 2 {host} {port} </dev/null").returncode == 0


async def test_c1_neighbours_are_out_of_reach(engine: EngineRuntime, small_image: str) -> None:
    """By address and by name; on a network as the engine makes it by itself, the same question finds them."""
    await engine.ensure_network()
    await engine.start(specification(small_image, ID))
    await engine.start(specification(small_image, OTHER, hostname="neighbour"))
    one, other = inspect(ID, engine), inspect(OTHER, engine)
    network = engine._settings.network
    address = other["NetworkSettings"]["Networks"][network]["IPAddress"]
    names = (address, other["Name"].removeprefix("/"))
    assert [reaches(one["Id"], name, 8080) for name in names] == [False, False]

    ordinary = f"{network}-ordinary"
    docker("network", "create", ordinary)
    try:
        for container in (one["Id"], other["Id"]):
            docker("network", "connect", ordinary, container)
            docker("network", "disconnect", network, container)
        assert reaches(one["Id"], inspect(OTHER, engine)["NetworkSettings"]["Networks"][ordinary]["IPAddress"], 8080)
        assert reaches(one["Id"], names[1], 8080)
    finally:
        for container in (one["Id"], other["Id"]):
            docker("network", "disconnect", "-f", ordinary, container)
        docker("network", "rm", ordinary)


async def test_c1_the_port_is_on_loopback_only(engine: EngineRuntime, small_image: str) -> None:
    """From the host it answers on 127.0.0.1, and on no other address of the machine."""
    await engine.ensure_network()
    started = await engine.start(specification(small_image))
    assert started.address is not None
    port = started.address.port
    gateway = next(iter(inspect(ID, engine)["NetworkSettings"]["Networks"].values()))["Gateway"]
    answered = []
    for host in ("127.0.0.1", gateway):
        with socket.socket() as client:
            client.settimeout(2)
            answered.append(client.connect_ex((host, port)) == 0)
    assert answered == [True, False]
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    local = [line.split()[1] for line in listening.splitlines() if line.split()[1].endswith(f":{port:04X}")]
    assert {address.split(":")[0] for address in local} <= {"0100007F"}


@contextmanager
def neighbour(number: int) -> Iterator[str]:
    """A machine in the same network as this one: a network namespace at the end of a cable, with routes over here."""
    name, near, far, here = f"lps{number}", f"lpsn{number}", f"lpsf{number}", f"10.{number}.78.1"
    script = f"""
        ip netns add {name}
        ip link add {near} type veth peer name {far} netns {name}
        ip address add {here}/24 dev {near}
        ip link set {near} up
        ip -n {name} address add 10.{number}.78.2/24 dev {far}
        ip -n {name} link set {far} up
        ip -n {name} route add default via {here}
        ip netns exec {name} sysctl -qw net.ipv4.conf.all.route_localnet=1
        ip -n {name} route add 127.0.0.1 via {here}
    """
    try:
        subprocess.run(["sh", "-ec", script], check=True, capture_output=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "del", near], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture(params=FIREWALLS)
def firewall(request: pytest.FixtureRequest) -> Firewall:
    """What holds the rules."""
    made: Firewall = request.param
    return made


@pytest.fixture
def confined(make_engine: MakeEngine, firewall: Firewall) -> EngineRuntime:
    """An engine whose rules the firewall holds."""
    return make_engine(EgressSettings(firewall=firewall))


async def test_c1_machines_of_the_same_network_are_out_of_reach(
    confined: EngineRuntime, firewall: Firewall, small_image: str
) -> None:
    """Neither at the container's own address nor at its port on the loopback interface; without our rule, both.

    Engines from 28.0 on keep them out by themselves, too.
    """
    engine = confined
    await engine.ensure_network()
    started = await engine.start(specification(small_image))
    assert started.address is not None
    own = inspect(ID, engine)["NetworkSettings"]["Networks"][engine._settings.network]["IPAddress"]
    places = [(own, 8080), ("127.0.0.1", started.address.port)]
    with neighbour(secrets.randbelow(200) + 20) as machine:

        def reached() -> list[bool]:
            probe = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
            asked = ("ip", "netns", "exec", machine, "python3", "-c", probe)
            return [
                subprocess.run([*asked, host, str(port)], capture_output=True, check=False).returncode == 0
                for host, port in places
            ]

        assert reached() == [False, False]
        with socket.create_connection(("127.0.0.1", started.address.port), timeout=5):
            pass
        assert (await engine.network()).shielded
        assert (await engine.network()).firewall == firewall
        remove_shield(firewall, engine.deployment_id)
        assert (await engine.network()).shielded is False
        is_old = int((await engine.host()).engine_version.split(".")[0]) < 28
        assert reached() == [is_old, is_old]
        await engine.mend_network()
        assert reached() == [False, False]


async def test_what_is_missing_of_the_rules_is_told_and_mended(confined: EngineRuntime, firewall: Firewall) -> None:
    engine = confined
    await engine.ensure_network()
    there = our_rules(engine.deployment_id)
    assert [name for name in FIREWALLS if there[name]] == [firewall], "the other has none of them"
    empty_chain(firewall, engine.deployment_id, CHAINS[firewall][1])
    (gap,) = (await engine.network()).gaps
    assert "the chain" in gap
    assert "does not match" in gap
    await engine.mend_network()
    assert (await engine.network()).gaps == ()
    for chain in CHAINS[firewall]:
        empty_chain(firewall, engine.deployment_id, chain)
    assert len((await engine.network()).gaps) == 2
    await engine.mend_network()
    assert (await engine.network()).gaps == ()


async def test_c3_seen_from_inside(engine: EngineRuntime, small_image: str, tmp_path: Path) -> None:
    """The kernel's own word: only what was granted, no new privileges, no socket of the engine, no other process."""
    await engine.ensure_network()
    (tmp_path / "data").mkdir()
    mounts = (BindMount(tmp_path / "data", "/data", read_only=True),)
    spec = specification(
        small_image, capabilities=("KILL",), user="200000:0", groups=("100",), mounts=mounts, env_vars={"A": "b"}
    )
    await engine.start(spec)
    container = inspect(ID, engine)
    status = dict(
        line.split(":\t", 1)
        for line in inside(container["Id"], "cat /proc/1/status").stdout.splitlines()
        if ":\t" in line
    )
    kill = 1 << 5
    assert int(status["CapBnd"], 16) == kill
    assert int(status["CapEff"], 16) == 0  # not root
    assert status["NoNewPrivs"] == "1"
    assert status["Uid"].split()[0] == "200000"
    assert "100" in status["Groups"].split()
    assert inside(container["Id"], "echo x > /data/x").returncode != 0
    assert inside(container["Id"], "cat /var/run/docker.sock /run/docker.sock").stdout == ""
    assert inside(container["Id"], "echo /proc/[0-9]*").stdout.count("/proc/") <= 3
    assert [word for word in container["Config"]["Env"] if not word.startswith("PATH=")] == ["A=b"]


async def test_c4_a_fork_bomb_meets_its_limit(engine: EngineRuntime, small_image: str) -> None:
    """And the neighbour goes on."""
    await engine.ensure_network()
    bomb = "while :; do sleep 30 & done"
    await engine.start(specification(small_image, ID, command=("/bin/sh", "-c", bomb), pids_limit=20))
    neighbour = await engine.start(specification(small_image, OTHER))
    for _ in range(50):
        usage = await engine.usage(ID)
        assert usage is None or usage.pids <= 20
    assert neighbour.address is not None
    with socket.create_connection((neighbour.address.host, neighbour.address.port), timeout=5):
        pass


async def test_c4_a_flooded_log_stays_small(make_engine: MakeEngine, small_image: str) -> None:
    engine = make_engine(log_bytes="100k")
    await engine.ensure_network()
    flood = "while :; do echo 0123456789012345678901234567890123456789012345678901234567890123456789; done"
    await engine.start(specification(small_image, command=("/bin/sh", "-c", flood)))
    path = Path(inspect(ID, engine)["LogPath"])
    while not path.with_name(f"{path.name}.1").exists():
        assert await engine.find(ID) is not None
    assert (
        sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*")) < 300_000
    )  # two files, and what was printed while they were turned
    assert len((await engine.log_tail(ID, 5)).splitlines()) == 5
