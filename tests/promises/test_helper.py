"""C6: the web process holds no engine access; a privileged helper with fixed verbs does what needs it.

The table of hostile arguments is sent to the real helper's socket; the last tests run a whole platform whose portal is
an ordinary user's process.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from launchpad.errors import HelperRefused, HelperUnavailable, NotFound
from launchpad.helper.guard import Guard
from launchpad.helper_client import HelperClient
from launchpad.parts import composer_of, images_of
from launchpad.runtime.base import BindMount, ContainerSpec, LaunchOrder
from launchpad.runtime.fake import FakeRuntime
from launchpad.services.catalogue import catalogue_of
from launchpad.settings import Settings, tables
from launchpad.storage.choose import choose_snapshots
from launchpad.storage.files import HelperFiles, Owner
from launchpad.storage.fileworker.line import HEAD
from launchpad.storage.plain import PlainHomes
from launchpad.storage.snapshots import FOLDER
from support.files import files_door, pieces, workers
from support.helper import guard_of, helper_thread
from support.live import LivePlatform, StartPlatform
from support.open_program import Program

USER = "nobody"  # every system has it, and it may nothing
UID, OTHER_UID = 200_001, 200_002
ID, OWNER = "0123456789abcdef", "fedcba9876543210"
GIB = 1024**3
TOKEN = "5e" * 32

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
        return {
            "instance_id": ID,
            "owner_id": OWNER,
            "environment": environment,
            "username": username,
            "uid": uid,
            "memory_bytes": GIB,
            "cpus": 1,
            "token": TOKEN,
            "lab": "physics",
            "safe_mode": safe_mode,
        }

    @property
    def made(self) -> ContainerSpec:
        """What was started of it."""
        return self.runtime._running[ID].spec


@pytest.fixture
async def helped(tmp_path: Path) -> AsyncIterator[Helped]:
    homes, shared = tmp_path / "homes", tmp_path / "shared"
    homes.mkdir()
    shared.mkdir()
    settings = tables(
        {
            "homes": {"root": str(homes), "driver": "plain"},
            "mounts": [
                {"name": "data", "source": str(shared), "target": "/data", "mode": "ro", "labs": ["physics"]},
                {"name": "theirs", "source": str(shared), "target": "/theirs", "labs": ["biology"]},
            ],
        }
    )
    for name, uid in (("anna", UID), ("bert", OTHER_UID), ("rootly", 0)):
        (homes / name).mkdir(mode=0o700)
        os.chown(homes / name, uid, uid)
    (homes / "linked").symlink_to("/etc")
    runtime = FakeRuntime("none")
    with helper_thread(tmp_path, runtime, guard_of(settings, runtime, PlainHomes(homes))) as path:
        line = HelperClient(path)
        yield Helped(line, runtime, settings, path)
        await line.aclose()


@pytest.mark.parametrize("environment", ["jupyterlab", "rstudio"])
async def test_c6_what_the_settings_make_of_a_launch_is_started(helped: Helped, environment: str) -> None:
    """The allowed case of everything below; without the shared directory, too.

    What is started is made of the helper's settings, whole: an order has no words for it.
    """
    started = await helped.line.ask("launch", {"order": helped.launch(environment)})
    assert (started["instance_id"], started["state"]) == (ID, "running")
    entry = catalogue_of(helped.settings)[environment]
    made, home = helped.made, helped.settings.homes.root / "anna"
    assert (made.image, made.network_port, made.pids_limit) == (entry.image, entry.port, entry.pids_limit)
    assert (made.capabilities, made.groups, made.gpus) == (entry.capabilities, entry.groups, 0)
    assert (made.memory_bytes, made.cpus, made.stop_grace_seconds) == (GIB, 1, entry.stop_grace_seconds)
    data = BindMount(Path(helped.settings.mounts[0].source), "/data", read_only=True)
    assert set(made.mounts) == {BindMount(home, entry.home), BindMount(home, "/home/anna"), data}
    assert str(UID) in f"{made.user} {made.command} {made.env_vars}"
    assert str(OTHER_UID) not in f"{made.user} {made.command} {made.env_vars}"
    assert TOKEN in str(made) or "{token}" not in str(entry)
    await helped.line.ask("remove", {"instance_id": ID})
    started = await helped.line.ask("launch", {"order": helped.launch(environment) | {"lab": None}})
    assert started["state"] == "running"
    assert set(helped.made.mounts) == set(made.mounts) - {data}


@pytest.mark.parametrize("environment", ["jupyterlab", "rstudio"])
async def test_c6_a_launch_in_safe_mode_is_what_the_settings_make_of_it(helped: Helped, environment: str) -> None:
    """The helper puts it together itself; one that only looks so cannot be said."""
    started = await helped.line.ask("launch", {"order": helped.launch(environment, safe_mode=True)})
    assert started["state"] == "running"
    assert helped.made.safe_mode
    assert helped.made.env_vars["PYTHONNOUSERSITE"] == "1"
    await helped.line.ask("remove", {"instance_id": ID})
    odd: Plain
    for odd in ({"safe_mode": "yes"}, {"safe_mode": 1}, {"env_vars": {"PYTHONNOUSERSITE": "1"}}):
        with pytest.raises(HelperRefused):
            await helped.line.ask("launch", {"order": helped.launch(environment) | odd})
    assert await helped.runtime.list_containers() == []
    await helped.line.ask("launch", {"order": helped.launch(environment)})
    assert not helped.made.safe_mode
    assert helped.made.env_vars.get("PYTHONNOUSERSITE") != "1"


def _mount(source: str, target: str, *, read_only: bool = False) -> Plain:
    return {"source": source, "target": target, "read_only": read_only}


ARCHIVE, DIGEST = "20261127T140000Z", "0" * 64
COPY: Plain = {
    "username": "anna",
    "uid": UID,
    "name": "",
    "sha256": "",
    "to_username": "anna",
    "to_uid": UID,
    "folder": "A copy",
}
HOSTILE_LAUNCHES: dict[str, Any] = {
    "another instance's id": lambda s: s.update(instance_id="../" + ID),
    "an id of other letters": lambda s: s.update(instance_id=ID.upper()),
    "an id that is no text": lambda s: s.update(instance_id=7),
    "an owner that is none": lambda s: s.update(owner_id="root"),
    "an environment that is not offered": lambda s: s.update(environment="shell"),
    "no memory": lambda s: s.update(memory_bytes=0),
    "less than no memory": lambda s: s.update(memory_bytes=-1),
    "more memory than there is": lambda s: s.update(memory_bytes=2**60),
    "more cores than there are": lambda s: s.update(cpus=100_000),
    "no cores": lambda s: s.update(cpus=0),
    "so little of a core that the engine takes it for no limit": lambda s: s.update(cpus=1e-10),
    "cores that are no number": lambda s: s.update(cpus="NaN"),
    "root": lambda s: s.update(uid=0),
    "another user": lambda s: s.update(uid=OTHER_UID),
    "a uid that is no number": lambda s: s.update(uid=str(UID)),
    "a token that is none": lambda s: s.update(token="short"),
    "a token that says more": lambda s: s.update(token="a" * 64 + " --x"),
    "somebody else's home": lambda s: s.update(username="bert"),
    "root's home": lambda s: s.update(username="rootly"),
    "root's home as root": lambda s: s.update(username="rootly", uid=0),
    "a home that is a link": lambda s: s.update(username="linked"),
    "a home on a way round": lambda s: s.update(username="../homes/anna"),
    "a home that is not there": lambda s: s.update(username="nobody-here"),
    "the homes altogether": lambda s: s.update(username=""),
    "the folder above": lambda s: s.update(username=".."),
    "no home": lambda s: s.pop("username"),
    "two homes": lambda s: s.update(username=["anna", "bert"]),
    "a lab that is no text": lambda s: s.update(lab=["physics", "biology"]),
    "nothing": lambda s: s.clear(),
}
# What an order has no words for: whoever says it all the same is refused, whole.
UNSAYABLE: dict[str, Plain] = {
    "another image": {"image": "evil/image:1"},
    "processes without end": {"pids_limit": 10**6},
    "another port": {"network_port": 22},
    "root, or another user": {"user": "0:0"},
    "the engine's group": {"groups": ["docker"]},
    "another command": {"command": ["sh", "-c", "id"]},
    "a longer command": {"command": ["start-notebook.py", "--ServerApp.token="]},
    "one more variable": {"env_vars": {"LD_PRELOAD": "/home/jovyan/x.so"}},
    "one variable less": {"env_vars": {}},
    "a GPU": {"gpus": "all"},
    "GPUs by their ids": {"gpus": ["0"]},
    "a capability": {"capabilities": ["SYS_ADMIN"]},
    "another host name": {"hostname": "portal"},
    "a stop without end": {"stop_grace_seconds": 10**9},
    "the whole server": {"mounts": [_mount("/", "/h")]},
    "the engine's socket": {"mounts": [_mount("/var/run/docker.sock", "/var/run/docker.sock")]},
    "the platform's state": {"mounts": [_mount("/var/lib/launchpad", "/s", read_only=True)]},
    "somebody else's home beside": {"mounts": [_mount("/home/bert", "/b")]},
    "another directory as the home": {"home": "/etc"},
    "the shared data to write": {"mounts": [_mount("/srv/data", "/data")]},
    "the shared data elsewhere": {"mounts": [_mount("/srv/data", "/etc", read_only=True)]},
    "another place as shared data": {"mounts": [_mount("/etc", "/data", read_only=True)]},
    "a folder of the home first for a root init": {"first_in_path": "/home/jovyan/x"},
    "certificates that are none": {"env_vars": {"SSL_CERT_FILE": "/home/jovyan/ca"}},
    "privileges": {"privileged": True},
}


@pytest.mark.parametrize("wish", [*HOSTILE_LAUNCHES, *UNSAYABLE])
async def test_c6_hostile_launches_are_refused(helped: Helped, wish: str) -> None:
    order = helped.launch()
    if wish in UNSAYABLE:
        order.update(UNSAYABLE[wish])
    else:
        HOSTILE_LAUNCHES[wish](order)
    assert order != helped.launch(), "this is the honest launch"
    async with helped_http(helped) as http:
        answer = await http.post("/launch", json={"order": order})
    assert answer.status_code in (403, 503), answer.text
    assert answer.json()["error"] in ("helper-refused", "home-unavailable"), answer.text
    if wish in UNSAYABLE:
        assert answer.json()["error"] == "helper-refused"
        [word] = UNSAYABLE[wish]
        assert f"“order.{word}”: Unexpected keyword argument" in answer.json()["detail"]
    assert await helped.runtime.list_containers() == []


async def test_c6_a_whole_specification_cannot_be_sent(helped: Helped) -> None:
    """Neither as a verb of its own, nor beside the order or in its place."""
    spec = {"instance_id": ID, "owner_id": OWNER, "environment": "jupyterlab", "image": "evil/image:1"}
    async with helped_http(helped) as http:
        for verb, arguments in (
            ("start", {"spec": spec}),
            ("launch", {"spec": spec}),
            ("launch", {"order": helped.launch(), "spec": spec}),
            ("launch", {"order": spec}),
            ("launch", {"order": [ID, OWNER]}),
        ):
            answer = await http.post(f"/{verb}", json=arguments)
            assert (answer.status_code, answer.json()["error"]) == (403, "helper-refused"), arguments
    assert await helped.runtime.list_containers() == []


async def test_c6_what_instances_run_from_is_the_helpers_own(tmp_path: Path) -> None:
    """A portal's kit, which its user could change, is not mounted: an init that runs as root starts from it."""
    homes, own, portals = (tmp_path / name for name in ("homes", "own", "portals"))
    for folder in (homes, homes / "anna", own, portals):
        folder.mkdir()
    os.chown(homes / "anna", UID, UID)
    helper = {"socket": str(tmp_path / "helper.sock"), "state_dir": str(own)}
    settings = tables({"homes": {"root": str(homes), "driver": "plain"}, "helper": helper, "state_dir": str(portals)})
    runtime, store = FakeRuntime("none"), PlainHomes(homes)
    composer = composer_of(settings, runtime, images_of(settings, runtime), store)
    guard = Guard(
        settings, catalogue_of(settings), runtime, composer, runtime, store, choose_snapshots(settings, store)
    )
    await guard.launch(
        LaunchOrder(
            instance_id=ID,
            owner_id=OWNER,
            environment="rstudio",
            username="anna",
            uid=UID,
            memory_bytes=GIB,
            cpus=1,
            token=TOKEN,
        )
    )
    sources = {mount.target: mount.source for mount in runtime._running[ID].spec.mounts}
    assert sources["/opt/launchpad"] == own / "kit"
    assert not any(source.is_relative_to(portals) for source in sources.values())
    await runtime.aclose()


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("exec", {"command": "id"}),
        ("../start", {}),
        ("start", {"spec": {}}),
        ("pull-image", {"reference": "evil/image:1"}),
        ("import-image", {}),
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
        ("usage", {"instance_id": "../" + ID}),
        ("usage-all", {"deployment": "another"}),
        ("pause", {"instance_id": "*"}),
        ("resume", {"instance_id": "*"}),
        ("push-out", {"instance_id": "../" + ID}),
        ("unread-bytes", {"instance_ids": "*"}),
        ("unread-bytes", {"instance_ids": [ID, "../" + ID]}),
        ("freezer", {"proc": "/etc"}),
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
        ("home-measure", {"username": "../etc"}),
        ("home-measure", {"username": "linked"}),
        ("home-measure", {"username": "rootly"}),
        ("home-measure", {"username": "anna", "uid": 0}),
        ("homes-disk", {"root": "/etc"}),
        ("homes-owners", {"root": "/etc"}),
        ("snapshots-taken", {"username": "../homes/anna"}),
        ("snapshots-taken", {"username": ".launchpad-snapshots"}),
        ("snapshots-taken", {"username": "anna", "root": "/"}),
        ("snapshot-take", {"username": "../etc", "uid": UID, "cause": "time"}),
        ("snapshot-take", {"username": "anna", "uid": 0, "cause": "time"}),
        ("snapshot-take", {"username": "anna", "uid": 1000, "cause": "time"}),
        ("snapshot-take", {"username": "bert", "uid": UID, "cause": "before"}),
        ("snapshot-take", {"username": "linked", "uid": UID, "cause": "before"}),
        ("snapshot-take", {"username": "anna", "uid": UID, "cause": "../../x"}),
        ("snapshot-take", {"username": "anna", "uid": UID, "cause": "time", "name": "20261127T140000Z"}),
        ("snapshot-take", {"username": "anna", "uid": UID, "cause": "time", "now": "2030-01-01T00:00:00Z"}),
        ("snapshots-thin", {"username": "anna", "uid": OTHER_UID, "keep": 0}),
        ("snapshots-thin", {"username": "anna", "uid": 0}),
        ("snapshots-thin", {"username": "anna", "uid": OTHER_UID}),
        ("snapshots-thin", {"username": "anna/../bert", "uid": UID}),
        ("snapshot-forget", {"username": "anna", "name": "20261127T140000Z"}),
        ("archives-of", {"username": "../homes/anna"}),
        ("archives-summary", {"folder": "/etc"}),
        ("archives-tidy", {"root": "/"}),
        ("archive-make", {"username": "../etc", "uid": UID}),
        ("archive-make", {"username": "anna", "uid": 0}),
        ("archive-make", {"username": "anna", "uid": 1000}),
        ("archive-make", {"username": "bert", "uid": UID}),
        ("archive-make", {"username": "linked", "uid": UID}),
        ("archive-make", {"username": "rootly", "uid": UID}),
        ("archive-make", {"username": "anna", "uid": UID, "folder": "/tmp"}),
        ("archive-verify", {"username": "anna", "name": "../../etc", "sha256": DIGEST}),
        ("archive-verify", {"username": "anna", "name": ARCHIVE, "sha256": "x"}),
        ("archive-verify", {"username": "../anna", "name": ARCHIVE, "sha256": DIGEST}),
        ("archive-restore", {"username": "carl", "uid": 0, "name": ARCHIVE, "sha256": DIGEST}),
        ("archive-restore", {"username": "bert", "uid": UID, "name": ARCHIVE, "sha256": DIGEST}),
        ("archive-restore", {"username": "carl", "uid": UID, "name": f"{ARCHIVE}/../x", "sha256": DIGEST}),
        ("archive-restore", {"username": "carl", "uid": UID, "name": ARCHIVE, "sha256": DIGEST, "to": "/etc"}),
        ("home-remove", {"username": "bert", "uid": UID, "name": ARCHIVE, "sha256": DIGEST}),
        ("home-remove", {"username": "anna", "uid": UID, "name": "", "sha256": ""}),
        ("home-remove", {"username": "linked", "uid": UID, "name": ARCHIVE, "sha256": DIGEST}),
        *(
            ("archive-copy", {**COPY, **hostile})
            for hostile in (
                {"to_username": "bert"},
                {"to_uid": 0},
                {"to_username": "linked"},
                {"username": "bert", "uid": UID},
                {"folder": "../x"},
                {"folder": ".ssh"},
                {"folder": "a\nb"},
                {"folder": ""},
                {"name": "/etc/passwd"},
                {"name": ARCHIVE},
            )
        ),
        ("events", {"since": "now"}),
        ("events", {"since": 0, "follow": True}),
    ],
)
async def test_c6_each_verb_refuses_hostile_arguments(helped: Helped, verb: str, arguments: Plain) -> None:
    before = sorted(entry.name for entry in helped.settings.homes.root.iterdir())
    async with helped_http(helped) as http:
        answer = await http.post(f"/{verb}", json=arguments)
    if answer.headers["content-type"].startswith("application/x-ndjson"):
        error = json.loads(answer.text.splitlines()[-1])["error"]
        assert error == "helper-refused" or (error == "home-unavailable" and "linked" in arguments.values())
    else:
        assert answer.status_code in (403, 404, 503), answer.text
        assert answer.status_code == 404 or answer.json()["error"] in ("helper-refused", "home-unavailable")
    assert sorted(entry.name for entry in helped.settings.homes.root.iterdir()) == before


