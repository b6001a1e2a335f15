"""`launchpad restore` for somebody whose server died: what is damaged is in nobody's way, what is wrong is said."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest

from launchpad.domain.naming import new_id
from launchpad.domain.users import User
from launchpad.services.registration import OnDisk, add_user
from launchpad.settings import load_settings
from launchpad.store.database import Database
from support.databases import databases

pytestmark = pytest.mark.slow  # every command is a process of its own
KEY = pyrage.x25519.Identity.generate()
SETTINGS = """
state_dir = "{state}"
public_url = "https://lab.example.org"
instances_url = "https://run.example.org"
[engine]
runtime = "fake"
[homes]
driver = "plain"
root = "{homes}"
[backup]
folder = "{folder}"
recipients = ["{key}"]
"""


class Server:
    """Its settings, and its commands."""

    def __init__(self, path: Path) -> None:
        self.state = path / "state"
        self.path = path
        self.config = path / "launchpad.toml"
        (path / "homes").mkdir(parents=True)
        text = SETTINGS.format(state=self.state, homes=path / "homes", folder=path / "backups", key=KEY.to_public())
        self.config.write_text(text)

    def run(self, *arguments: str, ok: bool = True) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "launchpad", *arguments, "--config", str(self.config)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) is ok, done.stdout
        assert "Traceback" not in done.stdout, done.stdout
        return " ".join(done.stdout.split())


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """One that made a backup; every test works on a copy of it."""
    first = Server(tmp_path_factory.mktemp("backups") / "first")
    first.run("user", "list")
    first.run("backup")
    return first


@pytest.fixture
def server(first: Server, tmp_path: Path) -> Server:
    server = Server(tmp_path / "old")
    shutil.copytree(first.state, server.state)
    shutil.copytree(first.path / "backups", server.path / "backups")
    return server


@pytest.fixture
def made(server: Server) -> str:
    (made,) = (server.path / "backups").glob("*.age")
    return str(made)


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    path = tmp_path / "identity.txt"
    path.write_bytes(f"# made by age-keygen\r\n{KEY} \r\n".encode())
    return path


@pytest.mark.parametrize("damaged", ["secret.key", "launchpad.db"])
def test_a_state_directory_that_is_damaged_can_be_restored(
    server: Server, made: str, identity: Path, damaged: str
) -> None:
    """As its own error says: “restore it from a backup”."""
    before = (server.state / "secret.key").read_bytes()
    (server.state / damaged).write_bytes(b"")
    said = server.run("restore", made, "--identity", str(identity))
    assert "Restored 0 users" in said
    assert (server.state / "secret.key").read_bytes() == before
    (kept,) = server.state.glob("before-restore-*")
    assert (kept / damaged).read_bytes() == b""
    server.run("user", "list")


def test_a_server_that_has_nothing_yet_is_restored(made: str, identity: Path, tmp_path: Path) -> None:
    new = Server(tmp_path / "new")
    assert "Restored 0 users" in new.run("restore", made, "--identity", str(identity))
    assert new.state.stat().st_mode & 0o777 == 0o700
    assert (new.state / "launchpad.toml.restored").stat().st_mode & 0o777 == 0o600


async def test_who_came_since_the_backup_keeps_their_files_from_whoever_comes_next(
    server: Server, made: str, identity: Path
) -> None:
    """They are forgotten, their home is not; its number is given to nobody else."""

    async def newcomer(address: str) -> User:
        settings = load_settings(server.config, variables={})
        database = Database(settings.resolved_database_url)
        async with database.transaction() as db:
            user = await add_user(
                db, settings, address, OnDisk((address[:4],), frozenset()), created_at=datetime.now(UTC)
            )
        await database.aclose()
        return user

    forgotten = await newcomer("bob1@example.org")
    await asyncio.to_thread(server.run, "restore", made, "--identity", str(identity))
    next_one = await newcomer("eve1@example.org")
    assert next_one.uid > forgotten.uid
    assert (await newcomer("eve2@example.org")).uid == next_one.uid + 1


def test_on_a_server_with_a_key_of_its_own_the_right_one_is_asked_for(made: str, tmp_path: Path) -> None:
    new = Server(tmp_path / "new")
    new.run("user", "list")
    new.run("backup")
    said = new.run("restore", made, ok=False)
    assert "--identity; without it, this server's own" in said


@pytest.mark.parametrize(
    "content", ["age-encryption.org/v1\n-> scrypt", f"# {KEY.to_public()}\n"], ids=["passphrase", "public key"]
)
def test_a_file_without_a_private_key_is_told_so(server: Server, tmp_path: Path, content: str) -> None:
    """Such as one that is protected by a passphrase; the server's own key does not stand in for it."""
    path = tmp_path / "not-it"
    path.write_text(content)
    assert "contains no unencrypted private key of age" in server.run(
        "restore", "any", "--identity", str(path), "--check", ok=False
    )


@pytest.mark.postgresql
def test_with_postgresql_commands_work_and_backups_are_left_to_its_own_tools(
    made: str, identity: Path, tmp_path: Path
) -> None:
    """A restore would go where nobody looks, and a drill rehearse what is no backup of this server."""
    name = f"c{new_id()}"
    server = Server(tmp_path / "with-postgresql")
    url = databases.server.create(name)
    server.config.write_text(f'database_url = "{url}"\n{server.config.read_text()}')
    try:
        server.run("user", "list")
        assert databases.rows(url, "SELECT count(*) FROM users") == [(0,)]
        assert "pg_dump" in server.run("backup", ok=False)
        assert "pg_restore" in server.run("restore", made, "--identity", str(identity), ok=False)
        assert "pg_restore" in server.run("drill", ok=False)
        assert not (server.state / "launchpad.db").exists()
        assert "its own tools back it up" in server.run("doctor", ok=False)
    finally:
        databases.server.drop(name)
