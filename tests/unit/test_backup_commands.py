"""`launchpad restore` for somebody whose server died: what is damaged is in nobody's way, what is wrong is said."""

from __future__ import annotations

from pathlib import Path

import pyrage
import pytest
from typer.testing import CliRunner

from launchpad.cli.main import app

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
        done = CliRunner().invoke(app, [*arguments, "--config", str(self.config)])
        assert (done.exit_code == 0) is ok, (done.output, done.exception)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return " ".join(done.output.split())


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "old")


@pytest.fixture
def made(server: Server) -> str:
    server.run("user", "list")
    return next(word for word in server.run("backup").split() if word.endswith(".age"))


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    path = tmp_path / "identity.txt"
    path.write_bytes(f"# made by age-keygen\r\n{KEY} \r\n".encode())
    return path


@pytest.mark.parametrize("damaged", ["secret.key", "deployment-id", "launchpad.db"])
def test_a_state_directory_that_is_damaged_can_be_restored(
    server: Server, made: str, identity: Path, damaged: str
) -> None:
    """As its own error says: “restore it from a backup”."""
    before = (server.state / "secret.key").read_bytes()
    (server.state / damaged).write_bytes(b"")
    said = server.run("restore", made, "--identity", str(identity))
    assert "Brought back 0 users" in said
    assert (server.state / "secret.key").read_bytes() == before
    (kept,) = server.state.glob("before-restore-*")
    assert (kept / damaged).read_bytes() == b""
    server.run("user", "list")


def test_a_server_that_has_nothing_yet_is_restored(made: str, identity: Path, tmp_path: Path) -> None:
    new = Server(tmp_path / "new")
    assert "Brought back 0 users" in new.run("restore", made, "--identity", str(identity))
    assert new.state.stat().st_mode & 0o777 == 0o700
    assert (new.state / "launchpad.toml.restored").stat().st_mode & 0o777 == 0o600


def test_on_a_server_with_a_key_of_its_own_the_right_one_is_asked_for(made: str, tmp_path: Path) -> None:
    new = Server(tmp_path / "new")
    new.run("user", "list")
    new.run("backup")
    said = new.run("restore", made, ok=False)
    assert "--identity; without it, this server's own" in said


@pytest.mark.parametrize(
    "content",
    ["", "age-encryption.org/v1\n-> scrypt", f"{KEY.to_public()}\n", str(KEY).encode("utf-16").decode("latin-1")],
)
def test_a_file_without_a_private_key_is_told_so(server: Server, made: str, tmp_path: Path, content: str) -> None:
    """And the server's own key does not stand in for it."""
    path = tmp_path / "not-it"
    path.write_bytes(content.encode("latin-1"))
    assert "holds no private key of age" in server.run("restore", made, "--identity", str(path), "--check", ok=False)
