"""The control socket: who may ask the portal, and that commands get the same from it as where no portal lives."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeGuard

import pytest

import launchpad.cli
from launchpad.control import client, verbs
from launchpad.control.server import ControlServer
from launchpad.domain.instances import State
from launchpad.domain.original import Person
from launchpad.domain.policy import IdleAction, IdleRule, Scope
from launchpad.domain.users import Role
from launchpad.errors import LaunchpadError, Unavailable
from launchpad.platform import Platform
from support.platforms import World, launch, reaches, sign_in
from support.reports import report

NOBODY = 65534
ASK = """
import os, sys
from pathlib import Path
from launchpad.control.client import ask, value_of
from launchpad.errors import LaunchpadError
os.setgid({uid}); os.setuid({uid})
try: print(value_of(ask(Path(sys.argv[1]), "sweep")))
except LaunchpadError as error: print("refused:", error.detail)
"""


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="launchpad-control-") as name:  # others can reach it, unlike pytest's own
        Path(name).chmod(0o755)
        world = World(Path(name))
        yield world
        await world.close()


@asynccontextmanager
async def listening(platform: Platform) -> AsyncIterator[Path]:
    """The state directory of a portal that answers commands."""
    serving = asyncio.create_task(ControlServer(platform).run())
    folder = platform.settings.state_dir
    try:
        async with asyncio.timeout(20):
            while await asyncio.to_thread(client.ask, folder, "no_such_verb") is None:
                await asyncio.sleep(0.01)
        yield folder
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def ask(folder: Path, verb: str, **arguments: Any) -> Any:
    answer = await asyncio.to_thread(client.ask, folder, verb, arguments)
    assert answer is not None
    return client.value_of(answer)


async def test_where_no_portal_lives_nobody_answers(world: World) -> None:
    platform = await world.open()
    folder = platform.settings.state_dir
    assert client.ask(folder, "sweep") is None
    async with listening(platform):
        assert await ask(folder, "sweep") == []
    assert (folder / "run" / client.SOCKET_NAME).exists(), "what a dead one leaves behind is nobody, too"
    assert client.ask(folder, "sweep") is None


@pytest.mark.slow
async def test_a_sweep_is_done_by_the_portal(world: World) -> None:
    """What is asked comes back when it is done, and as a command prints it."""
    platform = await world.open()
    alice, _ = await sign_in(platform, "alice@a.org")
    instance = await reaches(platform, (await launch(platform, alice)).id, State.RUNNING)
    async with listening(platform) as folder:
        assert await ask(folder, "sweep") == []
        world.clock.now += timedelta(days=1)
        (done,) = await ask(folder, "sweep")
    assert (done["instance_id"], done["action"]) == (instance.id, "expired")
    assert (await platform.instances.get_any(instance.id)).state is State.EXPIRED
    assert await world.runtime.list_containers() == []


@pytest.mark.slow
async def test_every_verb_does_what_its_command_says(world: World) -> None:
    platform = await world.open()
    alice, _ = await sign_in(platform, "alice@a.org")
    await sign_in(platform, "admin@example.org")
    instance = await reaches(platform, (await launch(platform, alice)).id, State.RUNNING)
    async with listening(platform) as folder:
        said = await ask(folder, "extend_instance", instance_id=instance.id, days=2)
        assert said == f"runs until {instance.expires_at + timedelta(days=2):%Y-%m-%d %H:%M} UTC"
        assert (
            await ask(folder, "stop_instance", instance_id=instance.id)
            == "stopped: stopped by an administrator on the server"
        )
        assert (await platform.instances.get_any(instance.id)).state is State.STOPPED, "with its time to save"
        changed = await ask(folder, "change_user", email="alice@a.org", role="admin")
        assert changed == {"email": "alice@a.org", "role": "admin", "status": "active"}
        again = await reaches(platform, (await launch(platform, alice)).id, State.RUNNING)
        assert (await ask(folder, "change_user", email="alice@a.org", status="suspended"))["status"] == "suspended"
        assert (await platform.instances.get_any(again.id)).state is State.STOPPED
        assert await ask(folder, "sign_out_user", email="admin@example.org") == 1
        assert await ask(folder, "remove_passkeys", email="admin@example.org") == 0
        actions = [record.action for record in await platform.audit.page()]
    assert {"instance.extended", "instance.stopped", "user.changed"} <= set(actions)


@pytest.mark.slow  # waits for a clock
async def test_idle_rules_are_set_and_instances_kept_by_commands(world: World) -> None:
    platform = await world.open()
    alice, _ = await sign_in(platform, "alice@a.org")
    instance = await reaches(platform, (await launch(platform, alice)).id, State.RUNNING)
    async with listening(platform) as folder:
        kept = await ask(folder, "keep_instance", instance_id=instance.id, hours=2)
        until = world.clock() + timedelta(hours=2)
        assert kept == f"{instance.id} is kept running until {until:%Y-%m-%d %H:%M} UTC"
        assert "as usual" in await ask(folder, "keep_instance", instance_id=instance.id, hours=0)
        names = {"environment": "", "lab": "Genomics", "user": ""}
        said = await ask(folder, "set_idle_rule", **names, action="freeze", idle_minutes=60)
        assert said == "the lab Genomics: frozen after 1 hour"
        scope = Scope(lab="Genomics")
        assert (await platform.idle_policy.policy()).rules == {scope: IdleRule(IdleAction.FREEZE, 60)}
        assert "removed" in await ask(folder, "set_idle_rule", **names, action=None, idle_minutes=0)
    assert (await platform.idle_policy.policy()).rules == {}


async def test_users_of_the_original_platform_get_accounts_by_whoever_owns_the_work(world: World) -> None:
    platform = await world.open()
    made_at = world.clock() - timedelta(days=400)
    dora = Person("dora@a.org", ("dora", "Dora"), True, "Genomics", made_at, (), ("dora",), ())
    emil = Person("emil@a.org", ("emil",), False, None, None, ("jupyterlab",), (), ("old",))
    async with listening(platform) as folder:
        told = [verbs.person_told(one) for one in (dora, emil)]
        first = await ask(folder, "import_users", people=told, keep_admins=True)
        again = await ask(folder, "import_users", people=told, keep_admins=False)
        await ask(folder, "record_imported", brought={"dora@a.org": {"files": 3, "bytes": 12, "kept": 0}})
    assert [one["standing"] for one in first] == ["new", "new"]
    assert [one["standing"] for one in again] == ["there already", "there already"]
    user = await platform.users.by_email("dora@a.org")
    assert (user.role, user.lab, user.created_at, user.uid) == (Role.ADMIN, "Genomics", made_at, first[0]["uid"])
    assert (await platform.users.by_email("emil@a.org")).role is Role.USER
    actions = [record.action for record in await platform.audit.page()]
    assert actions[:3] == ["home.imported", "user.imported", "user.imported"]


# Commands that work on the store themselves, beside whoever owns the work: they only read it, or what they write is
# nobody's but their own.
BESIDE_THE_OWNER = {
    **dict.fromkeys(
        (
            "admin_commands.list_users",
            "admin_commands.user_passkeys",
            "admin_commands.list_instances",
            "admin_commands.instance_log",
            "admin_commands.show_limits",
            "policy_commands.show",
            "policy_commands.show_decisions",
            "replay_command.replay",
            "admin_commands.show_labs",
            "audit_commands.audit",
            "audit_commands.verify",
            "announce_command.announce",
            "doctor_command.doctor",
            "home_commands.usage",
            "import_command._accounts",
            "lab_commands.list_labs",
            "lab_commands.show",
            "mail_commands.failures",
        ),
        "reads",
    ),
    "backup_commands.drill": "records that it rehearsed, and mails what it found",
    "backup_commands.report_failure": "mails it, perhaps since the portal does not work",
    "doctor_command.mail": "sends a mail",
    "home_work_commands.archives": "reads, and records that it was looked at",
    "home_work_commands._work": "queues it, as a page does; who owns the work does it, or this process where none does",
    "audit_commands.accept": "records what is missing of the record itself",
}


def test_commands_that_change_something_ask_whoever_owns_the_work() -> None:
    """Each one that opens the platform itself stands above, with its reason."""
    opening = {"with_platform", "on_platform"}
    found = set()
    for path in sorted(Path(launchpad.cli.__file__).parent.glob("*.py")):
        if path.stem == "context":  # has those two, and asks
            continue
        for one in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                called = {each.func.id for each in ast.walk(one) if isinstance(each, ast.Call) and is_name(each.func)}
                if called & opening:
                    found.add(f"{path.stem}.{one.name}")
    assert found == set(BESIDE_THE_OWNER)


def is_name(function: ast.expr) -> TypeGuard[ast.Name]:
    return isinstance(function, ast.Name)


async def test_errors_come_back_as_they_were_raised(world: World) -> None:
    platform = await world.open()
    await sign_in(platform, "admin@example.org")
    async with listening(platform) as folder:
        for verb, arguments in (
            ("stop_instance", {"instance_id": "0" * 16}),
            ("change_user", {"email": "nobody@a.org", "role": "admin"}),
            ("change_user", {"email": "admin@example.org", "status": "suspended"}),
            ("forget_mail_failure", {"address": "nobody@a.org"}),
        ):
            with pytest.raises(LaunchpadError) as here:
                await verbs.answer(platform, verb, arguments)
            with pytest.raises(LaunchpadError) as there:
                await ask(folder, verb, **arguments)
            assert (there.value.detail, there.value.title, there.value.fields) == (
                here.value.detail,
                here.value.title,
                here.value.fields,
            )


@pytest.mark.parametrize(("verb", "arguments"), [("no_such_verb", {}), ("sweep", {"fast": True}), ("answer", {})])
async def test_what_another_version_asks_is_refused_in_words(
    world: World, verb: str, arguments: dict[str, Any]
) -> None:
    async with listening(await world.open()) as folder:
        with pytest.raises(LaunchpadError, match="of another version than this command"):
            await ask(folder, verb, **arguments)
        assert await ask(folder, "sweep") == []


@pytest.mark.root  # asks as several users
async def test_another_user_is_refused_whatever_the_permissions_say(world: World) -> None:
    """The kernel says who asks; the permissions keep others away before that."""
    async with listening(await world.open()) as folder:
        path = folder / "run" / client.SOCKET_NAME
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

        async def asked_by(uid: int) -> str:
            code = ASK.format(uid=uid)
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
            )
            return done.stdout.strip()

        assert await asked_by(0) == "[]", "the control of the refusals"
        for each in (folder, path.parent, path):
            each.chmod(0o777)
        assert await asked_by(NOBODY) == (
            "refused: Run this as root: only root and the portal's own user may ask the portal."
        )
        path.chmod(0o600)
        assert "only root and the portal's own user" in await asked_by(NOBODY)
        assert await asked_by(0) == "[]"


async def test_what_is_no_call_harms_nobody(world: World) -> None:
    async with listening(await world.open()) as folder:
        for nonsense in (b"", b"\n", b"GET / HTTP/1.0\r\n\r\n", b"[]\n", b'{"verb": 1}\n', b'{"verb": "sweep"'):
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(str(folder / "run" / client.SOCKET_NAME))
                line.sendall(nonsense)
        assert await ask(folder, "sweep") == []


@pytest.mark.root  # listens as somebody else
async def test_whoever_listens_in_the_portals_place_is_not_believed(world: World, tmp_path: Path) -> None:
    """Root asks nobody but root and the owner of the state directory."""
    platform = await world.open()
    path = platform.settings.state_dir / "run" / client.SOCKET_NAME
    listens = f"""