async def test_c6_each_verb_does_what_it_is_for(helped: Helped) -> None:
    """The allowed case of the table above."""
    line = helped.line
    await line.ask("launch", {"order": helped.launch()})
    assert set(await line.ask("usage-all")) == {ID}
    assert (await line.ask("usage", {"instance_id": ID}))["pids"] >= 1
    await line.ask("pause", {"instance_id": ID})
    assert (await line.ask("find", {"instance_id": ID}))["state"] == "paused"
    assert (await line.ask("freezer", {}))["can_freeze"] is True
    await line.ask("push-out", {"instance_id": ID})
    assert await line.ask("unread-bytes", {"instance_ids": [ID]}) == {ID: 0}
    await line.ask("resume", {"instance_id": ID})
    assert (await line.ask("find", {"instance_id": ID}))["instance_id"] == ID
    await line.ask("cut", {"addresses": [{"host": "127.0.0.1", "port": 20001}]})
    await line.ask("log-tail", {"instance_id": ID, "lines": 5})
    await line.ask("home-prepare", {"username": "carl", "uid": 200_003, "limit_bytes": GIB})
    assert (helped.settings.homes.root / "carl").stat().st_uid == 200_003
    assert await line.ask("home-exists", {"username": "carl"}) is True
    (helped.settings.homes.root / "carl" / "some").write_bytes(b"x" * 2**20)
    assert (await line.ask("home-measure", {"username": "carl"}))["used_bytes"] >= 2**20
    assert (await line.ask("homes-disk", {}))["free_bytes"] > 0
    assert "btrfs" in (await line.ask("snapshots-obstacle", {}))["needed"]
    assert await line.ask("snapshots-taken", {"username": "anna"}) == []
    assert (await line.ask("snapshots-summary", {}))["number"] == 0
    assert await line.ask("snapshot-take", {"username": "anna", "uid": UID, "cause": "time"}) is None
    assert (await line.ask("snapshots-thin", {"username": "anna", "uid": UID}))["removed"] == 0
    assert 200_003 in await line.ask("homes-owners", {})
    made = [said async for said in line.follow("archive-make", {"username": "carl", "uid": 200_003})][-1]["archive"]
    which = {"name": made["name"], "sha256": made["sha256"]}
    assert [one["name"] for one in await line.ask("archives-of", {"username": "carl"})] == [made["name"]]
    for verb, more in (
        ("archive-verify", {}),
        ("home-remove", {"uid": 200_003}),
        ("archive-restore", {"uid": 200_003}),
        ("archive-copy", {"uid": 200_003, "to_username": "anna", "to_uid": UID, "folder": "Files of carl"}),
    ):
        said = [one async for one in line.follow(verb, {"username": "carl", **which, **more})]
        assert said[-1]["is_done"] is True, verb
    assert (helped.settings.homes.root / "anna" / "Files of carl" / "some").stat().st_uid == UID
    assert (await line.ask("archives-summary", {}))["number"] == 1
    assert await line.ask("archives-tidy", {}) == 0
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


