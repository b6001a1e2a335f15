"""C6: the web process holds no engine access; a privileged helper with fixed verbs does what needs it.

The table of hostile arguments is sent to the real helper's socket; the last tests run a whole platform whose portal is
an ordinary user's process.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from launchpad.domain.safe_mode import in_safe_mode
from launchpad.errors import HelperRefused, HelperUnavailable
from launchpad.helper.guard import Guard
from launchpad.helper_client import HelperClient
from launchpad.ops.certificates import site_certificates
from launchpad.runtime import wire
from launchpad.runtime.fake import FakeRuntime
from launchpad.services.catalogue import catalogue_of
from launchpad.services.images import ImageService
from launchpad.services.kit import Kit
from launchpad.services.launching import Launcher
from launchpad.services.specification import specification
from launchpad.settings import Settings, tables
from launchpad.storage.plain import PlainHomes
from support.helper import guard_of, helper_thread
from support.live import LivePlatform, StartPlatform
from support.open_program import Program

USER = "nobody"  # every system has it, and it may nothing
UID, OTHER_UID = 200_001, 200_002
ID, OWNER = "0123456789abcdef", "fedcba9876543210"
GIB = 1024**3
TOKEN = re.compile(r"[0-9a-f]{64}")

Plain = dict[str, Any]


@dataclass
class Helped:
    line: HelperClient
    runtime: FakeRuntime
    settings: Settings
    path: Path

    def launch(
        self, environment: str = "jupyterlab", username: str = "anna", uid: int = UID, *, safe_mode: bool = False
    ) -> Plain:
        """What an honest portal sends."""
        found = catalogue_of(self.settings)[environment]
        values = Launcher(self.settings, self.runtime, b"k" * 32).placeholders(found, ID, username, uid)
        spec = specification(
            in_safe_mode(found) if safe_mode else found,
            values,
            instance_id=ID,
            owner_id=OWNER,
            image=found.image,
            memory_bytes=GIB,
            cpus=1,
            home=self.settings.homes.root / username,
            shared=self.settings.mounts,
        )
        plain: Plain = wire.plain(replace(spec, safe_mode=safe_mode))
        return plain


@pytest.fixture
async def helped(tmp_path: Path) -> AsyncIterator[Helped]:
    homes, shared = tmp_path / "homes", tmp_path / "shared"
    homes.mkdir()
    shared.mkdir()
    settings = tables(
        {
            "homes": {"root": str(homes), "driver": "plain"},
            "mounts": [{"name": "data", "source": str(shared), "target": "/data", "mode": "ro"}],
        }
    )
    for name, uid in (("anna", UID), ("bert", OTHER_UID), ("rootly", 0)):
        (homes / name).mkdir(mode=0o700)
        os.chown(homes / name, uid, uid)
    (homes / "linked").symlink_to("/etc")
    runtime = FakeRuntime("none")
    with helper_thread(tmp_path, runtime, PlainHomes(homes), guard_of(settings, runtime)) as path:
        line = HelperClient(path)
        yield Helped(line, runtime, settings, path)
        await line.aclose()


@pytest.mark.parametrize("environment", ["jupyterlab", "rstudio"])
async def test_c6_what_the_settings_make_of_a_launch_is_started(helped: Helped, environment: str) -> None:
    """The allowed case of everything below; without the shared directory, too."""
    spec = helped.launch(environment)
    started = await helped.line.ask("start", {"spec": spec})
    assert (started["instance_id"], started["state"]) == (ID, "running")
    await helped.line.ask("remove", {"instance_id": ID})
    spec["mounts"] = [each for each in spec["mounts"] if each["target"] != "/data"]
    assert (await helped.line.ask("start", {"spec": spec}))["state"] == "running"


@pytest.mark.parametrize("environment", ["jupyterlab", "rstudio"])
async def test_c6_a_launch_in_safe_mode_is_what_the_settings_make_of_it(helped: Helped, environment: str) -> None:
    """The helper puts it together itself; one that only says so, or only looks so, is refused."""
    spec = helped.launch(environment, safe_mode=True)
    assert (await helped.line.ask("start", {"spec": spec}))["state"] == "running"
    made = helped.runtime._running[ID].spec
    assert made.safe_mode
    assert made.env_vars["PYTHONNOUSERSITE"] == "1"
    await helped.line.ask("remove", {"instance_id": ID})
    for odd in ({**spec, "safe_mode": False}, {**helped.launch(environment), "safe_mode": True}):
        with pytest.raises(HelperRefused):
            await helped.line.ask("start", {"spec": odd})
    assert await helped.runtime.list_containers() == []


def _mount(source: str, target: str, *, read_only: bool = False) -> Plain:
    return {"source": source, "target": target, "read_only": read_only}


HOSTILE_LAUNCHES: dict[str, Any] = {
    "another instance's id": lambda s: s.update(instance_id="../" + ID),
    "an id of other letters": lambda s: s.update(instance_id=ID.upper()),
    "an id that is no text": lambda s: s.update(instance_id=7),
    "an owner that is none": lambda s: s.update(owner_id="root"),
    "an environment that is not offered": lambda s: s.update(environment="shell"),
    "another image": lambda s: s.update(image="evil/image:1"),
    "no memory": lambda s: s.update(memory_bytes=0),
    "less than no memory": lambda s: s.update(memory_bytes=-1),
    "more memory than there is": lambda s: s.update(memory_bytes=2**60),
    "more cores than there are": lambda s: s.update(cpus=100_000),
    "no cores": lambda s: s.update(cpus=0),
    "so little of a core that the engine takes it for no limit": lambda s: s.update(cpus=1e-10),
    "cores that are no number": lambda s: s.update(cpus="NaN"),
    "processes without end": lambda s: s.update(pids_limit=10**6),
    "another port": lambda s: s.update(network_port=22),
    "root": lambda s: s.update(user="0:0"),
    "another user": lambda s: s.update(user=f"{OTHER_UID}:0"),
    "the engine's group": lambda s: s.update(groups=[*s["groups"], "docker"]),
    "another command": lambda s: s.update(command=["sh", "-c", "id"]),
    "a longer command": lambda s: s.update(command=[*s["command"], "--ServerApp.token="]),
    "a token that is none": lambda s: s.update(json.loads(TOKEN.sub("short", json.dumps(s)))),
    "a token that says more": lambda s: s.update(json.loads(TOKEN.sub("a" * 64 + " --x", json.dumps(s)))),
    "one more variable": lambda s: s["env_vars"].update(LD_PRELOAD="/home/jovyan/x.so"),
    "one variable less": lambda s: s["env_vars"].pop(next(iter(s["env_vars"]))),
    "another variable": lambda s: s["env_vars"].update({next(iter(s["env_vars"])): "x"}),
    "a GPU": lambda s: s.update(gpus="all"),
    "GPUs by their ids": lambda s: s.update(gpus=["0"]),
    "a capability": lambda s: s.update(capabilities=[*s["capabilities"], "SYS_ADMIN"]),
    "another host name": lambda s: s.update(hostname="portal"),
    "a stop without end": lambda s: s.update(stop_grace_seconds=10**9),
    "the whole server": lambda s: s["mounts"].append(_mount("/", "/h")),
    "the engine's socket": lambda s: s["mounts"].append(_mount("/var/run/docker.sock", "/var/run/docker.sock")),
    "the platform's state": lambda s: s["mounts"].append(_mount("/var/lib/launchpad", "/s", read_only=True)),
    "somebody else's home beside": lambda s: s["mounts"].append(_mount(_home(s, "bert"), "/b")),
    "somebody else's home": lambda s: _instead(s, _home(s, "bert")),
    "root's home": lambda s: _instead(s, _home(s, "rootly")),
    "a home that is a link": lambda s: _instead(s, _home(s, "linked")),
    "a home on a way round": lambda s: _instead(s, _home(s, "../homes/anna")),
    "a home that is not there": lambda s: _instead(s, _home(s, "nobody-here")),
    "the homes altogether": lambda s: _instead(s, str(Path(_home(s, "anna")).parent)),
    "no home": lambda s: s.update(mounts=s["mounts"][1:]),
    "two homes": lambda s: s["mounts"].append(s["mounts"][0]),
    "the shared data to write": lambda s: s["mounts"][-1].update(read_only=False),
    "the shared data elsewhere": lambda s: s["mounts"][-1].update(target="/etc"),
    "another place as shared data": lambda s: s["mounts"][-1].update(source="/etc"),
    "a folder of the home first for a root init": lambda s: s.update(first_in_path="/home/jovyan/x"),
    "certificates that are none": lambda s: s["env_vars"].update(SSL_CERT_FILE="/home/jovyan/ca"),
    "nothing": lambda s: s.clear(),
}


def _home(spec: Plain, name: str) -> str:
    return str(Path(spec["mounts"][0]["source"]).parent) + "/" + name


def _instead(spec: Plain, source: str) -> None:
    before = spec["mounts"][0]["source"]
    for mount in spec["mounts"]:
        if mount["source"] == before:
            mount["source"] = source


@pytest.mark.parametrize("wish", HOSTILE_LAUNCHES)
async def test_c6_hostile_launches_are_refused(helped: Helped, wish: str) -> None:
    spec = helped.launch()
    before = json.dumps(spec, sort_keys=True)
    HOSTILE_LAUNCHES[wish](spec)
    assert json.dumps(spec, sort_keys=True) != before, "this is the honest launch"
    async with helped_http(helped) as http:
        answer = await http.post("/start", json={"spec": spec})
    assert answer.status_code in (403, 503), answer.text
    assert answer.json()["error"] in ("helper-refused", "home-unavailable"), answer.text
    assert await helped.runtime.list_containers() == []


async def test_c6_what_instances_run_from_is_the_helpers_own(tmp_path: Path) -> None:
    """A portal's kit, which its user could change, is not mounted: an init that runs as root starts from it."""
    homes, own, portals = (tmp_path / name for name in ("homes", "own", "portals"))
    for folder in (homes, homes / "anna", own, portals):
        folder.mkdir()
    os.chown(homes / "anna", UID, UID)
    settings = tables({"homes": {"root": str(homes), "driver": "plain"}})
    runtime = FakeRuntime("none")
    environment = catalogue_of(settings)["rstudio"]
    sent = specification(
        environment,
        Launcher(settings, runtime, b"k" * 32).placeholders(environment, ID, "anna", UID),
        instance_id=ID,
        owner_id=OWNER,
        image=environment.image,
        memory_bytes=GIB,
        cpus=1,
        home=homes / "anna",
        kit=Kit(portals, settings.dashboard_url),
    )
    assert any(mount.source.is_relative_to(portals) for mount in sent.mounts)
    guard = Guard(
        settings,
        catalogue_of(settings),
        ImageService(runtime, settings.images, site_certificates),
        None,
        Kit(own, settings.dashboard_url),
    )
    started = await guard.checked(sent, await runtime.host())
    sources = {mount.target: mount.source for mount in started.mounts}
    assert sources["/opt/launchpad"] == own / "kit"
    assert not any(source.is_relative_to(portals) for source in sources.values())


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("exec", {"command": "id"}),
        ("../start", {}),
        ("pull-image", {"reference": "evil/image:1"}),
        ("build-image", {}),
        ("_start", {}),
        ("find", {"instance_id": "../../etc"}),
        ("find", {"instance_id": ID + "\n"}),
        ("find", {"instance_id": [ID]}),
        ("find", {"instance_id": ID, "all": True}),
        ("find", {}),
        ("stop", {"instance_id": ID, "grace_seconds": 10**9}),
        ("stop", {"instance_id": ID, "grace_seconds": -1}),
        ("stop", {"instance_id": ID, "grace_seconds": "1"}),
        ("remove", {"instance_id": "*"}),
        ("log-tail", {"instance_id": ID, "lines": 10**9}),
        ("caps", {"instance_id": "../" + ID}),
        ("network", {"name": "bridge"}),
        ("cut", {"addresses": [{"host": "127.0.0.1", "port": 22}]}),
        ("cut", {"addresses": [{"host": "192.0.2.1", "port": 20001}]}),
        ("cut", {"addresses": [{"host": "127.0.0.1 or dst 0.0.0.0/0", "port": 20001}]}),
        ("cut", {"addresses": "all"}),
        ("image-exists", {"reference": "-rm"}),
        ("image-exists", {"reference": "a b"}),
        ("image-exists", {"reference": "x/../../containers"}),
        ("image-exists", {"reference": "x/./y"}),
        ("list-images", {"label": "a=b&c"}),
        ("home-prepare", {"username": "../etc", "uid": UID, "limit_bytes": None}),
        ("home-prepare", {"username": "carl", "uid": 0, "limit_bytes": None}),
        ("home-prepare", {"username": "carl", "uid": 1000, "limit_bytes": None}),
        ("home-prepare", {"username": "carl", "uid": 2**32, "limit_bytes": None}),
        ("home-prepare", {"username": "carl", "uid": True, "limit_bytes": None}),
        ("home-prepare", {"username": "carl", "uid": UID, "limit_bytes": -1}),
        ("home-prepare", {"username": "carl", "uid": UID, "limit_bytes": 1.5}),
        ("home-prepare", {"username": "bert", "uid": UID, "limit_bytes": None}),
        ("home-prepare", {"username": "linked", "uid": UID, "limit_bytes": None}),
        ("home-use", {"username": ".."}),
        ("home-exists", {"username": "/etc/passwd"}),
        ("homes-owners", {"root": "/etc"}),
        ("events", {"since": "now"}),
        ("events", {"since": 0, "follow": True}),
    ],
)
async def test_c6_each_verb_refuses_hostile_arguments(helped: Helped, verb: str, arguments: Plain) -> None:
    before = sorted(entry.name for entry in helped.settings.homes.root.iterdir())
    async with helped_http(helped) as http:
        answer = await http.post(f"/{verb}", json=arguments)
    if answer.headers["content-type"].startswith("application/x-ndjson"):
        assert json.loads(answer.text.splitlines()[-1])["error"] == "helper-refused"
    else:
        assert answer.status_code in (403, 404, 503), answer.text
        assert answer.status_code == 404 or answer.json()["error"] in ("helper-refused", "home-unavailable")
    assert sorted(entry.name for entry in helped.settings.homes.root.iterdir()) == before


