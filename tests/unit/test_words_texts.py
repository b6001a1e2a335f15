"""Texts outside of pages (errors, commands, the doctor, settings, the API, how-tos, scripts) use plain words, too.

The words are those of `avoided_words.toml`, which pages also keep to, and of `avoided_words_texts.toml`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import launchpad
from support.words import avoided, complaints, in_module

SOURCE = Path(launchpad.__file__).parent
ROOT = SOURCE.parents[1]
WORDS = avoided() + avoided(Path(__file__).with_name("avoided_words_texts.toml"))

MODULES = {str(path.relative_to(SOURCE)): path for path in sorted(SOURCE.rglob("*.py"))}
GUIDES = {
    str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *sorted((ROOT / "docs/howto").glob("*.md")))
}
SCRIPTS = ("install.sh", "quickstart", "deploy/launchpad-apply", "scripts/lib.sh")
UNITS = {path.name: path for path in sorted((ROOT / "deploy/systemd").glob("launchpad*"))}
PUBLISHED = ("cli/", "web/api/", "web/schemas.py", "web/admin_schemas.py")  # whose docstrings people read

# Strings that are no texts of ours, by module: what looks for a word has to name it, and stable values stay.
NO_TEXTS = {
    "domain/ends.py": {r"\byour (Home|home folder|settings files?)\b"},  # what it replaces
    "domain/mail.py": {"given up"},  # the value of a kind, in the database, the API and the metrics
}

# Being rewritten elsewhere at the moment. Each is taken off this list with its last avoided word.
PENDING = {
    "domain/instances.py",
    "errors.py",
    "services/carrier.py",
    "services/instances.py",
    "services/nginx/render.py",
    "services/passkeys.py",
    "web/deps.py",
    "web/pages/admin.py",
    "web/pages/rendering.py",
    "web/pages/views.py",
    "web/problems.py",
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_use_plain_words(name: str) -> None:
    source = MODULES[name].read_text(encoding="utf-8")
    texts = [text for text in in_module(source) if text not in NO_TEXTS.get(name, ())]
    if name.startswith(PUBLISHED):
        texts += published_docstrings(source)
    found = complaints(iter(texts), WORDS)
    assert found != [] if name in PENDING else found == [], found or f"{name} can be taken off PENDING"


@pytest.mark.parametrize("name", GUIDES)
def test_guides_use_plain_words(name: str) -> None:
    assert complaints(in_markdown(GUIDES[name].read_text(encoding="utf-8")), WORDS) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_say_plain_words(name: str) -> None:
    assert complaints(in_shell((ROOT / name).read_text(encoding="utf-8")), WORDS) == []


@pytest.mark.parametrize("name", UNITS)
def test_units_describe_themselves_in_plain_words(name: str) -> None:
    found = re.findall(r"^Description=(.*)$", UNITS[name].read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert complaints(iter(found), WORDS) == []


def test_nothing_is_exempt_that_does_not_exist() -> None:
    assert set(MODULES) >= PENDING | set(NO_TEXTS)
    for name, exempt in NO_TEXTS.items():
        assert set(in_module(MODULES[name].read_text(encoding="utf-8"))) >= exempt


# -- what people read --------------------------------------------------------------------------------------------------


def published_docstrings(source: str) -> Iterator[str]:
    """Docstrings that are shown: those of commands and calls (`--help`, OpenAPI), and of the API's bodies and views."""
    for node in ast.walk(ast.parse(source)):
        is_call = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(map(_publishes, node.decorator_list))
        is_schema = isinstance(node, ast.ClassDef) and node.name.endswith(("Body", "View"))
        if (is_call or is_schema) and (text := ast.get_docstring(node)):  # type: ignore[arg-type]
            yield re.sub(r"`[^`]*`", "…", text)


def _publishes(decorator: ast.expr) -> bool:
    """`@app.command(…)`, `@app.callback(…)`, `@router.get(…)` and their like."""
    words = {"command", "callback", "get", "post", "put", "patch", "delete"}
    return (
        isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute) and decorator.func.attr in words
    )


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
        published_docstrings(f'@app.command("x")\ndef run() -> None:\n    """{text}"""'),
        published_docstrings(f'@router.get("/x")\nasync def run() -> None:\n    """{text}"""'),
        published_docstrings(f'class SizeView(BaseModel):\n    """{text}"""'),
        in_markdown(f"# Title\n\n- one\n- {text}\n"),
        in_markdown(f"| a | {text.replace(' ', chr(10), 1)} |\n"),
        in_shell(f'say "{text}"'),
        in_shell(f"cat <<'TEXT'\n  --option  {text}\nTEXT\n"),
    )
    for number, found in enumerate(places):
        assert complaints(found, WORDS), number


def test_code_is_no_text() -> None:
    fine = 'def promised() -> None:\n    """Whoever is promised."""\n    kind = {"promised": 1, "given_up": 2}\n'
    assert complaints(in_module(fine), WORDS) == []
    assert list(published_docstrings(fine)) == []
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