# -- the second socket, which hands a home's files to a worker of its owner --------------------------------------------


def _frame(body: bytes, kind: bytes = b"J", length: int | None = None) -> bytes:
    return HEAD.pack(kind, len(body) if length is None else length) + body


def _home(username: object = "anna", uid: object = UID, **more: object) -> bytes:
    return _frame(json.dumps({"username": username, "uid": uid, **more}).encode())


SNAPSHOT = "20261127T140000Z"
HOSTILE_HOMES: dict[str, bytes] = {
    "somebody else's home": _home("bert"),
    "somebody else's uid": _home(uid=OTHER_UID),
    "root's home": _home("rootly"),
    "root's home as root": _home("rootly", 0),
    "one's own home as root": _home(uid=0),
    "a uid of the system": _home(uid=1000),
    "a uid that wraps around": _home(uid=2**32 + UID),
    "less than no uid": _home(uid=-1),
    "a uid that is a text": _home(uid=str(UID)),
    "a uid that is a fraction": _home(uid=UID + 0.0),
    "a uid that is true": _home(uid=True),
    "no uid": _frame(b'{"username":"anna"}'),
    "a home that is a link": _home("linked"),
    "a home that is a file": _home("filed"),
    "a home that is not there": _home("nobody-here"),
    "a home on a way round": _home("../homes/anna"),
    "the homes altogether": _home(""),
    "the folder above": _home(".."),
    "an absolute path": _home("/etc"),
    "a path in a home": _home("anna/.ssh"),
    "a name with an end of its own": _home("anna\0"),
    "two homes": _home(["anna", "bert"]),
    "a root of one's own": _home(root="/"),
    "a verb at once": _home(verb="list"),
    "a snapshot on a way round": _home(snapshot="../anna"),
    "a snapshot of somebody else's": _home(snapshot=f"../bert/{SNAPSHOT}"),
    "a snapshot that is the home": _home(snapshot="."),
    "a snapshot without a name": _home(snapshot=""),
    "a snapshot that is none": _home(snapshot=None),
    "two snapshots": _home(snapshot=[SNAPSHOT, SNAPSHOT]),
    "a snapshot with an end of its own": _home(snapshot=f"{SNAPSHOT}\0"),
    "a snapshot in a folder": _home(snapshot=f"{SNAPSHOT}/x"),
    "somebody else's with one's own snapshot": _home("bert", snapshot=SNAPSHOT),
    "one's own with somebody else's uid and a snapshot": _home(uid=OTHER_UID, snapshot=SNAPSHOT),
    "a snapshot of the administrator's": _home(snapshot="20261127T150000Z"),
    "a snapshot that is a link": _home(snapshot="20261127T160000Z"),
    "a check that is none": _frame(b'{"check":1}'),
    "a check of a home": _home(check=True),
    "a command": _frame(b'{"username":"anna","uid":200001,"command":"id"}'),
    "no object": _frame(b"[]"),
    "no JSON": _frame(b"{"),
    "nothing": _frame(b""),
    "very deep JSON": _frame(b"[" * 4000),
    "bytes and no request": _frame(b"x", b"D"),
    "more than a request": _frame(b"", length=2**31),
    "an HTTP request": b"POST /launch HTTP/1.1\r\nHost: h\r\n\r\n",
}