async def test_c6_each_verb_does_what_it_is_for(helped: Helped) -> None:
    """The allowed case of the table above."""
    line = helped.line
    await line.ask("start", {"spec": helped.launch()})
    assert (await line.ask("find", {"instance_id": ID}))["instance_id"] == ID
    await line.ask("cut", {"addresses": [{"host": "127.0.0.1", "port": 20001}]})
    await line.ask("log-tail", {"instance_id": ID, "lines": 5})
    await line.ask("home-prepare", {"username": "carl", "uid": 200_003, "limit_bytes": GIB})
    assert (helped.settings.homes.root / "carl").stat().st_uid == 200_003
    assert await line.ask("home-exists", {"username": "carl"}) is True
    assert 200_003 in await line.ask("homes-owners", {})
    await line.ask("stop", {"instance_id": ID, "grace_seconds": 1})
    assert (await line.ask("find", {"instance_id": ID}))["state"] == "exited"


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"[" * 100_000, b'{"a b":1}', b'{"__class__":1}', b"\xff\xfe"])
async def test_c6_what_is_no_object_of_arguments_is_refused(helped: Helped, body: bytes) -> None:
    async with helped_http(helped) as http:
        assert (await http.post("/host", content=body)).status_code == 403
        assert (await http.post("/host", content=b"{}")).status_code == 200


