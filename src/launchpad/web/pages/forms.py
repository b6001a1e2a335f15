"""What people type into the forms of pages, as FastAPI's form models read it: fields that say what is wrong with them.

An empty field is one that was left out. What cannot be read comes back at its field, all fields at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

from ...domain.sizes import parse_bytes

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
    """A size in bytes. Raises ValueError unless it is one."""
    return parse_bytes(text[:30])


def may_be(parse: Callable[[str], T]) -> BeforeValidator:
    def read(text: str | None) -> T | None:
        text = (text or "").strip()
        return parse(text) if text else None

    return BeforeValidator(read)


def needs(parse: Callable[[str], T]) -> BeforeValidator:
    def read(text: str | None) -> T:
        text = (text or "").strip()
        if not text:
            raise ValueError("fill this in")
        return parse(text)

    return BeforeValidator(read)


def some_of(parse: Callable[[str], T]) -> BeforeValidator:
    """Values with commas, semicolons or blanks between them; at least one."""

    def read(given: str | Sequence[str]) -> tuple[T, ...]:
        text = given if isinstance(given, str) else " ".join(given)  # FastAPI collects fields of the same name
        parts = [part for part in re.split(r"[,;\s]+", text) if part]
        if not parts:
            raise ValueError("offer at least one choice")
        return tuple(parse(part) for part in parts)

    return BeforeValidator(read)


MaybeSize = Annotated[int | None, may_be(size)]
MaybeNumber = Annotated[float | None, may_be(number)]
MaybeCount = Annotated[int | None, may_be(count)]
Size = Annotated[int, needs(size)]
Number = Annotated[float, needs(number)]
Count = Annotated[int, needs(count)]
Sizes = Annotated[tuple[int, ...], some_of(size)]
Numbers = Annotated[tuple[float, ...], some_of(number)]
Counts = Annotated[tuple[int, ...], some_of(count)]


class PageForm(BaseModel):
    """A needed field that was not sent is validated as an empty one, and so says what is wrong in the same words."""

    model_config = ConfigDict(validate_default=True)


def needed() -> Any:
    """The default of a field that has to be filled in."""
    return ""


class ExtendForm(PageForm):
    days: Count = needed()


class KeepForm(PageForm):
    hours: Number = needed()


class MemoryForm(PageForm):
    memory: Size = needed()
