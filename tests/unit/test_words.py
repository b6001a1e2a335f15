"""Texts for people say things in the field's plain words: those of the list do not come up."""

from __future__ import annotations

from pathlib import Path

import pytest

import launchpad
from support.words import Avoided, avoided, complaints, in_html, in_module, in_script, in_template

WEB = Path(launchpad.__file__).parent / "web"
TEMPLATES = {str(path.relative_to(WEB)): path for path in sorted((WEB / "templates").rglob("*.html"))}
SCRIPTS = {str(path.relative_to(WEB)): path for path in sorted((WEB / "static").glob("*.js"))}
MODULES = {str(path.relative_to(WEB)): path for path in sorted(WEB.rglob("*.py"))}
ERRORS = WEB.parent / "errors.py"


def test_templates_use_plain_words() -> None:
    found = {name: complaints(in_template(path.read_text(encoding="utf-8"))) for name, path in TEMPLATES.items()}
    assert found == {name: [] for name in TEMPLATES}


def test_scripts_use_plain_words() -> None:
    found = {name: complaints(in_script(path.read_text(encoding="utf-8"))) for name, path in SCRIPTS.items()}
    assert found == {name: [] for name in SCRIPTS}


def test_modules_of_the_web_use_plain_words() -> None:
    found = {name: complaints(in_module(path.read_text(encoding="utf-8"))) for name, path in MODULES.items()}
    assert found == {name: [] for name in MODULES}


def test_titles_of_errors_use_plain_words() -> None:
    assert complaints(in_module(ERRORS.read_text(encoding="utf-8"))) == []


# -- the scanner itself ------------------------------------------------------------------------------------------------


def said(words: list[str]) -> list[Avoided]:
    """Those of the list that some of these texts use."""
    return [one for one in avoided() if any(one.is_in(text) for text in words)]


@pytest.mark.parametrize(
    "text",
    ["You", "Forget", "Taken off the list.", "Waiting for room", "It is on its way", "Your Home", "Stay", "Go on"],
)
def test_an_avoided_word_is_found_wherever_texts_stand(text: str) -> None:
    assert said(list(in_template(f"<p>{{% if x %}}<a>{text}</a>{{% endif %}}</p>")))
    assert said(list(in_template(f'<a aria-label="{text}">x</a>')))
    assert said(list(in_template(f'{{{{ "{text}" if x else "y" }}}}')))
    assert said(list(in_script(f'say("bad", "{text}");')))
    assert said(list(in_script(f"say(`{text}`);")))
    assert said(list(in_module(f'see("{text}")')))
    assert said(list(in_html(f"<main><b>{text}</b></main>")))


def test_names_in_code_are_no_texts() -> None:
    assert list(in_module('"""Forget it."""\nx = {"forget": promised("live")}\n# forget')) == []
    assert list(in_script('// what is promised\nform.dataset.forget = "promised";')) == []
    assert list(in_template('{# forget #}<form action="/forget" id="promised"></form>')) == []
    assert list(in_html('<script>forget("what is promised")</script>')) == []


def test_a_plain_text_passes() -> None:
    plain = ["Extended until Sat 28 Nov, 15:07", "Your account", "Home folder", "Live logs", "Keep waiting", "You can"]
    assert said(plain) == []
