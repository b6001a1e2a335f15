"""The commands as a whole: what is listed, and what each of them loads."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from launchpad.cli.main import COMMANDS, HIDDEN, app


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_explains_itself(name: str) -> None:
    said = CliRunner().invoke(app, [name, "--help"])
    assert said.exit_code == 0, said.output
    assert f" {name} " in said.output
    assert "completion" not in said.output


def test_help_lists_what_people_use() -> None:
    said = CliRunner().invoke(app, ["--help"])
    assert said.exit_code == 0, said.output
    listed = {line.split()[1] for line in said.output.splitlines() if line.startswith("│ ") and line[2] != " "}
    assert listed - {"--help"} == (set(COMMANDS) - HIDDEN) | {"version"}


def test_a_slip_gets_a_suggestion() -> None:
    said = CliRunner().invoke(app, ["swep"])
    assert said.exit_code == 2
    assert "Did you mean 'sweep'?" in said.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("version", ("sqlalchemy", "fastapi", "aiohttp")),
        ("helper", ("sqlalchemy", "fastapi", "webauthn", "jinja2")),
        ("nginx", ("sqlalchemy", "fastapi", "webauthn")),
        ("network", ("sqlalchemy", "fastapi", "webauthn")),
        ("sweep", ("fastapi",)),
    ],
)
def test_commands_load_what_they_need(name: str, without: tuple[str, ...]) -> None:
    """At a server's start everything starts at once; and what runs as root is better off with less in it."""
    look = (
        "import sys; from launchpad.cli.main import app\n"
        f"try: app([{name!r}, '--help'])\n"
        f"except SystemExit: print('loaded', [each for each in {without!r} if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded []"
