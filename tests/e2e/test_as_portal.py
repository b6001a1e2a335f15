"""A command that needs root for one thing, and does another as the portal's user: in real processes."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from typing import Any

import pytest

from launchpad.errors import Conflict

USER = pwd.getpwnam("nobody")
ROOTS_GROUPS = [4, 5]

# What stands around every work below.
BEGIN = """
import json, os, signal, sys
import typer
from launchpad.cli.context import as_portal
from launchpad.errors import Conflict, LaunchpadError
from launchpad.settings import tables

settings = tables({"helper": {"socket": "/run/none.sock", "user": sys.argv[1]}})

def rights():
    return {"uids": os.getresuid(), "gids": os.getresgid(), "groups": sorted(os.getgroups())}

def ways_back():
    found = []
    for way in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0])):
        try:
            way()
        except PermissionError:
            continue
        found.append(rights())
    return found

"""  # then `work`, which is done as the portal's user
END = """
try:
    answer = as_portal(settings, work)
except LaunchpadError as error:
    answer = {"title": error.title, "detail": error.detail, "fields": error.fields}
except typer.Exit as ended:
    sys.exit(ended.exit_code)
print(json.dumps({"answer": answer, "own": rights(), "home": os.environ["HOME"]}))
"""


def run(work: str, user: str = USER.pw_name) -> tuple[int, Any, str]:
    """The exit code of a command that does `work`, what it printed at its end, and what else is in the terminal."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + work + END, user],
        env={**os.environ, "HOME": "/root"},
        extra_groups=ROOTS_GROUPS,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


def test_the_work_has_the_portals_rights_and_no_way_back_while_the_command_stays_root() -> None:
    _, said, terminal = run("work = lambda: [rights(), ways_back(), os.environ['HOME']]")
    groups = sorted(set(os.getgrouplist(USER.pw_name, USER.pw_gid)))
    rights = {"uids": [USER.pw_uid] * 3, "gids": [USER.pw_gid] * 3, "groups": groups}
    own = {"uids": [0] * 3, "gids": [0] * 3, "groups": ROOTS_GROUPS}
    assert said == {"answer": [rights, [], USER.pw_dir], "own": own, "home": "/root"}, terminal


def test_an_answer_of_any_size_comes_back() -> None:
    _, said, terminal = run("work = lambda: 'x' * (1 << 20)")
    assert said["answer"] == "x" * (1 << 20), terminal


def test_an_error_of_ours_comes_back_in_its_words() -> None:
    _, said, _ = run("def work():\n    raise Conflict('No.', fields={'name': 'taken'})")
    assert said["answer"] == {"title": Conflict.title, "detail": "No.", "fields": {"name": "taken"}}


@pytest.mark.parametrize(
    ("work", "expected", "words"),
    [("sys.exit(3)", 3, "Done."), ("1 / 0", 1, "ZeroDivisionError")],
    ids=["an exit of its own", "a mistake"],
)
def test_the_command_ends_as_its_work_does(work: str, expected: int, words: str) -> None:
    """With what the work said in the terminal, once."""
    code, said, terminal = run(f"def work():\n    print('Done.', file=sys.stderr)\n    {work}")
    assert (code, said) == (expected, None)
    assert terminal.count(words) == 1


def test_a_work_that_is_killed_is_an_error() -> None:
    _, said, _ = run("work = lambda: os.kill(os.getpid(), signal.SIGKILL)")
    assert "its process was killed" in said["answer"]["detail"]


def test_a_user_that_is_not_there_is_told_and_nothing_is_done() -> None:
    code, said, terminal = run("work = lambda: print('done', file=sys.stderr)", user="no-such-user")
    assert (code, said) == (1, None)
    assert "this server has no user “no-such-user”" in terminal
    assert "done" not in terminal


@pytest.mark.parametrize("case", [f"os.setuid({USER.pw_uid})", "settings = tables({})"], ids=["no root", "no helper"])
def test_where_there_is_nothing_to_give_up_the_command_does_it_itself(case: str) -> None:
    _, said, terminal = run(f"{case}\nown = os.getpid()\nwork = lambda: os.getpid() == own")
    assert said["answer"] is True, terminal
