"""What the processes load that run every minute, or stay: next to nothing, or what they use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from launchpad.cli import light, precheck, supervisor
from launchpad.errors import SettingsError, Unavailable
from launchpad.settings import load_settings
from launchpad.settings_place import state_dir
from launchpad.store import revisions

HEAVY = ("typer", "click", "rich", "pydantic", "sqlalchemy", "aiohttp", "fastapi", "structlog", "asyncio")
ROOT = Path(__file__).resolve().parents[2]


def loaded(code: str, *names: str) -> list[str]:
    """Which of the modules a fresh process has loaded after the code."""
    look = f"import sys\n{code}\nprint('loaded', *[each for each in {names!r} if each in sys.modules])"
    return _printed(look)


def _printed(code: str) -> list[str]:
    """What a fresh process prints behind `loaded`."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("state", ["there", "missing"])
def test_a_sweep_asks_the_portal_without_loading_the_program(tmp_path: Path, state: str) -> None:
    """Up to the point where it knows whether a portal lives."""
    if state == "there":
        (tmp_path / "run").mkdir()
    code = (
        "import os; os.environ['LAUNCHPAD_STATE_DIR'] = " + repr(str(tmp_path)) + "\n"
        "from launchpad.__main__ import main\n"
        "from launchpad.cli.light import run\n"
        "assert run(['sweep', '--json']) is None"
    )
    assert loaded(code, *HEAVY) == []


def test_the_process_that_watches_over_the_quick_start_loads_the_standard_library_only() -> None:
    assert loaded("import launchpad.__main__, launchpad.cli.light, launchpad.cli.supervisor", *HEAVY) == []


def test_what_is_looked_at_before_anything_is_installed_needs_no_package() -> None:
    """Not even those of a virtual environment: -S and -I leave them out."""
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); import launchpad.cli.precheck; print('loaded')"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "loaded", done.stderr


@pytest.mark.slow  # a process that loads all of it
def test_the_portal_loads_what_it_uses() -> None:
    """What a few commands, a first start or a first passkey need is loaded then."""
    seldom = (
        *("alembic", "mako", "webauthn", "pyrage", "rich", "pygments", "typer", "sqlalchemy.orm", "asyncpg"),
        *("cryptography", "imapclient", "click", "websockets", "uvicorn.supervisors", "tarfile", "pydantic.v1.main"),
        *("aiohttp", "argparse", "attr", "opentelemetry", "prometheus_client", "pydantic_settings", "yarl"),
    )
    code = "from launchpad.cli.light import leave_out_what_is_not_used as leave; leave(); import launchpad.cli.portal"
    code += "\nsys.modules.pop('rich')"
    assert loaded(code, *seldom) == []


ASKED = """
import asyncio, hashlib, json, sys
from contextlib import asynccontextmanager
from fastapi import BackgroundTasks, FastAPI
from fastapi.openapi import models
from httpx import ASGITransport, AsyncClient
from launchpad.web.schemas import Me

seen = []

@asynccontextmanager
async def lifespan(app):
    seen.append("opened")
    yield
    seen.append("closed")

app = FastAPI(lifespan=lifespan)
app.get("/me", response_model=Me)(lambda: None)

@app.get("/half/{number}")
async def half(number: int, later: BackgroundTasks):
    later.add_task(seen.append, "later")
    return 1 / number

async def main():
    told = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    async def receive():
        return next(told)
    async def send(message):
        seen.append(message["type"])
    await app({"type": "lifespan", "asgi": {}, "state": {}}, receive, send)
    transport = ASGITransport(app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://here") as http:
        for path in ("/half/4", "/half/x", "/half/0", "/nowhere", "/openapi.json"):
            answer = await http.get(path)
            seen.append(f"{path}:{answer.status_code}")
            seen.append(hashlib.sha256(answer.content).hexdigest())

light = not models.OpenAPI.__pydantic_complete__ and "opentelemetry" not in sys.modules
asyncio.run(main())
print("loaded", light, *seen)
"""


@pytest.mark.slow
def test_what_is_left_out_takes_nothing_from_what_is_asked() -> None:
    """Answers, good and bad, the lifespan, work after an answer and the API's description are the same."""
    leave = "from launchpad.cli.light import leave_out_what_is_not_used as leave; leave()"
    is_light, *seen = _printed(leave + ASKED)
    assert (is_light, ["False", *seen]) == ("True", _printed(ASKED))
    assert seen[:4] == ["opened", "lifespan.startup.complete", "closed", "lifespan.shutdown.complete"]
    assert [one for one in seen[4:] if len(one) < 64] == [
        *("later", "/half/4:200", "/half/x:422", "/half/0:500", "/nowhere:404", "/openapi.json:200")
    ]


@pytest.mark.parametrize(
    "arguments",
    [[], ["sweep", "--help"], ["sweep", "now"], ["sweep", "--config"], ["user", "list"], ["serve", "--json"]],
)
def test_what_is_not_plain_is_left_to_the_whole_program(arguments: list[str]) -> None:
    assert light.run(arguments) is None


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("", {}),
        ('state_dir = "/srv/lp"\n[homes]\nroot = "/home"\n', {}),
        ('state_dir = "/srv/lp"\n', {"LAUNCHPAD_STATE_DIR": "/srv/other"}),
        ('state_dir = "/srv/lp"\n', {"launchpad_state_dir": "/srv/lower"}),
        ('state_dir = "here"\n', {}),
        ('state_dir = "~/lp"\n', {}),
    ],
)
def test_the_state_directory_is_found_where_the_settings_have_it(
    tmp_path: Path, text: str, variables: dict[str, str]
) -> None:
    file = tmp_path / "launchpad.toml"
    file.write_text(text)
    by_variable = {**variables, "LAUNCHPAD_CONFIG": str(file)}
    assert state_dir(file, variables) == load_settings(file, variables=variables).state_dir
    assert state_dir(None, by_variable) == load_settings(variables=by_variable).state_dir


@pytest.mark.parametrize("text", ["state_dir = \n", "state_dir = 3\n"])
def test_settings_that_cannot_be_read_are_left_to_the_whole_program(tmp_path: Path, text: str) -> None:
    file = tmp_path / "launchpad.toml"
    file.write_text(text)
    assert state_dir(file, {}) is None
    assert state_dir(tmp_path / "missing", {}) is None
    with pytest.raises(SettingsError):
        load_settings(file, variables={})


def test_the_reference_that_is_looked_into_names_every_setting() -> None:
    known = precheck._known()
    assert {"PUBLIC_URL", "HOMES__ROOT", "SIGN_IN__CODE_MINUTES"} <= known
    assert len(known) > 80


def test_the_versions_of_the_tables_are_those_that_alembic_knows() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(revisions.MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert revisions.known_revisions() == {script.revision for script in scripts.walk_revisions()}
    assert revisions.newest() == scripts.get_current_head()


def test_a_program_that_is_not_there_is_said_so() -> None:
    with pytest.raises(Unavailable, match="no-such-program is not installed"):
        supervisor.Child("nginx", "no-such-program")
