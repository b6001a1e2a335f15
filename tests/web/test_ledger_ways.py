"""H6: every way by which others act on somebody's things, or look at them, leaves an entry in the owner's ledger.

Two tables of all ways: the administrators' routes and the commands of `launchpad`. One that is missing fails.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from launchpad.cli.main import COMMANDS, app
from launchpad.control import verbs
from launchpad.domain.activity import Point, Step, step_of
from launchpad.domain.audit_words import has_words
from launchpad.domain.history import HistoryRecord
from launchpad.domain.instances import State
from launchpad.domain.naming import new_id
from launchpad.domain.passkeys import Passkey
from launchpad.platform import Platform
from launchpad.services.audit import CLI
from launchpad.services.ledger import LedgerEntry
from launchpad.store import activity, home_archives, instance_history, passkeys
from support.homes import archive_row
from web.api_client import PUBLIC_URL, Portal, Visitor, open_api
from web.test_routes import ADMINS, API, PAGES, Scene, a_lab

GB = 1024**3

# What is left: the action, and whether it is in the ledgers of all since it concerned everybody at once.
OWN, ALL = False, True
Left = tuple[str, bool]
# Why nothing is: there are no instances, files or accounts of people in it.
NOBODYS = "settings of the platform, which say nothing of anybody's things"
COUNTS = "numbers of all together"
ADDRESSES = "addresses that mail did not reach, which the mail server knows"

ROUTES: dict[str, Left | str] = {
    "GET /api/v1/admin/users": ("user.listed", ALL),
    "PATCH /api/v1/admin/users/{user_id}": ("user.changed", OWN),
    "GET /api/v1/admin/users/{user_id}/leaving": ("user.read", OWN),
    "PUT /api/v1/admin/users/{user_id}/leaving": ("user.removed", OWN),
    "POST /api/v1/admin/users/{user_id}/archives": ("home.work_requested", OWN),
    "POST /api/v1/admin/users/{user_id}/archives/{archive_id}/verify": ("home.work_requested", OWN),
    "POST /api/v1/admin/users/{user_id}/archives/{archive_id}/restore": ("home.work_requested", OWN),
    "POST /api/v1/admin/users/{user_id}/archives/{archive_id}/remove-home": "tests/unit/test_leaving.py: home.removed",
    "POST /api/v1/admin/users/{user_id}/home/copies": ("home.work_requested", OWN),
    "GET /api/v1/admin/instances": ("instance.listed", OWN),  # one other user has some
    "GET /api/v1/admin/instances/{instance_id}/log": ("instance.log_read", OWN),
    "POST /api/v1/admin/instances/{instance_id}/freeze": ("instance.frozen", OWN),
    "POST /api/v1/admin/instances/{instance_id}/thaw": ("instance.thawed", OWN),
    "POST /api/v1/admin/instances/{instance_id}/extend": ("instance.extended", OWN),
    "POST /api/v1/admin/instances/{instance_id}/stop": ("instance.stopped", OWN),
    "GET /api/v1/admin/limits": NOBODYS,
    "PUT /api/v1/admin/limits": NOBODYS,
    "GET /api/v1/admin/lab-capacity": NOBODYS,
    "PUT /api/v1/admin/lab-capacity": NOBODYS,
    "GET /api/v1/admin/policies": NOBODYS,
    "PUT /api/v1/admin/policies": ("idle_policy.changed", OWN),
    "POST /api/v1/admin/policies/replay": ("idle_policy.replayed", OWN),
    "GET /api/v1/admin/idle-decisions": ("idle_decisions.read", OWN),
    "POST /api/v1/labs": NOBODYS,
    "GET /api/v1/admin/labs": ("lab.read", OWN),
    "GET /admin/labs": ("lab.read", OWN),
    "POST /admin/labs": NOBODYS,
    "GET /api/v1/labs/{lab}": ("lab.read", OWN),
    "PATCH /api/v1/labs/{lab}": NOBODYS,
    "GET /labs/{lab}": ("lab.read", OWN),
    "POST /labs/{lab}": NOBODYS,
    "PUT /api/v1/labs/{lab}/members/{member}": ("lab.lead_ended", OWN),
    "DELETE /api/v1/labs/{lab}/members/{lead}": ("lab.left", OWN),
    "POST /labs/{lab}/members": ("lab.joined", OWN),
    "DELETE /api/v1/labs/{lab}/requests/{member}": "tests/unit/test_labs.py: lab.declined",
    "GET /api/v1/admin/homes": ("home.listed", ALL),
    "GET /api/v1/admin/homes/labs": COUNTS,
    "GET /api/v1/admin/homes/disk": COUNTS,
    "GET /api/v1/admin/capacity": COUNTS,
    "GET /api/v1/admin/audit": ("audit.read", ALL),
    "GET /api/v1/admin/mail-failures": ADDRESSES,
    "POST /api/v1/admin/announcements": ("announcement.made", ALL),
    "DELETE /api/v1/admin/announcements/{announcement_id}": NOBODYS,
    "GET /admin": COUNTS,
    "GET /admin/audit": ("audit.read", ALL),
    "GET /admin/users": ("user.listed", ALL),
    "GET /admin/users/{user_id}": ("user.read", OWN),
    "POST /admin/users/{user_id}": ("user.changed", OWN),
    "GET /admin/instances": ("instance.listed", OWN),
    "GET /admin/instances/{instance_id}/log": ("instance.log_read", OWN),
    "POST /admin/instances/{instance_id}/extend": ("instance.extended", OWN),
    "POST /admin/instances/{instance_id}/stop": ("instance.stopped", OWN),
    "GET /admin/storage": ("home.listed", ALL),
    "GET /admin/limits": NOBODYS,
    "POST /admin/limits": NOBODYS,
    "POST /admin/limits/labs": NOBODYS,
    "GET /admin/policies": ("idle_decisions.read", OWN),
    "POST /admin/policies": ("idle_policy.changed", OWN),
    "GET /admin/policies/replay": ("idle_policy.replayed", OWN),
    "GET /admin/policies/replay/ends.csv": ("idle_policy.replayed", OWN),
    "GET /admin/announcements": NOBODYS,
    "POST /admin/announcements": ("announcement.made", ALL),
    "POST /admin/announcements/{announcement_id}/withdraw": NOBODYS,
    "GET /admin/mail": ADDRESSES,
    "POST /admin/mail/forget": ADDRESSES,
    "POST /admin/users/{user_id}/home-work": ("home.work_requested", OWN),
    "POST /admin/users/{user_id}/remove": ("user.removed", OWN),
    "POST /admin/users/{user_id}/suspend": ("user.changed", OWN),
    "POST /admin/users/{user_id}/reactivate": ("user.changed", OWN),
}
# Where the table of all routes sends what changes nothing.
OWNER = "owner@a.org"
BODIES: dict[str, Any] = {
    "PUT /api/v1/labs/{lab}/members/{member}": {"is_lead": False},
    "POST /labs/{lab}/members": {"do": "add", "email": OWNER},
    "PATCH /api/v1/admin/users/{user_id}": {"lab": "Genomics"},
    "PUT /api/v1/admin/users/{user_id}/leaving": {"reason": "They have left"},
    "POST /admin/users/{user_id}/remove": {"reason": "They have left"},
    "POST /admin/users/{user_id}/home-work": {"kind": "copy", "to": "admin@example.org", "reason": "A project"},
    "POST /api/v1/admin/users/{user_id}/home/copies": {"to": "admin@example.org", "reason": "A project"},
    "PUT /api/v1/admin/policies": {
        "everyone": {"action": "stop", "idle_minutes": 240},
        "rules": [{"user": OWNER, "action": "stop", "idle_minutes": 60}],
    },
    "POST /admin/policies": {"user": OWNER, "action": "stop", "idle_minutes": "90"},
    "POST /api/v1/admin/policies/replay": {"idle_hours": 0.02, "days": 1},
    "POST /api/v1/admin/announcements": {"text": "New disks", "stop_instances_at": "2126-05-01T00:00:00Z"},
    "POST /admin/announcements": {"text": "New disks", "stop_instances_at": "2126-05-01T00:00"},
    "POST /admin/instances/{instance_id}/extend": {"days": "7"},
}
QUERIES = {"GET /admin/policies/replay": "?idle=1m&days=1", "GET /admin/policies/replay/ends.csv": "?idle=1m&days=1"}

COMMANDS_LEAVE: dict[str, tuple[list[str], Left] | str] = {
    "user list": (["user", "list"], ("user.listed", ALL)),
    "user role": (["user", "role", OWNER, "admin"], ("user.changed", OWN)),
    "user suspend": (["user", "suspend", OWNER], ("user.changed", OWN)),
    "user activate": (["user", "activate", OWNER], ("user.changed", OWN)),
    "user sign-out": (["user", "sign-out", OWNER], ("sign-out.everywhere", OWN)),
    "user passkeys": (["user", "passkeys", OWNER], ("user.read", OWN)),
    "user passkeys --remove": (["user", "passkeys", OWNER, "--remove"], ("passkey.removed", OWN)),
    "lab list": (["lab", "list"], ("lab.read", OWN)),
    "lab show": (["lab", "show", "genomics"], ("lab.read", OWN)),
    "lab create": NOBODYS,
    "lab lead": (["lab", "lead", "genomics", OWNER, "--end"], ("lab.lead_ended", OWN)),
    "lab remove": (["lab", "remove", "genomics", OWNER], ("lab.left", OWN)),
    "lab add": (["lab", "add", "genomics", OWNER], ("lab.joined", OWN)),
    "home archive": (["home", "archive", OWNER], ("home.work_requested", OWN)),
    "home archives": (["home", "archives", OWNER], ("user.read", OWN)),
    "home verify": (["home", "verify", OWNER], ("home.work_requested", OWN)),
    "home restore": "tests/unit/test_leaving.py: home.restored",
    "home copy": (
        ["home", "copy", OWNER, "--to", "admin@example.org", "--reason", "A project"],
        ("home.work_requested", OWN),
    ),
    "home remove": "tests/unit/test_leaving.py: home.removed",
    "home usage": (["home", "usage"], ("home.listed", ALL)),
    "instance list": (["instance", "list"], ("instance.listed", OWN)),
    "instance log": (["instance", "log", "{instance_id}"], ("instance.log_read", OWN)),
    "instance keep": (["instance", "keep", "{instance_id}", "2"], ("instance.kept", OWN)),
    "instance memory": (["instance", "memory", "{instance_id}", "4g"], ("instance.memory_raised", OWN)),
    "instance freeze": (["instance", "freeze", "{instance_id}"], ("instance.frozen", OWN)),
    "instance thaw": (["instance", "thaw", "{instance_id}"], ("instance.thawed", OWN)),
    "instance extend": (["instance", "extend", "{instance_id}", "7"], ("instance.extended", OWN)),
    "instance stop": (["instance", "stop", "{instance_id}"], ("instance.stopped", OWN)),
    "policy decisions": (["policy", "decisions"], ("idle_decisions.read", OWN)),
    "policy replay": (["policy", "replay", "--idle", "1m", "--days", "1"], ("idle_policy.replayed", OWN)),
    "policy set": (["policy", "set", "stop", "--user", OWNER], ("idle_policy.changed", OWN)),
    "policy remove": (["policy", "remove", "--user", OWNER], ("idle_policy.changed", OWN)),
    "announce": (
        ["announce", "Disks", "--stop-instances-at", "2126-05-01T00:00:00+00:00"],
        ("announcement.made", ALL),
    ),
    "audit": (["audit"], ("audit.read", ALL)),
    "audit verify": COUNTS,
    "audit accept": NOBODYS,
    "import-original": "tests/unit/test_importing.py: user.imported, home.imported",
    "policy show": NOBODYS,
    "limits show": NOBODYS,
    "limits set": NOBODYS,
    "limits labs": NOBODYS,
    "limits lab": NOBODYS,
    "mail failures": ADDRESSES,
    "mail forget": ADDRESSES,
    **dict.fromkeys(
        ("mail take-bounce", "mail read-bounces", "doctor", "doctor mail", "report-failure"),
        "delivery and health of the server",
    ),
    **dict.fromkeys(
        ("backup", "restore", "drill"), "the database as a whole, encrypted; homes are not in it, and nothing is shown"
    ),
    **dict.fromkeys(
        ("serve", "sweep", "helper", "quickstart", "prepare", "stop-instances", "version"),
        "the platform itself, by its rules",
    ),
    **dict.fromkeys(("nginx", "images", "network", "release"), "the server's own parts"),
}


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_api(tmp_path) as portal:
        people = [await portal.signed_in(address) for address in ("other@a.org", OWNER, "admin@example.org")]
        running = await people[1].launch()
        announced = await portal.platform.announcements.announce("New disks", CLI, portal.platform.now())
        async with portal.platform.database.transaction() as db:
            me = people[1].me
            archive = archive_row(me["id"], me["username"], 200_001, portal.platform.now())
            await home_archives.add(db, archive)
        names = {
            "archive_id": archive.id,
            "instance_id": running["id"],
            "user_id": people[1].me["id"],
            "announcement_id": announced.id,
            "lab": "genomics",
            "lead": OWNER,
            "member": OWNER,
        }
        other, owner, admin = people
        await a_lab(portal, OWNER)
        await something_recorded(portal, running["id"])
        yield Scene(portal, (portal.visitor(), other, owner, admin), names)


async def something_recorded(portal: Portal, instance_id: str) -> None:
    """A decision of the idle policy, and an instance of before that stood idle for hours."""
    platform = portal.platform
    owner, now = await platform.users.by_email(OWNER), platform.now()
    running = await platform.instances.get(instance_id, owner)
    await platform.keeping.keep(running, 2, CLI, now)
    began = step_of(now - timedelta(hours=6), Step.MINUTE)
    past = replace(
        running,
        id="past",
        state=State.STOPPED,
        reason="stopped by you",
        started_at=began,
        created_at=began,
        ended_at=now,
    )
    idle = [
        Point(began + minute * timedelta(minutes=1), 0.01, GB, GB, 9, was_working=False, was_used=False)
        for minute in range(350)
    ]
    async with platform.database.transaction() as db:
        await instance_history.add(db, HistoryRecord(past, OWNER, None))
        await activity.add(db, Step.MINUTE, {past.id: idle})


async def entries(portal: Portal) -> list[LedgerEntry]:
    platform = portal.platform
    found, _ = await platform.ledger.page(await platform.users.by_email(OWNER), limit=200, everyone=True)
    return found


async def newly(portal: Portal, before: list[LedgerEntry]) -> list[Left]:
    known = {one.record.id for one in before}
    return [(one.record.action, one.is_everyones) for one in await entries(portal) if one.record.id not in known]


async def forget_looks(portal: Portal) -> None:
    """As if an hour had passed: the next look is an entry again."""
    await portal.world.change("DELETE FROM audit_looks")


def administrators(table: dict[str, tuple[Any, Any]]) -> set[str]:
    """What an administrator may and its owner may not; and whatever stands below the administration."""
    return {
        line for line, (answers, _) in table.items() if answers[2] == ADMINS[2] or re.search("/admin|/labs/{lab}", line)
    }


def test_every_route_of_the_administration_stands_in_the_table() -> None:
    assert administrators(API | PAGES) == set(ROUTES)


def commands(group: Any, prefix: str = "") -> Iterator[str]:
    """Each command that does something, by its words; a group that stands in the table as a whole is one."""
    for name in group.list_commands(None):
        one = group.get_command(None, name)
        path = f"{prefix}{name}"
        if not hasattr(one, "list_commands") or path in COMMANDS_LEAVE:
            yield path
        if hasattr(one, "list_commands") and (path not in COMMANDS_LEAVE or one.invoke_without_command):
            yield from commands(one, f"{path} ")


def test_every_command_stands_in_the_table() -> None:
    listed = {name for name in COMMANDS_LEAVE if not name.endswith("--remove")}
    assert set(commands(typer.main.get_command(app))) == listed


def test_whatever_is_left_has_words_of_its_own() -> None:
    left = {one for one in ROUTES.values() if isinstance(one, tuple)}
    left |= {one[1] for one in COMMANDS_LEAVE.values() if isinstance(one, tuple)}
    left |= {("user.imported", OWN), ("home.imported", OWN)}
    assert [one for one in sorted(left) if not has_words(one[0], is_everyones=one[1])] == []


async def a_running_one(scene: Scene, admin: Visitor) -> None:
    """Where the last way has ended it, or its owner."""
    owner = scene.people[2]
    user = await scene.portal.platform.users.by_email(OWNER)
    if not user.is_active:
        await admin.call("PATCH", f"/admin/users/{user.id}", {"status": "active"})
    if owner.http.cookies and (await owner.call("GET", "/me")).status_code == 401:
        await owner.sign_in(OWNER)
    live = await scene.portal.platform.instances.of_owner(user)
    if not any(one.id == scene.names["instance_id"] and one.state is State.RUNNING for one in live):
        scene.names["instance_id"] = (await owner.launch())["id"]


async def test_h6_every_route_leaves_what_the_table_says_for_the_owner_and_nobody_else(scene: Scene) -> None:
    portal, admin = scene.portal, scene.people[3]
    for line, left in ROUTES.items():
        await a_running_one(scene, admin)
        await forget_looks(portal)
        before = await entries(portal)
        others = await of_other(portal)
        body = BODIES.get(line, (API | PAGES)[line][1])
        answer = await ask_as(scene, admin, line, body)
        assert answer < 500, f"{line}: {answer}"
        new = await newly(portal, before)
        if isinstance(left, str):
            assert new == [], line
        else:
            assert left in new, f"{line} left {new} ({answer})"
            assert await of_other(portal) == others, f"{line} stands in another's ledger"
    assert all(one.record.actor != OWNER for one in await entries(portal))


async def ask_as(scene: Scene, admin: Visitor, line: str, body: Any) -> int:
    """The status of an administrator's request."""
    method, _, path = line.partition(" ")
    for name, value in scene.names.items():
        path = path.replace(f"{{{name}}}", value)
    path += QUERIES.get(line, "")
    if line in API:
        return (await admin.call(method, path, body)).status_code
    form = {**(body or {}), "csrf_token": admin.csrf}
    headers = {"Accept": "text/html", "Origin": PUBLIC_URL}
    answer = await admin.http.request(method, path, data=form if method == "POST" else None, headers=headers)
    return answer.status_code


