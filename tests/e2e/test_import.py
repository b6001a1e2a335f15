"""`launchpad import-original` beside a portal that runs: the platform's predecessor comes over, in one command."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import subprocess
from pathlib import Path

import pytest

from support.live import LivePlatform, StartPlatform
from support.open_program import Program
from support.originals import original_database

PORTAL = "nobody"
OLD_UID = 1000
USERS = (
    {"name": "admin", "is_admin": True},
    {"name": "Alice@nus.example", "lab_name": "Lab A"},
    {"name": "alice@u.nus.example"},
    {"name": "bob@nus.example", "is_admin": True},
    {"name": "cleo@nus.example"},
)


@pytest.fixture
def old(open_folder: Path) -> Path:
    """An original platform's folder, which only its own user and root may enter."""
    folder = open_folder / "rstudio-portal"
    data = folder / "user_data"
    data.mkdir(parents=True)
    original_database(folder / "db.sqlite3", USERS, running=[(5, "jupyterlab-cleo-99")])
    for name in ("alice", "bob", "cleo", "zoe"):
        (data / name / "project").mkdir(parents=True)
        (data / name / "project" / "fit.R").write_text(f"# {name}")
        (data / name / "shadow").symlink_to("/etc/shadow")
        os.mkfifo(data / name / "[bold pipe")
        for path in (data / name, *(data / name).rglob("*")):
            os.lchown(path, OLD_UID, OLD_UID)
    folder.chmod(0o700)
    return folder


@pytest.fixture
async def live(open_folder: Path, start_platform: StartPlatform, program: Program) -> LivePlatform:
    """With the helper, as the installer leaves a server: the portal's user may neither homes nor the old folder."""
    return await start_platform(below=open_folder, helper_user=PORTAL, program=program)


async def run(live: LivePlatform, old: Path, *options: str) -> tuple[int, str, str]:
    done = await asyncio.to_thread(
        subprocess.run,
        [
            *live.program.command,
            "import-original",
            str(old / "db.sqlite3"),
            "--user-data",
            str(old / "user_data"),
            *options,
        ],
        env=live.variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


async def test_the_predecessors_people_come_over_and_find_their_files(live: LivePlatform, old: Path) -> None:
    """Rehearsed, brought, brought again; then one of them signs in with a code and launches with the old files."""
    code, _, said = await run(live, old)
    assert (code, "are not known: 'admin'." in said.replace("\n", " ")) == (1, True), said

    code, text, said = await run(live, old, "--skip", "admin", "--dry-run")
    assert "Would be created: 4 of 4 accounts." in text, said
    assert "Administrators there, imported as normal users: bob@nus.example." in text
    assert "Running, according to the original: jupyterlab-cleo-99." in text
    assert "Folders without a user: zoe." in text
    assert list(live.homes.iterdir()) == []
    assert json.loads(live.command("user", "list", "--json")) == []

    code, text, said = await run(live, old, "--skip", "admin", "--folder", "alice=alice@u.nus.example", "--json")
    rows = {row["email"]: row for row in json.loads(text)}
    assert code == 1, "cleo's old instance runs"
    assert [(row["account"], row["username"]) for row in rows.values()] == [
        ("new", "alice"),
        ("new", "alice-2"),
        ("new", "bob"),
        ("new", "cleo"),
    ]
    assert {email: row["files"]["files"] for email, row in rows.items()} == {
        "alice@nus.example": 0,
        "alice@u.nus.example": 2,
        "bob@nus.example": 2,
        "cleo@nus.example": 0,
    }
    home = live.homes / "alice-2"
    assert (home / "project" / "fit.R").read_text() == "# alice"
    assert os.readlink(home / "shadow") == "/etc/shadow"
    uid = rows["alice@u.nus.example"]["uid"]
    assert {path.lstat().st_uid for path in (home, *home.rglob("*"))} == {uid}
    assert Path("/etc/shadow").stat().st_uid == 0
    portal = pwd.getpwnam(PORTAL).pw_uid
    assert {path.lstat().st_uid for path in live.state.rglob("*")} == {portal}, "the state stays the portal's"

    code, text, said = await run(
        live, old, "--skip", "admin", "--folder", "alice=alice@u.nus.example", "--despite-running"
    )
    assert code == 0, text + said
    assert "Created: 0 of 4 accounts." in text
    assert "cleo@nus.example: Left out: pipes, sockets or devices (1)" in said
    assert (live.homes / "cleo" / "project" / "fit.R").exists()
    imported = [one["subject"] for one in json.loads(live.command("audit", "--search", "home.imported", "--json"))]
    assert sorted(imported) == ["alice@u.nus.example", "bob@nus.example", "cleo@nus.example"]

    async with live.person("alice@u.nus.example") as alice:
        assert (alice.me["username"], alice.me["role"]) == ("alice-2", "user")
        instance = await alice.launch_and_wait("jupyterlab")
        await alice.open(instance["id"])
        seen = await alice.http.get(alice.instance_url(instance["id"], "/api/contents/project/fit.R"))
        assert seen.json()["content"] == "# alice"
        await alice.stop(instance["id"])


async def test_who_is_not_root_is_told(live: LivePlatform, old: Path) -> None:
    program = "import os; from launchpad.cli.main import main; os.setuid(65534); main()"
    done = await asyncio.to_thread(
        subprocess.run,
        [live.program.command[0], "-B", "-c", program, "import-original", str(old / "db.sqlite3")],
        env=live.variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "run this as root" in done.stderr
    code, _, said = await run(live, old.parent, "--skip", "admin")
    assert (code, "There is no file" in said) == (1, True)
