"""Reads what people type into forms, and collects what is wrong with each field."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from ...domain.sizes import parse_bytes
from ...errors import InvalidInput
from ..views.values import Problems

T = TypeVar("T")


def number(text: str) -> float:
    """Raises ValueError unless it is a plain number from 0 on."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"“{text[:30]}” is not a number; write it like 2 or 0.5")
    return value


def count(text: str) -> int:
    """Raises ValueError unless it is a whole number from 0 on."""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"“{text[:30]}” is not a whole number")
    return int(text)


def size(text: str) -> int:
    return parse_bytes(text[:30])


class FormReader:
    """Fields of a form by name; a missing one is as good as an empty one."""

    def __init__(self, form: Mapping[str, str]) -> None:
        self._form = form
        self.problems = Problems()

    def text(self, field: str) -> str:
        return self._form.get(field, "").strip()

    def maybe(self, field: str, parse: Callable[[str], T]) -> T | None:
        """The field's value; None when it is empty, or wrong and noted."""
        text = self.text(field)
        if not text:
            return None
        try:
            return parse(text)
        except ValueError as error:
            self.problems[field] = str(error)
            return None

    def required(self, field: str, parse: Callable[[str], T], instead: T) -> T:
        """As `maybe`, but an empty field is wrong too; `instead` stands for a wrong one."""
        if not self.text(field):
            self.problems[field] = "fill this in"
        value = self.maybe(field, parse)
        return instead if value is None else value

    def several(self, field: str, parse: Callable[[str], T]) -> tuple[T, ...]:
        """Values with commas, semicolons or blanks between them; at least one."""
        found: list[T] = []
        for part in re.split(r"[,;\s]+", self.text(field)):
            if not part:
                continue
            try:
                found.append(parse(part))
            except ValueError as error:
                self.problems[field] = str(error)
        if not found:
            self.problems.setdefault(field, "offer at least one choice")
        return tuple(found)

    def check(self) -> None:
        """Raises InvalidInput when a field was wrong."""
        if self.problems:
            raise InvalidInput("Some of this cannot be used as it is.", fields=dict(self.problems))
