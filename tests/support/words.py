"""Finds the texts for people in templates, scripts, Python modules and rendered pages, and the words they should avoid.

Names in code are no texts: of a script or a module, a string counts that reads like words (it has a blank, or begins
with a capital and has more than one letter); of a module, docstrings and log events do not.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from html.parser import HTMLParser
from pathlib import Path

WORDS = Path(__file__).parents[1] / "unit" / "avoided_words.toml"
SAID_ATTRIBUTES = {"alt", "aria-label", "aria-description", "aria-valuetext", "content", "placeholder", "title"}
INLINE = {"a", "abbr", "b", "code", "em", "i", "span", "strong", "time", "wbr"}
NOT_SHOWN = {"script", "style"}


@dataclass(frozen=True)
class Avoided:
    """A word that texts for people avoid, and what they say instead."""

    pattern: re.Pattern[str]
    use: str
    whole: bool = False

    def is_in(self, text: str) -> bool:
        clean = _clean(text)
        return bool(self.pattern.fullmatch(clean) if self.whole else self.pattern.search(clean))


@lru_cache(maxsize=16)  # asked for by one word after the other
def _clean(text: str) -> str:
    return " ".join(text.split()).rstrip(".:!?…")


@cache
def avoided(path: Path = WORDS) -> list[Avoided]:
    """What the list says."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))["words"]
    return [
        Avoided(
            re.compile(one["avoid"] if one.get("whole") else rf"(?<!\w)(?:{one['avoid']})(?!\w)",
                       0 if one.get("cased") else re.IGNORECASE),
            one["use"],
            one.get("whole", False),
        )
        for one in table
    ]  # fmt: skip


def complaints(texts: Iterator[str], words: list[Avoided] | None = None) -> list[str]:
    """A line for each avoided word in each text; an empty list is what a test wants."""
    words = avoided() if words is None else words
    return [f"“{' '.join(text.split())}”: say “{one.use}”" for text in texts for one in words if one.is_in(text)]


class _Reader(HTMLParser):
    """Texts between block elements, and those in attributes that people see or hear."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = [""]
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in NOT_SHOWN
        if tag not in INLINE:
            self.texts.append("")
        self.texts[-1:-1] = [value for name, value in attrs if name in SAID_ATTRIBUTES and value]

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in NOT_SHOWN
        if tag not in INLINE:
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.texts[-1] += data


def in_html(html: str) -> Iterator[str]:
    """The texts of a page as it was sent."""
    reader = _Reader()
    reader.feed(html)
    yield from (text for text in reader.texts if text.strip())


def in_template(source: str) -> Iterator[str]:
    """The texts of a Jinja template: its HTML without what is computed, and the strings in that."""
    source = re.sub(r"\{#.*?#\}", "", source, flags=re.DOTALL)
    for block in re.findall(r"\{\{.*?\}\}|\{%.*?%\}", source, flags=re.DOTALL):
        yield from (text for text in re.findall(r'"([^"]*)"', block) if _reads_like_words(text))
    # A computed value is no word; what stands left and right of a condition is a text of its own.
    source = re.sub(r"\{\{.*?\}\}", "…", source, flags=re.DOTALL)
    source = re.sub(r"\{%.*?%\}", " ", source, flags=re.DOTALL)
    yield from in_html(source)


def in_script(source: str) -> Iterator[str]:
    """The strings of a script that read like words; what it computes into a template string is “…”."""
    source = re.sub(r"(?m)^\s*//.*$|(?<=[;{},\s])//[^\n]*$", "", source)
    for double, single, template in re.findall(
        r'"((?:[^"\\\n]|\\.)*)"|\'((?:[^\'\\\n]|\\.)*)\'|`((?:[^`\\]|\\.)*)`', source
    ):
        text = double or single or re.sub(r"\$\{[^}]*\}", "…", template)
        if _reads_like_words(text):
            yield text


def in_module(source: str) -> Iterator[str]:
    """The strings of a Python module that read like words; of an f-string, what it computes is “…”."""
    tree = ast.parse(source)
    passed_over = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed_over.add(id(node.value))  # a docstring
        if isinstance(node, ast.JoinedStr):
            passed_over |= {id(part) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in passed_over:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        else:
            continue
        if _reads_like_words(text):
            yield text


def _reads_like_words(text: str) -> bool:
    return len(text) > 1 and (" " in text.strip() or text[:1].isupper())
