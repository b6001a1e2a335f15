"""What install.sh does about a change of version that was interrupted, by its own functions, without a server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# In the place of what needs a server; each says that it was called.
STAND_INS = """
systemctl() { echo "systemctl $*" >>"$called"; }
journalctl() { :; }
launchpad-apply() { :; }
put_into_force() { echo "force ${1##*/}" >>"$called"; ln -sfn "$1" "$opt/current"; }
is_healthy() { :; }
"""
# A version of the program; it takes the database for too new where the file `too-new` is.
PROGRAM = """#!/bin/sh
echo "{name}: $*" >>"{called}"
case "$1 $2" in "release check") test ! -e "{opt}/too-new" ;; esac
"""


class Server:
    """Its folder of releases: `old` is in force, `new` is there as well."""

    def __init__(self, path: Path) -> None:
        self.opt, self.path, self.called = path / "opt", path, path / "called"
        for name in ("old", "new"):
            release = self.release(name)
            (release / "bin").mkdir(parents=True)
            (release / "version").write_text(f"{name}\n")
            (release / ".complete").touch()
            program = release / "bin" / "launchpad"
            program.write_text(PROGRAM.format(name=name, called=self.called, opt=self.opt))
            program.chmod(0o755)
        (self.opt / "current").symlink_to(self.release("old"))
        (path / "scripts").symlink_to(ROOT / "scripts")
        (path / "launchpad.toml").touch()

    def release(self, name: str) -> Path:
        return self.opt / "releases" / name

    def run(self, release: str, commands: str) -> tuple[str, list[str]]:
        """The functions of install.sh, told of this folder, and then these commands."""
        functions = (ROOT / "install.sh").read_text().partition("# -- all of it -")[0]
        for folder, here in (("etc=/etc/launchpad", f"etc={self.path}"), ("opt=/opt/launchpad", f"opt={self.opt}")):
            assert folder in functions
            functions = functions.replace(folder, here)
        given = f"called={self.called} release={self.release(release)} version={release}\n"
        script = self.path / "install.sh"
        script.write_text(functions + STAND_INS + given + commands)
        self.called.write_text("")
        done = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
        assert done.stderr == "", done.stderr
        return done.stdout.strip(), self.called.read_text().splitlines()

    def looks(self) -> str:
        """What ran before, and whether a change was interrupted."""
        return self.run("new", 'look_at_before\necho "${before##*/} ${interrupted:-0}"')[0]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_a_change_that_comes_to_its_end_is_not_remembered(server: Server) -> None:
    assert server.looks() == "old 0"
    _, called = server.run("new", "look_at_before\nupgrade")
    assert "force new" in called
    assert server.looks() == "new 0"


@pytest.mark.parametrize("step", ["put_into_force", "is_healthy", "systemctl"])
def test_a_change_that_is_interrupted_is_taken_up_by_the_next_run(server: Server, step: str) -> None:
    """Wherever it broke off, the version from before is known, and services are restarted."""
    server.run("new", f"{step}() {{ kill -9 $$; }}\nlook_at_before\nupgrade")
    assert server.looks() == "old 1"
    _, called = server.run("new", "look_at_before\nkeep_database\nupgrade")
    assert "systemctl restart launchpad-helper.service launchpad.service" in called
    assert any(line.startswith("systemctl start") and "launchpad-backup.timer" in line for line in called)
    assert server.looks() == "new 0"


def test_the_copy_from_before_is_not_overwritten_with_a_changed_database(server: Server) -> None:
    server.run("new", "is_healthy() { kill -9 $$; }\nlook_at_before\nupgrade")
    _, called = server.run("new", "look_at_before\nkeep_database")
    assert "new: release keep" in called, "as long as the version from before understands it, it is kept anew"
    (server.opt / "too-new").touch()
    said, called = server.run("new", "look_at_before\nkeep_database")
    assert "new: release keep" not in called
    assert "copy from before stays" in said


def test_the_version_from_before_can_be_returned_to(server: Server) -> None:
    server.run("new", "is_healthy() { kill -9 $$; }\nlook_at_before\nupgrade")
    assert (server.opt / "current").resolve().name == "new"
    _, called = server.run("old", "look_at_before\nreturn_to_before")
    assert ("force old" in called, "old: release back" in called) == (True, True)
    assert server.looks() == "old 0"


def test_a_note_of_a_version_that_is_gone_is_passed_over(server: Server) -> None:
    (server.opt / ".changing-from").write_text(f"{server.opt}/releases/gone\n")
    assert server.looks() == "old 0"