@pytest.mark.parametrize("wish", HOSTILE_HOMES)
async def test_h2_hostile_requests_for_files_have_no_worker(helped: Helped, tmp_path: Path, wish: str) -> None:
    (helped.settings.homes.root / "filed").write_bytes(b"")
    os.chown(helped.settings.homes.root / "filed", UID, UID)
    _snapshots(helped.settings.homes.root)
    with files_door(tmp_path, helped.settings) as path:
        answer = await asyncio.to_thread(_knock, path, HOSTILE_HOMES[wish])
        assert answer["error"] in ("helper-refused", "home-unavailable", "not-found"), answer
        assert answer["error"] != "not-found" or "snapshot" in wish, "a snapshot alone is looked for first"
        assert workers() == []
        assert await asyncio.to_thread(_knock, path, _home()) == {"ready": True}, "the control"
        assert await asyncio.to_thread(_knock, path, _home(snapshot=SNAPSHOT)) == {"ready": True}, "of a snapshot, too"


def _snapshots(homes: Path) -> None:
    """One of anna's, one of bert's, one that root made in anna's name, and a link to bert's."""
    for name, one, uid in (("anna", SNAPSHOT, UID), ("bert", SNAPSHOT, OTHER_UID), ("anna", "20261127T150000Z", 0)):
        folder = homes / FOLDER / name / one
        folder.mkdir(parents=True)
        for above in (folder.parent, folder.parent.parent):
            above.chmod(0o700)
        os.chown(folder, uid, uid)
    (homes / FOLDER / "anna" / "20261127T160000Z").symlink_to(f"../bert/{SNAPSHOT}")


