"""Reads the settings file and turns every mistake in it into one clear text: file, line, key, what is wrong."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError as VariableError

from .errors import SettingsError
from .settings import DEFAULT_CONFIG, VARIABLE_PREFIX, Settings

_NOT_SETTINGS = {"LAUNCHPAD_CONFIG"}
_HEADER = re.compile(r"^\s*(\[\[?)\s*([A-Za-z0-9_.\-]+)\s*\]\]?")
_KEY = re.compile(r"^\s*\"?([A-Za-z0-9_\-]+)\"?\s*[.=]")


def load(config: Path | None, variables: Mapping[str, str]) -> Settings:
    path = _config_path(config, variables)
    text = _read(path) if path else ""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: this is not TOML: {error}") from None
    _refuse_unknown_variables(variables)
    try:
        return Settings(**data)
    except ValidationError as error:
        problems = [_describe(path, text, problem, data, variables) for problem in error.errors()]
        raise SettingsError("\n".join(dict.fromkeys(problems))) from None
    except VariableError as error:
        raise SettingsError(f"A variable cannot be read: {error}. Lists and tables are written as JSON.") from None


def _config_path(config: Path | None, variables: Mapping[str, str]) -> Path | None:
    named = config or (Path(variables["LAUNCHPAD_CONFIG"]) if variables.get("LAUNCHPAD_CONFIG") else None)
    if named is None:
        return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None
    return named


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no such settings file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: the settings file cannot be read: {error}") from None


def _refuse_unknown_variables(variables: Mapping[str, str]) -> None:
    known = set(_variable_names(Settings, VARIABLE_PREFIX)) | _NOT_SETTINGS
    for name in variables:
        if name.startswith(VARIABLE_PREFIX) and name.upper() not in known:
            close = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise SettingsError(f"The variable {name} is not a setting{hint}")


def _variable_names(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        variable = prefix + name.upper()
        yield variable
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _variable_names(field.annotation, variable + "__")


def _describe(path: Path | None, text: str, problem: Any, data: dict[str, Any], variables: Mapping[str, str]) -> str:
    location = [part for part in problem["loc"] if not _is_union_member(part)]
    message = "there is no such setting" if problem["type"] == "extra_forbidden" else problem["msg"]
    message = message.removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message += _did_you_mean(location)
    key = _key_text(location)
    for depth in range(len(location), 0, -1):
        variable = VARIABLE_PREFIX + "__".join(str(part).upper() for part in location[:depth])
        if variable in variables:
            return f"{variable}: {key}: {message}"
    if path is None:
        return f"{key}: {message}" if key else message
    line = line_of(text, location, data)
    where = f"{path}, line {line}" if line else f"{path}"
    return f"{where}: {key}: {message}" if key else f"{where}: {message}"


def _is_union_member(part: object) -> bool:
    """Pydantic names the member of a union it tried ("constrained-int", "tuple[…]"); that is no key of the file."""
    return isinstance(part, str) and (
        part in {"int", "float", "str", "literal['auto']"} or bool(re.search(r"[\[(\-]", part))
    )


def _key_text(location: Sequence[object]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _did_you_mean(location: Sequence[object]) -> str:
    model: type[BaseModel] = Settings
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is None:
            continue
        inner = field.annotation
        arguments = getattr(inner, "__args__", (inner,))
        model = next((a for a in arguments if isinstance(a, type) and issubclass(a, BaseModel)), model)
    close = difflib.get_close_matches(str(location[-1]), model.model_fields, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def line_of(text: str, location: Sequence[object], data: dict[str, Any]) -> int | None:
    """The line, from 1, of a key in a TOML text; where the key does not stand there, that of the nearest table above.

    Args:
        location: keys and list indices from the top, as Pydantic reports them. An index into `environments` counts
            the merged catalogue, so the entry is found by its name.
    """
    wanted = [part for part in location if isinstance(part, str)]
    best: int | None = None
    depth = 0
    table: list[str] = []
    array_index = _array_index(location, data)
    seen_arrays: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = header[2].split(".")
            if header[1] == "[[":
                seen_arrays[header[2]] = seen_arrays.get(header[2], -1) + 1
            here = table
        elif key := _KEY.match(line):
            here = [*table, key[1]]
        else:
            continue
        if array_index is not None and here[0] == wanted[0] and seen_arrays.get(wanted[0]) != array_index:
            continue
        if wanted[: len(here)] == here and len(here) > depth:
            best, depth = number, len(here)
    return best


def _array_index(location: Sequence[object], data: dict[str, Any]) -> int | None:
    if len(location) < 2 or not isinstance(location[1], int):
        return None
    if location[0] != "environments":
        return location[1]
    from .settings_catalogue import with_shipped_environments

    given = data.get("environments", [])
    merged = with_shipped_environments(given)
    name = merged[location[1]].get("name") if isinstance(merged, list) else None
    return next((index for index, table in enumerate(given) if table.get("name") == name), None)
