"""C1 to C5 on a whole platform with a real engine: what an instance reaches, may do, and cannot spoil for others.

Of C1 and C3, what a single container shows stands in `tests/contract/test_engine_isolation.py`.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from support.btrfs import btrfs_in_a_file
from support.firewalls import CHAINS, FIREWALLS, Firewall, empty_chain
from support.live import LivePlatform, Person, StartPlatform, docker

PROBE = (
    "import socket,sys\n"
    "s=socket.socket(); s.settimeout(3)\n"
    "sys.exit(0 if s.connect_ex((sys.argv[1], int(sys.argv[2]))) == 0 else 7)"
)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


async def reaches(container: str, host: str, port: int | str) -> bool:
    """Whether a program in the container gets a TCP connection."""
    process = await asyncio.create_subprocess_exec("docker", "exec", container, "python3", "-c", PROBE, host, str(port))
    code = await process.wait()
    assert code in (0, 7), "the probe itself failed"
    return code == 0


async def inside(container: str, script: str, *, user: str = "") -> subprocess.CompletedProcess[str]:
    who = ["--user", user] if user else []
    return await asyncio.to_thread(
        subprocess.run,
        ["docker", "exec", *who, container, "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


async def reason_of(person: Person, instance_id: str, words: str, patience_seconds: float = 30) -> str:
    """The reason, once the words are in it."""
    deadline = monotonic() + patience_seconds
    while True:
        reason = str((await person.get(instance_id))["reason"])
        if words in reason:
            return reason
        assert monotonic() < deadline, f"the owner is told only: {reason}"
        await asyncio.sleep(0.2)


# -- C1, C2: what it reaches -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outside:
    """Servers elsewhere: one on the internet, one in a private network; `host` are addresses of this machine."""

    public: str
    private: str
    port: int
    host: tuple[str, ...]


@contextmanager
def another_network(number: int, public: str, private: str, gateways: tuple[str, str]) -> Iterator[None]:
    """A machine of its own, reached over this one: a network namespace at the end of a cable."""
    name, near, far = f"lpt{number}", f"lptn{number}", f"lptf{number}"
    run("ip", "netns", "add", name)
    server = None
    try:
        run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        for gateway in gateways:
            run("ip", "address", "add", f"{gateway}/30", "dev", near)
        run("ip", "link", "set", near, "up")
        for address in (public, private):
            run("ip", "-n", name, "address", "add", f"{address}/30", "dev", far)
        run("ip", "-n", name, "link", "set", far, "up")
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "route", "add", "default", "via", gateways[0])
        server = subprocess.Popen(["ip", "netns", "exec", name, "python3", "-m", "http.server", "8099"])
        yield
    finally:
        if server is not None:
            server.terminate()
            server.wait()
        subprocess.run(["ip", "link", "del", near], capture_output=True, check=False)
        run("ip", "netns", "del", name)


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    # Four addresses of each are taken and no more: somewhere in these ranges others may have their servers, and tests
    # beside this one need theirs.
    number, block = secrets.randbelow(200) + 20, 4 * (secrets.randbelow(62) + 1)
    public, private = "198.51.100", f"10.{number}.77"
    gateways = (f"{public}.{block + 1}", f"{private}.{block + 1}")
    there = (f"{public}.{block + 2}", f"{private}.{block + 2}")
    with another_network(number, *there, gateways):
        yield Outside(*there, 8099, gateways)


async def until_it_answers(host: str, port: int) -> None:
    async with httpx.AsyncClient(timeout=60) as http:
        for _ in range(100):
            with suppress(httpx.HTTPError):
                await http.get(f"http://{host}:{port}/")
                return
            await asyncio.sleep(0.05)
    raise AssertionError("the server elsewhere does not answer this machine")


async def test_c1_nothing_of_the_platform_listens_beyond_loopback_and_neighbours_are_out_of_reach(
    start_platform: StartPlatform,
) -> None:
    live = await start_platform()
    async with live.person("anna@example.org") as anna, live.person("ben@example.org") as ben:
        hers, his = await asyncio.gather(anna.launch_and_wait("jupyterlab"), ben.launch_and_wait("jupyterlab"))
        one, other = live.container_of(hers["id"]), live.container_of(his["id"])
        network = other["NetworkSettings"]["Networks"][live.network]
        port = other["NetworkSettings"]["Ports"]["8888/tcp"][0]["HostPort"]
        assert await reaches(one["Id"], "127.0.0.1", 8888), "its own application"
        assert await reaches(other["Id"], network["IPAddress"], 8888), "his own, by its address"
        assert not await reaches(one["Id"], network["IPAddress"], 8888)
        assert not await reaches(one["Id"], network["IPAddress"], 5474), "nor any other port"
        assert not await reaches(one["Id"], other["Name"].removeprefix("/"), 8888)
        assert not await reaches(one["Id"], network["Gateway"], port)
        await asyncio.sleep(0)
        listening = run("ss", "-Hltnp").splitlines()
        assert live.portal is not None
        assert live.nginx is not None
        ours = [line for line in listening if f"pid={live.nginx.pid}," in line or f"pid={live.portal.pid}," in line]
        ours += [line for line in listening if "docker-proxy" in line and f":{port} " in line]
        assert len(ours) >= 3, "nginx on two ports and the engine's forwarder were looked at"
        for line in ours:
            address = line.split()[3].rpartition(":")[0]
            assert address in ("127.0.0.1", "[::1]"), line
        await asyncio.gather(anna.stop(hers["id"]), ben.stop(his["id"]))


@pytest.mark.parametrize("firewall", FIREWALLS)
async def test_c2_the_internet_and_nothing_of_the_server_or_its_network(
    start_platform: StartPlatform, outside: Outside, firewall: Firewall
) -> None:
    """Refused at once: the server under each of its addresses, private networks, the metadata service."""
    live = await start_platform({"egress": {"firewall": firewall}})
    await until_it_answers(outside.private, outside.port)
    engine_api = await asyncio.start_server(lambda _, writer: writer.close(), "0.0.0.0", 0)
    api_port = engine_api.sockets[0].getsockname()[1]
    async with live.person("anna@example.org") as anna:
        instance = await anna.launch_and_wait("jupyterlab")
        container = live.container_of(instance["id"])
        gateway = container["NetworkSettings"]["Networks"][live.network]["Gateway"]
        assert await reaches(container["Id"], outside.public, outside.port), "the internet"
        begun = monotonic()
        refused = [(address, api_port) for address in (gateway, *outside.host)]
        refused += [(gateway, live.public_url.rpartition(":")[2]), (outside.private, outside.port)]
        refused += [("169.254.169.254", 80), ("168.63.129.16", 80)]  # clouds' own; the second one is Azure's
        refused += [("172.17.0.1", api_port), ("192.168.1.1", 80), ("100.64.0.1", 80)]
        for host, port in refused:
            assert not await reaches(container["Id"], host, port), (host, port)
        assert monotonic() - begun < 2.5 * len(refused), "refused, and not left to time out"
        assert not (await inside(container["Id"], "ls /var/run/docker.sock /run/docker.sock")).stdout
        await anna.stop(instance["id"])
    engine_api.close()
    await engine_api.wait_closed()


@pytest.mark.parametrize("firewall", FIREWALLS)
async def test_c2_settings_open_private_addresses_and_close_public_ones(
    start_platform: StartPlatform, outside: Outside, firewall: Firewall
) -> None:
    await until_it_answers(outside.private, outside.port)
    rules = {"firewall": firewall, "allow": [f"{outside.private}:{outside.port}"], "deny": [f"{outside.public}/32"]}
    live = await start_platform({"egress": rules})
    async with live.person("anna@example.org") as anna:
        instance = await anna.launch_and_wait("jupyterlab")
        container = live.container_of(instance["id"])["Id"]
        assert await reaches(container, outside.private, outside.port)
        assert not await reaches(container, outside.private, outside.port + 1)
        assert not await reaches(container, outside.public, outside.port)
        await anna.stop(instance["id"])


@pytest.mark.parametrize("firewall", FIREWALLS)
async def test_c2_rules_that_a_firewall_took_away_come_back_with_the_sweep(
    start_platform: StartPlatform, outside: Outside, firewall: Firewall
) -> None:
    await until_it_answers(outside.private, outside.port)
    live = await start_platform({"egress": {"firewall": firewall}})
    async with live.person("anna@example.org") as anna:
        instance = await anna.launch_and_wait("jupyterlab")
        container = live.container_of(instance["id"])["Id"]
        assert not await reaches(container, outside.private, outside.port)
        empty_chain(firewall, live.deployment_id, CHAINS[firewall][0])
        assert await reaches(container, outside.private, outside.port), "the rule was what kept it out"
        await asyncio.to_thread(live.command, "sweep")
        assert not await reaches(container, outside.private, outside.port)
        await anna.stop(instance["id"])


@pytest.mark.parametrize(("firewall", "program"), [("auto", "iptables"), ("iptables", "iptables"), ("nftables", "nft")])
async def test_c2_without_its_rules_nothing_starts(
    start_platform: StartPlatform, tmp_path: Path, firewall: str, program: str
) -> None:
    """Fails closed, with a reason that names the remedy."""
    broken = tmp_path / "bin"
    broken.mkdir()
    for name in ("nft", "iptables"):
        (broken / name).write_text("#!/bin/sh\nexit 4\n")
        (broken / name).chmod(0o755)
    live = await start_platform({"egress": {"firewall": firewall}}, path=broken)
    async with live.person("anna@example.org") as anna:
        instance = await anna.launch("jupyterlab")
        ended = await anna.wait_for(instance["id"], "failed")
        assert f"{program} does not work" in ended["reason"]
        assert live.containers() == []


# -- C3: what it may ---------------------------------------------------------------------------------------------------


async def test_c3_a_running_instance_has_no_more_than_it_needs(shared_platform: LivePlatform) -> None:
    live = shared_platform
    async with live.person("otto@example.org") as otto:
        for environment, capabilities in (
            ("jupyterlab", []),
            ("rstudio", ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"]),
        ):
            instance = await otto.launch_and_wait(environment, memory="1g")
            container = live.container_of(instance["id"])
            host: dict[str, Any] = container["HostConfig"]
            assert host["Privileged"] is False
            assert host["CapDrop"] == ["ALL"]
            assert [one.removeprefix("CAP_") for one in host["CapAdd"] or []] == capabilities
            assert host["SecurityOpt"] == ["no-new-privileges"]
            assert (host["PidMode"], host["UsernsMode"], host["UTSMode"]) == ("", "", "")
            assert host["NetworkMode"] == live.network
            assert host["IpcMode"] in ("private", "shareable")
            assert host["Memory"] == host["MemorySwap"] == 1024**3
            assert host["PidsLimit"] == 2048
            assert host["LogConfig"]["Config"]["max-size"]
            assert {"Name": "core", "Hard": 0, "Soft": 0} in host["Ulimits"]
            sources = {mount["Source"] for mount in container["Mounts"]}
            assert not any("docker.sock" in source or source == "/" for source in sources)
            status = (await inside(container["Id"], "cat /proc/1/status")).stdout
            facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            assert facts["Seccomp"].strip() == "2", "the engine's filter of system calls is on"
            assert facts["NoNewPrivs"].strip() == "1"
            secret = (live.state / "secret.key").read_bytes()
            variables = "\n".join(container["Config"]["Env"])
            assert not any(form in variables for form in (secret.hex(), b64encode(secret).decode()))
            assert not any(word in variables for word in ("PASSWORD", "SECRET", str(live.state)))
            await otto.stop(instance["id"])


@pytest.mark.parametrize("missing", ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "KILL"])
async def test_c3_rstudio_needs_each_of_its_capabilities(start_platform: StartPlatform, missing: str) -> None:
    """With one less it does not start; without KILL it starts, and does not save when it is stopped."""
    needed = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"]
    table = {
        "name": "rstudio",
        "capabilities": [one for one in needed if one != missing],
        "start_timeout_seconds": 12,
    }
    live = await start_platform({"environments": [table]})
    async with live.person("otto@example.org") as otto:
        instance = await otto.launch("rstudio", memory="1g")
        if missing != "KILL":
            state = (await otto.wait_for(instance["id"], "failed", "running"))["state"]
            assert state == "failed" or not await runs_r(live, instance["id"])
            return
        await otto.wait_for(instance["id"], "running")
        await (await otto.enter_rstudio(instance["id"])).run("lost <- 1")
        assert await runs_r(live, instance["id"])
        await otto.stop(instance["id"])
        assert not list((live.homes / "otto").glob(".local/share/rstudio/sessions/active/*/suspended-session-data/*"))


async def runs_r(live: LivePlatform, instance_id: str) -> bool:
    """Whether R runs as its user."""
    container = live.container_of(instance_id)["Id"]
    for _ in range(40):
        if "rstudio" in (await inside(container, "ps -o user= -C R")).stdout:
            return True
        await asyncio.sleep(0.1)
    return False


# -- C4: what it cannot spoil for others -------------------------------------------------------------------------------


Crowd = tuple[LivePlatform, Person, Person]


@pytest.fixture(scope="module")
def small_disk() -> Iterator[Path]:
    with btrfs_in_a_file(600) as place:
        yield place


@pytest.fixture
async def crowded(start_platform: StartPlatform, small_disk: Path) -> AsyncIterator[Crowd]:
    """Anna, who goes too far, and Ben, her neighbour; homes of 100 MB."""
    homes = small_disk / secrets.token_hex(4)
    homes.mkdir()
    live = await start_platform(
        {
            "homes": {"root": str(homes), "driver": "btrfs"},
            "limits": {
                "memory": ["512m"],
                "default_memory": "512m",
                "storage": ["100m"],
                "default_storage": "100m",
            },
            "environments": [{"name": "jupyterlab", "pids_limit": 200}],
        }
    )
    async with live.person("anna@example.org") as anna, live.person("ben@example.org") as ben:
        yield live, anna, ben


async def both_run(anna: Person, ben: Person) -> tuple[str, str]:
    hers, his = await asyncio.gather(anna.launch_and_wait("jupyterlab"), ben.launch_and_wait("jupyterlab"))
    await ben.open(his["id"])
    return str(hers["id"]), str(his["id"])


async def neighbour_works(live: LivePlatform, ben: Person, instance_id: str) -> None:
    """His application answers, his files can be written, the portal answers."""
    answer = await ben.http.get(ben.instance_url(instance_id, "/api/status"))
    assert answer.status_code == 200, answer.text
    written = await inside(live.container_of(instance_id)["Id"], "echo fine > ~/fine && cat ~/fine")
    assert written.stdout == "fine\n", written.stderr
    assert (await ben.http.get("/readyz")).status_code == 200


async def test_c4_a_fork_bomb_stays_inside_and_is_told(crowded: Crowd) -> None:
    live, anna, ben = crowded
    hers, his = await both_run(anna, ben)
    container = live.container_of(hers)["Id"]
    bomb = "import os, time\nwhile 1:\n try:\n  if os.fork() == 0: time.sleep(60)\n except OSError: time.sleep(60)"
    docker("exec", "-d", container, "python3", "-c", bomb)
    assert "as many processes and threads as it may (200)" in await reason_of(anna, hers, "processes")
    await neighbour_works(live, ben, his)
    await anna.stop(hers)
    await ben.stop(his)


async def test_c4_f3_a_memory_hog_is_ended_and_its_owner_told_while_the_instance_goes_on(
    crowded: Crowd,
) -> None:
    live, anna, ben = crowded
    hers, his = await both_run(anna, ben)
    container = live.container_of(hers)["Id"]
    hog = await inside(container, "python3 -c 'x = bytearray(2 << 30)'")
    assert hog.returncode != 0
    assert "512 MB of memory" in await reason_of(anna, hers, "memory")
    assert (await anna.get(hers))["state"] == "running"
    await neighbour_works(live, ben, his)
    page = await anna.http.get("/dashboard", headers={"Accept": "text/html"})
    assert "A program in it needed more than its" in page.text
    await anna.stop(hers)
    reason = str((await anna.get(hers))["reason"])
    assert reason.startswith("stopped by you; before, a program in it ran out of memory at 512 MB"), reason
    await ben.stop(his)


async def test_c4_f4_a_full_home_is_its_owners_alone(crowded: Crowd) -> None:
    live, anna, ben = crowded
    hers, his = await both_run(anna, ben)
    container = live.container_of(hers)["Id"]
    filled = await inside(container, "head -c 200000000 /dev/urandom > ~/big; sync ~/big; ls -l ~/big")
    assert "quota" in filled.stderr.lower() or "no space" in filled.stderr.lower(), filled
    assert "your home folder is full" in await reason_of(anna, hers, "home folder is full", 60)
    await neighbour_works(live, ben, his)
    await inside(container, "rm ~/big; sync")
    deadline = monotonic() + 60
    while (await anna.get(hers))["reason"]:
        assert monotonic() < deadline, "the warning stays"
        await asyncio.sleep(0.5)
    await anna.stop(hers)
    await ben.stop(his)


async def test_c4_a_flooded_log_is_cut_and_the_disk_stays_free(start_platform: StartPlatform) -> None:
    live = await start_platform({"engine": {"log_bytes": "1m"}})
    async with live.person("anna@example.org") as anna:
        instance = await anna.launch_and_wait("jupyterlab")
        container = live.container_of(instance["id"])
        await inside(container["Id"], "head -c 20000000 /dev/zero | tr '\\0' x | fold -w 100 > /proc/1/fd/1")
        await asyncio.sleep(1)
        folder = Path(container["LogPath"]).parent
        written = sum(file.stat().st_size for file in folder.glob("*-json.log*"))
        assert 0 < written < 3 * 1024**2
        assert (await anna.http.get("/readyz")).status_code == 200
        await anna.stop(instance["id"])


# -- C5: homes that are something else ---------------------------------------------------------------------------------


async def test_c5_a_home_that_is_a_link_is_refused_and_what_it_leads_to_is_let_alone(
    shared_platform: LivePlatform, tmp_path: Path
) -> None:
    live = shared_platform
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret").write_text("root's")
    before = [(path.stat().st_uid, path.stat().st_mode) for path in (elsewhere, elsewhere / "secret")]
    async with live.person("lina@example.org") as lina:
        first = await lina.launch_and_wait("jupyterlab")
        await lina.stop(first["id"])
        home = live.homes / "lina"
        shutil.rmtree(home)
        home.symlink_to(elsewhere)
        instance = await lina.launch("jupyterlab")
        ended = await lina.wait_for(instance["id"], "failed")
        assert "not a directory" in ended["reason"]
        home.unlink()
        again = await lina.launch_and_wait("jupyterlab")
        await lina.stop(again["id"])
    assert [(path.stat().st_uid, path.stat().st_mode) for path in (elsewhere, elsewhere / "secret")] == before


async def test_c5_links_in_a_home_change_nothing_outside(shared_platform: LivePlatform, tmp_path: Path) -> None:
    """Made by its user in one instance; the next launch, whose init runs as root, follows none of them."""
    live = shared_platform
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("root's")
    async with live.person("mona@example.org") as mona:
        first = await mona.launch_and_wait("jupyterlab", memory="1g")
        container = live.container_of(first["id"])["Id"]
        # What the links lead to exists on the server, and in the next container as well: its own system files.
        await inside(container, f"ln -s {outside} ~/there; ln -s {outside}/file ~/file; ln -s /etc/passwd ~/.bashrc")
        await inside(container, "mkdir -p ~/.local/share && ln -s /etc ~/.local/share/rstudio")
        await mona.stop(first["id"])
        watched = [outside, outside / "file", Path("/etc"), Path("/etc/passwd")]
        before = [(path.stat().st_uid, path.stat().st_gid, path.stat().st_mode) for path in watched]
        second = await mona.launch("rstudio", memory="1g")
        await mona.wait_for(second["id"], "running", "failed")
        # It may run, or end since RStudio finds its folders unusable: what counts is what it did until then.
        label = f"label=org.launchpad.instance={second['id']}"
        if container := docker("ps", "-q", "--filter", label):
            inner = await inside(container, "stat -c %u /etc /etc/passwd", user="0")
            assert inner.stdout.split() in ([], ["0", "0"])
        after = [(path.stat().st_uid, path.stat().st_gid, path.stat().st_mode) for path in watched]
        assert after == before
        if (await mona.get(second["id"]))["state"] == "running":
            await mona.http.post(f"/api/v1/instances/{second['id']}/stop")