import os, socket
line = socket.socket(socket.AF_UNIX); line.bind({str(path)!r})
os.setuid({NOBODY}); line.listen(); print("listening", flush=True); line.accept()
"""
    process = subprocess.Popen([sys.executable, "-c", listens], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    try:
        with pytest.raises(Unavailable, match="is not the portal"):
            client.ask(platform.settings.state_dir, "sweep")
    finally:
        process.kill()
        process.communicate()


async def test_a_portal_that_dies_over_a_call_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(str(tmp_path / "run" / client.SOCKET_NAME))
        line.listen()

        def answer(said: bytes) -> None:
            connection, _ = line.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(said)

        for said in (b"", b"\n\n", b"nonsense\n", b"{}\n", b'{"value"'):
            asked = asyncio.create_task(asyncio.to_thread(client.ask, tmp_path, "sweep"))
            await asyncio.to_thread(answer, said)
            with pytest.raises(Unavailable, match="not known whether this was done"):
                await asked
        asked = asyncio.create_task(asyncio.to_thread(client.ask, tmp_path, "sweep"))
        await asyncio.to_thread(answer, b"\n\n" + json.dumps({"value": []}).encode() + b"\n")
        assert await asked == {"value": []}, "empty lines only say that it goes on"


async def test_a_long_path_is_no_hindrance(tmp_path: Path) -> None:
    """A Unix socket's address has 107 bytes; a state directory may lie deeper."""
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    deep.mkdir(parents=True)
    world = World(deep)
    async with listening(await world.open()) as folder:
        assert len(os.fsencode(folder)) > 120
        assert await ask(folder, "sweep") == []
    await world.close()


async def test_a_standby_listens_as_soon_as_it_owns_the_work(world: World) -> None:
    one, two = await world.open(), await world.open()
    async with listening(one) as folder:
        standby = asyncio.create_task(ControlServer(two).run())
        await asyncio.sleep(0.3)
        assert await ask(folder, "sweep") == []
        assert not two.lease.is_held
    await world.crash(one)
    async with asyncio.timeout(20):
        while await asyncio.to_thread(client.ask, folder, "sweep") is None:
            await asyncio.sleep(0.05)
    assert two.lease.is_held
    standby.cancel()
    with suppress(asyncio.CancelledError):
        await standby


async def test_the_mailbox_is_read_by_the_portal_that_lives(world: World) -> None:
    platform = await world.open()
    await sign_in(platform, "ada@a.org")
    world.mailbox.put(report("ada@a.org"))
    async with listening(platform) as folder:
        answer = await asyncio.to_thread(client.ask, folder, "read_bounces")
        assert answer is not None
        assert client.value_of(answer) == 1
        assert world.mailbox.seen == {1}