def _knock(path: Path, request: bytes) -> Plain:
    """The first frame that is said to a request; the connection is closed then."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(60)
        line.connect(str(path))
        line.sendall(request)
        kind, length = HEAD.unpack(line.recv(HEAD.size, socket.MSG_WAITALL))
        assert kind == b"J"
        told: Plain = json.loads(line.recv(length, socket.MSG_WAITALL))
        return told


async def test_h2_files_are_handed_to_the_portals_user_only(tmp_path: Path) -> None:
    """By the kernel's word, whatever the socket's permissions are."""
    nobody = pwd.getpwnam(USER).pw_uid
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        homes = folder / "homes"
        (homes / "anna").mkdir(parents=True)
        os.chown(homes / "anna", UID, UID)
        settings = tables({"homes": {"root": str(homes), "driver": "plain"}})
        with files_door(folder, settings, {0, nobody}) as path:
            assert b"ready" in _knock_as(nobody, path)
            assert b"helper-refused" in _knock_as(nobody - 1, path)
            assert b"helper-refused" in _knock_as(UID, path)


def _knock_as(uid: int, path: Path) -> bytes:
    script = (
        "$SIG{PIPE} = 'IGNORE'; my $s = IO::Socket::UNIX->new($ARGV[0]) or die; "
        "print $s pack('aN/a*', 'J', $ARGV[1]); $s->flush; "
        "read($s, my $head, 5); my (undef, $n) = unpack('aN', $head); read($s, my $said, $n); print $said"
    )
    return subprocess.run(
        ["perl", "-MIO::Socket::UNIX", "-e", script, str(path), json.dumps({"username": "anna", "uid": UID})],
        user=uid,
        group=uid,
        extra_groups=[],
        capture_output=True,
        check=True,
    ).stdout


HOSTILE_PATHS = [
    "../bert",
    "/../bert",
    "../../etc/passwd",
    "/proc/self/root/etc/passwd",
    "to-bert/secret",
    "to-root/etc",
]
ACTS: dict[str, Plain] = {
    "list": {},
    "stat": {},
    "search": {"name": "*"},
    "space": {},
    "preview": {"kind": "text"},
    "upload-begin": {"size": 1, "replace": True},
    "make-folder": {},
    "delete": {},
    "trash": {"now": "2026-03-02T09:30:00", "home": "/home/anna"},
}


@pytest.mark.parametrize("path", HOSTILE_PATHS)
async def test_h2_no_verb_of_files_takes_a_path_out_of_the_home(helped: Helped, tmp_path: Path, path: str) -> None:
    """As the portal would ask; the worker of one home reaches no other, and nothing of the server."""
    homes = helped.settings.homes.root
    (homes / "bert" / "secret").write_bytes(b"theirs")
    (homes / "anna" / "to-bert").symlink_to("../bert")
    (homes / "anna" / "to-root").symlink_to("/")
    with files_door(tmp_path, helped.settings) as socket_path:
        files, anna = HelperFiles(socket_path, helped.settings.files), Owner("anna", UID)
        for verb, arguments in ACTS.items():
            with pytest.raises(NotFound):
                await files.ask(anna, verb, path=f"{path}/x" if verb == "make-folder" else path, **arguments)
        for verb in ("move", "copy"):
            for way in ({"from": path, "to": "stolen"}, {"from": "to-bert", "to": f"{path}/x"}):
                with pytest.raises(NotFound):
                    await files.ask(anna, verb, **way)
        for kind, verb in (("folder", "list"), ("folder", "stat"), ("file", "stat")):  # as what is shared is asked for
            with pytest.raises(NotFound):
                await files.ask(anna, verb, within=path, within_kind=kind)
        with pytest.raises(NotFound):
            async with files.receive(anna, "read", path=path):
                pass
        with pytest.raises(NotFound):
            async with files.receive(anna, "archive", paths=["to-bert", path]):
                pass
        with pytest.raises(NotFound):
            await files.send(anna, "write", pieces(b"x"), path=f"{path}/x", replace=True)
        assert (await files.ask(anna, "make-folder", path="mine"))["entry"]["kind"] == "folder", "the control"
        await files.aclose()
    assert sorted(os.listdir(homes / "anna")) == ["mine", "to-bert", "to-root"]
    assert (homes / "bert" / "secret").read_bytes() == b"theirs"


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
        guard = guard_of(settings, runtime, PlainHomes(tmp_path))
        with helper_thread(folder, runtime, guard, {0, nobody}) as path:
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
        await helped.line.ask("launch", {"order": helped.launch() | {"image": "evil/image:1"}})


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

        written = await carla.http.put("/api/v1/home/files?path=by-hand", content=b"x" * 3_000_000)
        assert written.status_code == 200, written.text
        assert (home / "by-hand").stat().st_uid == home.stat().st_uid
        assert (await carla.http.get("/api/v1/home/files?path=by-hand")).content == b"x" * 3_000_000
        assert (await carla.http.get("/api/v1/home/files?path=../../etc/passwd")).status_code == 404

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
