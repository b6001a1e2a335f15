"""Texts outside of pages (errors, commands, the doctor, settings, the API, how-tos, scripts) use plain words, too.

The words are those of `avoided_words.toml`, which pages also keep to, and of `avoided_words_texts.toml`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

import launchpad
from launchpad.cli.main import app
from support.words import avoided, complaints, in_module

SOURCE = Path(launchpad.__file__).parent
ROOT = SOURCE.parents[1]
WORDS = avoided() + avoided(Path(__file__).with_name("avoided_words_texts.toml"))

MODULES = {str(path.relative_to(SOURCE)): path for path in sorted(SOURCE.rglob("*.py"))}
GUIDES = {
    str(path.relative_to(ROOT)): path
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/howto/*.md")), *sorted(ROOT.glob("docs/reference/*.md")))
}
SCRIPTS = ("install.sh", "quickstart", "deploy/launchpad-apply", "scripts/lib.sh")
UNITS = {path.name: path for path in sorted((ROOT / "deploy/systemd").glob("launchpad*"))}

# Strings that are no texts of ours, by module: what looks for a word has to name it, and stable values stay.
NO_TEXTS = {
    "domain/instances.py": {"waiting for room"},  # the value of a stage, in the database and the API
    "domain/mail.py": {"given up"},  # the value of a kind, in the database, the API and the metrics
}


def helps(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """What `--help` says of a command, of its options and of the commands below it; each with the words to type."""
    yield " ".join(words), command.help or ""
    for parameter in command.params:
        yield " ".join((*words, parameter.name)), getattr(parameter, "help", None) or ""
    if isinstance(command, TyperGroup):
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from helps(command.get_command(context, name), (*words, name))


def test_modules_use_plain_words() -> None:
    found = {}
    for name, path in MODULES.items():
        texts = [text for text in in_module(path.read_text(encoding="utf-8")) if text not in NO_TEXTS.get(name, ())]
        found[name] = complaints(iter(texts), WORDS)
    assert found == {name: [] for name in MODULES}


def test_commands_explain_themselves_in_plain_words() -> None:
    helps_of = dict(helps(typer.main.get_command(app)))
    assert len(helps_of) > 100
    assert {name: complaints(iter([text]), WORDS) for name, text in helps_of.items()} == {name: [] for name in helps_of}


def test_guides_use_plain_words() -> None:
    found = {name: complaints(in_markdown(path.read_text(encoding="utf-8")), WORDS) for name, path in GUIDES.items()}
    assert found == {name: [] for name in GUIDES}


def test_scripts_say_plain_words() -> None:
    found = {name: complaints(in_shell((ROOT / name).read_text(encoding="utf-8")), WORDS) for name in SCRIPTS}
    assert found == {name: [] for name in SCRIPTS}


def test_units_describe_themselves_in_plain_words() -> None:
    for name, path in UNITS.items():
        found = re.findall(r"^Description=(.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert complaints(iter(found), WORDS) == [], name


def test_nothing_is_exempt_that_does_not_exist() -> None:
    assert set(MODULES) >= set(NO_TEXTS)
    for name, exempt in NO_TEXTS.items():
        assert set(in_module(MODULES[name].read_text(encoding="utf-8"))) >= exempt


# -- what people read --------------------------------------------------------------------------------------------------


def in_markdown(source: str) -> Iterator[str]:
    """Its paragraphs, list entries and rows; code is “…”."""
    source = re.sub(r"^ *```.*?^ *```", "", source, flags=re.DOTALL | re.MULTILINE)
    source = re.sub(r"(?<=\n\n)(?:(?: {4}.*)?\n)+", "\n", source)
    source = re.sub(r"`[^`]*`", "…", source)
    source = re.sub(r"\]\([^)]*\)", "]", source)
    yield from (text for text in re.split(r"\n\s*\n|\n(?=[-|#>]|\d+\.)", source) if text.strip())


def in_shell(source: str) -> Iterator[str]:
    """The strings of a script that read like words, and its here-document."""
    yield from re.findall(r"<<'TEXT'\n(.*?)^TEXT$", source, flags=re.DOTALL | re.MULTILINE)
    source = re.sub(r"^\s*#.*$", "", source, flags=re.MULTILINE)
    for line in source.splitlines():
        yield from (text for text in re.findall(r'"((?:[^"\\]|\\.)*)"', line) if " " in text)


# -- the scanners themselves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Whoever reads it can sign in.",
        "Everybody signs in anew.",
        "Your Home is full.",
        "The instance goes on.",
        "It was left when the transfer broke off.",
        "This server can promise 4 GB.",
        "The upgrade is taken back.",
        "Its image cannot be had.",
        "The last rehearsal failed.",
        "The mail server took no mail.",
        "Rules are not in force.",
    ],
)
def test_an_avoided_word_is_found_wherever_texts_stand(text: str) -> None:
    places = (
        in_module(f'raise Conflict("{text}")'),
        in_module(f'raise Conflict(\n    f"{{name}}: " "{text}"\n)'),
        in_module(f'x: int = Field(1, description="{text}")'),
        iter(dict(helps(_command(text, ""))).values()),
        iter(dict(helps(_command("", text))).values()),
        in_markdown(f"# Title\n\n- one\n- {text}\n"),
        in_markdown(f"| a | {text.replace(' ', chr(10), 1)} |\n"),
        in_shell(f'say "{text}"'),
        in_shell(f"cat <<'TEXT'\n  --option  {text}\nTEXT\n"),
    )
    for number, found in enumerate(places):
        assert complaints(found, WORDS), number


def _command(about: str, about_its_option: str) -> Any:
    app = typer.Typer(help="A program.")

    @app.command("run", help=about)
    def run(to: str = typer.Option("", help=about_its_option)) -> None:
        raise NotImplementedError(to)

    @app.command("other", help="Another one, so that the program has commands.")
    def other() -> None:
        raise NotImplementedError

    return typer.main.get_command(app)


def test_code_is_no_text() -> None:
    fine = 'def promised() -> None:\n    """Whoever is promised."""\n    kind = {"promised": 1, "given_up": 2}\n'
    assert complaints(in_module(fine), WORDS) == []
    assert (
        complaints(in_markdown("Run it:\n\n    restic forget --keep 3\n\nand `launchpad mail forget`.\n"), WORDS) == []
    )
    assert complaints(in_shell("# whoever runs this goes on\nforget_dead_engine\n"), WORDS) == []


def test_plain_texts_pass() -> None:
    plain = (
        "There is no backup in /var/backups.",
        "Your home folder is full.",
        "The upgrade was rolled back; instances keep running.",
        "The mail server did not accept the mail.",
    )
    assert complaints(iter(plain), WORDS) == []
