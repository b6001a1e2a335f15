"""The documentation against the code: every block of TOML is settings that load, every link leads somewhere."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from launchpad.cli.main import app
from launchpad.domain.environments import Placeholders, Prefix
from launchpad.services.catalogue import catalogue_of, environment_of
from launchpad.settings import tables
from launchpad.settings.catalogue import shipped_environments

ROOT = Path(__file__).parents[2]
HOWTO = ROOT / "docs" / "howto"
PAGES = sorted([*HOWTO.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "performance.md"])
# Recipes have a small file of their own; it is TOML, and no settings.
RECIPE_KEYS = {"title", "kind", "base", "stand_in", "changes"}


def fenced(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def toml_blocks() -> Iterator[Any]:
    for page in PAGES:
        for number, text in enumerate(fenced(page, "toml"), 1):
            yield pytest.param(text, id=f"{page.name}-{number}")


@pytest.mark.parametrize("text", list(toml_blocks()))
def test_every_block_of_toml_is_settings_that_load(text: str) -> None:
    data = tomllib.loads(text)
    if set(data) <= RECIPE_KEYS:
        assert data["kind"] in ("dockerfile", "rootfs")
        return
    catalogue_of(tables(data))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_stand_in_fences_where_a_test_sees_them(page: Path) -> None:
    """A header or a key of TOML in an indented block would rot unseen."""
    for line in page.read_text(encoding="utf-8").splitlines():
        assert not re.match(r"    (\[\[?[a-z_]+\]?\]$|[a-z_]+ = [\"\[{0-9])", line), line


def test_the_worked_example_is_a_whole_environment() -> None:
    """VS Code: added behind those that ship, with nothing left open, and nothing it does not need."""
    text = next(text for text in fenced(HOWTO / "add-an-environment.md", "toml") if 'name = "vscode"' in text)
    catalogue = catalogue_of(tables(tomllib.loads(text)))
    assert list(catalogue) == ["rstudio", "jupyterlab", "vscode"]
    vscode = catalogue["vscode"]
    assert (vscode.prefix, vscode.port, vscode.health_path) == (Prefix.STRIP, 8080, "/healthz")
    assert vscode.capabilities == ()
    assert vscode.env_vars["HOME"] == vscode.home
    assert "--auth" in vscode.command, "the gate is the log-in"
    values = Placeholders("/i/abc", "t0k3n", "anna", 200_001, vscode.home)
    texts = [vscode.user, vscode.health_path, vscode.start_path, *vscode.command, *vscode.env_vars.values()]
    assert not any("{" in values.fill(one) for one in texts)


def test_the_environment_with_a_gpu_is_the_shipped_one_with_a_gpu() -> None:
    """What the page says of it; so a change of what ships is a change of the page."""
    (text,) = fenced(HOWTO / "gpu.md", "toml")
    (table,) = tomllib.loads(text)["environments"]
    shipped = next(one for one in shipped_environments() if one["name"] == "jupyterlab")
    for key in ("port", "home", "prefix", "health_path", "start_path", "user", "groups", "command", "request_headers"):
        assert table.get(key) == shipped.get(key), key
    assert shipped["env_vars"].items() <= table["env_vars"].items()
    entry = next(one for one in tables(tomllib.loads(text)).environments if one.name == table["name"])
    assert environment_of(entry).gpus == "all"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs" / "adr").glob("*.md"))], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s:]*#?[^)\s:]*)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        found = (page.parent / path) if path else page
        assert found.exists(), f"{page.name} → {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name} → {target}"


def test_every_how_to_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in HOWTO.glob("*.md") if f"docs/howto/{page.name}" not in readme] == []


def commands() -> dict[str, set[str]]:
    """Each command's words, with the options it takes."""
    found: dict[str, set[str]] = {}

    def walk(command: Any, words: str) -> None:
        found[words] = {option for parameter in command.params for option in parameter.opts}
        names = command.list_commands(None) if hasattr(command, "list_commands") else []
        for name in names:
            walk(command.get_command(None, name), f"{words} {name}".strip())

    walk(get_command(app), "")
    return found


@pytest.mark.parametrize("page", [HOWTO / "migrate.md", HOWTO / "add-an-environment.md", HOWTO / "gpu.md"])
def test_commands_and_options_exist(page: Path) -> None:
    known = commands()
    assert isinstance(app, typer.Typer)
    for line in re.findall(r"launchpad ((?:[a-z-]+ ?)+[^\n`]*)", page.read_text(encoding="utf-8")):
        words = line.split()
        name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in known), None)
        if name is None:
            continue  # the word in a sentence
        for option in re.findall(r"(?<!\S)--[a-z-]+", line):
            assert option in known[name] | {"--help"}, f"{page.name}: launchpad {line}"