async def of_other(portal: Portal) -> list[int]:
    """What stands in the ledger of somebody whose things nobody has touched, without what concerned everybody."""
    platform = portal.platform
    found, _ = await platform.ledger.page(await platform.users.by_email("other@a.org"), limit=200)
    return [one.record.id for one in found]


async def test_h6_the_owner_s_own_use_leaves_nothing(scene: Scene) -> None:
    """Nor does an administrator's use of their own things."""
    portal, owner, admin = scene.portal, scene.people[2], scene.people[3]
    before = await entries(portal)
    path = f"/instances/{scene.names['instance_id']}"
    for method, rest, body in (("GET", "/log", None), ("POST", "/extend", {"days": 7}), ("POST", "/stop", None)):
        assert (await owner.call(method, path + rest, body)).status_code < 300
    own = await admin.launch()
    assert (await admin.call("GET", f"/admin/instances/{own['id']}/log")).status_code == 200
    assert (await admin.call("POST", f"/admin/instances/{own['id']}/stop")).status_code == 202
    assert await newly(portal, before) == []
    found, _ = await portal.platform.ledger.page(await portal.platform.users.by_email("admin@example.org"), limit=9)
    assert found == []


async def test_h6_every_command_leaves_what_the_table_says(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    portal, admin = scene.portal, scene.people[3]
    on_this_platform(monkeypatch, portal.platform)
    for name, wanted in COMMANDS_LEAVE.items():
        if isinstance(wanted, str):
            continue
        words, left = wanted
        await a_running_one(scene, admin)
        if name == "user passkeys --remove":
            await add_passkey(portal)
        await forget_looks(portal)
        before = await entries(portal)
        arguments = [scene.names["instance_id"] if word == "{instance_id}" else word for word in words]
        done = await asyncio.to_thread(CliRunner().invoke, app, arguments)
        assert done.exit_code == 0, f"{name}: {done.output} {done.exception}"
        new = await newly(portal, before)
        assert left in new, f"{name} left {new}"
    for one in await entries(portal):
        assert one.record.actor in ("cli", "admin@example.org")


async def add_passkey(portal: Portal) -> None:
    platform = portal.platform
    owner = await platform.users.by_email(OWNER)
    passkey = Passkey(new_id(), owner.id, new_id(), b"x", 0, "laptop", platform.now())
    async with platform.database.transaction() as db:
        await passkeys.add(db, passkey)


def on_this_platform(monkeypatch: pytest.MonkeyPatch, platform: Platform) -> None:
    """Commands, which run in threads here, work on the test's platform in its loop instead of opening their own."""
    loop = asyncio.get_running_loop()

    def with_platform(_config: object, work: Any, **_: object) -> Any:
        return asyncio.run_coroutine_threadsafe(work(platform), loop).result()

    def ask_portal(_config: object, verb: str, **arguments: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(verbs.answer(platform, verb, arguments), loop).result()

    for where, _ in COMMANDS.values():
        import_module(f"launchpad.cli.{where}")
    for name, module in list(sys.modules.items()):
        if name.startswith("launchpad.cli.") and name != "launchpad.cli.context":
            for what, instead in (("with_platform", with_platform), ("ask_portal", ask_portal)):
                if hasattr(module, what):
                    monkeypatch.setattr(module, what, instead)
