"""`launchpad audit verify|accept`, and what backups and restores leave of the audit's chain."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyrage
import pytest
import structlog
from typer.testing import CliRunner, Result

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
recipients = {recipients}
"""


class Server:
    """Its settings, and its commands, in this process."""

    def __init__(self, path: Path, recipients: tuple[str, ...] = (str(KEY.to_public()),)) -> None:
        self.path, self.state, self.config = path, path / "state", path / "launchpad.toml"
        (path / "homes").mkdir(parents=True)
        self.config.write_text(
            SETTINGS.format(
                state=self.state, homes=path / "homes", folder=path / "backups", recipients=json.dumps(recipients)
            )
        )
        (path / "identity").write_text(str(KEY))

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--config", str(self.config)])

    def good(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.exit_code == 0, f"{done.output} {done.exception!r}"
        return " ".join(done.output.split())

    def record(self, number: int) -> None:
        """So many entries."""
        for n in range(number):
            self.good("policy", "set", "stop", "--minutes", str(60 + n))

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self.state / "launchpad.db")) as db, db:
            db.execute(statement)

    def verdict(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("audit", "verify", "--json").stdout)
        return found

    def newest(self) -> dict[str, Any]:
        (newest, *_) = json.loads(self.good("audit", "--limit", "1", "--json"))
        assert isinstance(newest, dict)
        return newest

    def backup(self) -> str:
        self.good("backup")
        return str(max((self.path / "backups").iterdir(), key=lambda one: one.stat().st_mtime_ns))

    def restore(self, backup: str) -> str:
        return self.good("restore", backup, "--identity", str(self.path / "identity"))


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Commands set it up for their own process, with its standard error."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path / "first")
    server.record(3)
    return server


def test_a_whole_chain_is_said_to_be_with_its_anchor(server: Server) -> None:
    said = server.good("audit", "verify")
    assert "All 3 entries are as they were written." in said
    anchor = said.rpartition("Anchor, to be kept elsewhere: ")[2]
    assert anchor.startswith("3:")
    server.record(1)
    assert "What was noted earlier is among them." in server.good("audit", "verify", "--anchor", anchor)
    assert server.verdict() == {
        "holds": True,
        "entries": 4,
        "breaks": 0,
        "first_break": None,
        "pruned_before": None,
        "anchor": server.verdict()["anchor"],
    }


def test_h6_a_broken_one_is_said_in_words_with_the_exit_code_1(server: Server) -> None:
    anchor = server.verdict()["anchor"]
    server.record(1)
    server.sql("DELETE FROM audit WHERE id = 2")
    done = server.run("audit", "verify")
    assert done.exit_code == 1
    assert "The audit was changed. Entry 2 is missing before entry 3" in " ".join(done.output.split())
    found = server.verdict()
    assert (found["holds"], found["breaks"], found["first_break"]["entry"]) == (False, 1, 3)
    done = server.run("doctor", "--json")
    (finding,) = [one for one in json.loads(done.stdout) if one["subject"] == "audit"]
    assert (finding["level"], "was changed" in finding["text"]) == ("bad", True)
    assert server.run("audit", "verify", "--anchor", f"4{anchor[1:]}").exit_code == 1


def test_another_anchor_than_the_chain_has_is_a_broken_place(server: Server) -> None:
    anchor = server.verdict()["anchor"]
    for wrong in (f"2{anchor[1:]}", f"9{anchor[1:]}"):
        assert server.run("audit", "verify", "--anchor", wrong).exit_code == 1
    done = server.run("audit", "verify", "--anchor", "yesterday")
    assert (done.exit_code, "an anchor is a number" in done.output) == (1, True)


def test_the_list_is_as_before(server: Server) -> None:
    assert "idle_policy.changed" in server.good("audit")
    assert [one["id"] for one in json.loads(server.good("audit", "--json", "--limit", "2"))] == [3, 2]
    assert "No entries." in server.good("audit", "--search", "zzz")


def test_after_a_restore_the_chain_holds_and_says_what_is_missing(server: Server) -> None:
    backup = server.backup()
    server.record(2)
    server.restore(backup)
    found = server.verdict()
    assert (found["holds"], found["entries"]) == (True, 4)
    newest = server.newest()
    assert (newest["action"], newest["details"]["missing_entries"]) == ("backup.restored", "4 to 5")
    server.record(3)
    assert server.verdict()["holds"]


def test_a_backup_with_keys_is_followed_elsewhere_as_well(server: Server, tmp_path: Path) -> None:
    backup = server.backup()
    other = Server(tmp_path / "other")
    other.record(1)
    other.restore(backup)
    found = other.verdict()
    assert (found["holds"], found["entries"]) == (True, 4)
    assert other.newest()["details"] == {"anchors_of_another_chain": 1}
    server.sql("UPDATE audit SET actor = 'eve' WHERE id = 2")
    third = Server(tmp_path / "third")
    third.restore(server.backup())
    assert not third.verdict()["holds"], "what was changed before stays changed"


def test_one_without_keys_begins_a_chain_elsewhere_and_says_so(tmp_path: Path) -> None:
    server = Server(tmp_path / "first", recipients=())
    server.record(3)
    backup = server.backup()
    other = Server(tmp_path / "other")
    other.restore(backup)
    assert (other.verdict()["holds"], other.newest()["details"]["chain"][:14]) == (True, "started again,")
    server.sql("UPDATE audit SET actor = 'eve' WHERE id = 2")
    server.restore(backup)
    assert server.newest()["details"] == {}, "here its key is still there"
    assert server.verdict()["holds"]


def test_what_another_tool_brought_back_is_accepted_once(server: Server) -> None:
    assert server.run("audit", "accept", "--reason", "x").exit_code == 1
    server.sql("DELETE FROM audit WHERE id > 1")
    assert not server.verdict()["holds"]
    assert "2 entries are missing" in server.good("audit", "accept", "--reason", "the copy of Monday")
    assert (server.verdict()["holds"], server.newest()["subject"]) == (True, "the copy of Monday")


def test_the_rehearsal_of_a_backup_follows_its_chain(server: Server) -> None:
    server.sql("UPDATE audit SET actor = 'eve' WHERE id = 2")
    said = server.good("restore", server.backup(), "--check", "--identity", str(server.path / "identity"))
    assert "The audit in it was changed: Entry 2" in said