async def test_c6_requests_without_end_are_refused(helped: Helped) -> None:
    async with helped_http(helped) as http:
        assert (await http.post("/host", content=b"{" + b" " * 2**20 + b"}")).status_code == 413
        assert (await http.get("/host")).status_code == 405


def helped_http(helped: Helped) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(helped.path)), base_url="http://h", timeout=20)


async def test_c6_only_the_portals_user_is_listened_to(tmp_path: Path) -> None:
    """By the kernel's word, whatever the socket's permissions are."""
    runtime = FakeRuntime("none")
    settings = Settings()
    nobody = pwd.getpwnam(USER).pw_uid
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        guard = guard_of(settings, runtime)
        with helper_thread(folder, runtime, PlainHomes(tmp_path), guard, {0, nobody}) as path:
            assert "200 OK" in _ask_as(nobody, path)
            assert "403 Forbidden" in _ask_as(nobody - 1, path)
            assert "200 OK" in _ask_as(0, path)


def _ask_as(uid: int, path: Path) -> str:
    request = "POST /host HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    script = "my $s = IO::Socket::UNIX->new($ARGV[0]) or die; print $s $ARGV[1]; print <$s>"
    done = subprocess.run(
        ["perl", "-MIO::Socket::UNIX", "-e", script, str(path), request],
        user=uid,
        group=uid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


async def test_c6_a_helper_that_is_away_is_told_in_plain_words(tmp_path: Path) -> None:
    line = HelperClient(tmp_path / "none.sock")
    with pytest.raises(HelperUnavailable, match="helper does not answer"):
        await line.ask("host")
    with pytest.raises(HelperUnavailable, match="helper does not answer"):
        line.ask_at_once("homes-enforce-limits")
    await line.aclose()


async def test_c6_a_refusal_reaches_the_portal_as_one(helped: Helped) -> None:
    with pytest.raises(HelperRefused, match="image"):
        await helped.line.ask("start", {"spec": helped.launch() | {"image": "evil/image:1"}})


# -- a whole platform, whose portal is nobody's ------------------------------------------------------------------------


@pytest.fixture
async def live(open_folder: Path, start_platform: StartPlatform, program: Program) -> LivePlatform:
    return await start_platform(below=open_folder, helper_user=USER, program=program)


def as_portal(live: LivePlatform, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a program with exactly what the portal's process has."""
    assert live.portal is not None
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{live.portal.pid}/status").read_text().splitlines())
    uids, gids, groups = (list(map(int, status[name].split())) for name in ("Uid", "Gid", "Groups"))
    assert len(set(uids)) == 1
    assert uids[0] == pwd.getpwnam(USER).pw_uid
    assert int(status["CapEff"], 16) == 0
    return subprocess.run(
        command, user=uids[0], group=gids[0], extra_groups=groups, capture_output=True, text=True, check=False
    )


async def test_c6_the_web_process_has_neither_engine_nor_homes_and_the_platform_works(live: LivePlatform) -> None:
    async with live.person("carla@example.org") as carla:
        jupyter, rstudio = await asyncio.gather(carla.launch_and_wait("jupyterlab"), carla.launch_and_wait("rstudio"))
        assert (await carla.open(jupyter["id"])).status_code == 200
        home = live.homes / carla.me["username"]
        assert home.stat().st_uid >= 200_000

        denied = as_portal(live, "docker", "run", "--rm", "-v", "/:/h", "busybox", "cat", "/h/etc/shadow")
        assert denied.returncode != 0
        assert "permission denied" in denied.stderr.lower()
        assert as_portal(live, "ls", str(home)).returncode != 0
        assert as_portal(live, "ls", str(live.homes)).returncode == 0, "the control: only the home itself is closed"
        assert as_portal(live, "touch", str(live.homes / "mine")).returncode != 0
        assert as_portal(live, "touch", str(live.folder / "helper" / "mine")).returncode != 0
        assert as_portal(live, "touch", str(live.state / "mine")).returncode == 0

        usage = (await carla.get(jupyter["id"]))["usage"]
        assert usage["memory_bytes"] > 0
        assert (await carla.stop(jupyter["id"]))["reason"]

        # Ends by themselves are seen, which needs the engine's events through the helper.
        name = live.container_of(rstudio["id"])["Name"].removeprefix("/")
        await asyncio.to_thread(subprocess.run, ["docker", "kill", name], check=True, capture_output=True)
        assert "killed" in (await carla.wait_for(rstudio["id"], "failed"))["reason"]


async def test_c6_roots_commands_leave_nothing_behind_that_the_portal_cannot_write(live: LivePlatform) -> None:
    async with live.person("dora@example.org") as dora:
        instance = await dora.launch_and_wait("jupyterlab")
        await asyncio.to_thread(live.command, "sweep")
        assert "dora@example.org" in await asyncio.to_thread(live.command, "user", "list")
        await asyncio.to_thread(live.command, "instance", "stop", instance["id"])
        portal = pwd.getpwnam(USER).pw_uid
        assert {path.lstat().st_uid for path in live.state.rglob("*")} == {portal}
        assert "jupyterlab" in await asyncio.to_thread(live.command, "images", "list")


async def test_c6_a_helper_that_comes_back_is_used_again(live: LivePlatform) -> None:
    """While it is away, changes are refused and pages answer; what runs goes on."""
    async with live.person("emma@example.org") as emma:
        instance = await emma.launch_and_wait("jupyterlab")
        assert live.helper is not None
        live.helper.kill()
        await live.helper.wait()
        assert (await emma.open(instance["id"])).status_code == 200
        assert (await emma.http.get("/dashboard")).status_code == 200
        assert (await emma.http.get("/readyz")).status_code == 503
        (live.folder / "helper.sock").unlink()
        await live.start_helper()
        await live.wait_until_ready()
        assert (await emma.stop(instance["id"]))["reason"] == "stopped by you"
