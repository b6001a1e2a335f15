"""Merges the settings file and the variables, and turns every mistake into one clear text: where, which key, what."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ..errors import SettingsError
from ..settings_place import DEFAULT_CONFIG
from .catalogue import with_shipped_environments
from .model import VARIABLE_PREFIX, Settings

_NOT_SETTINGS = {"LAUNCHPAD_CONFIG"}
_LIST_OR_WORD = "list or word"  # such as "auto"
_HEADER = re.compile(r"^\s*(\[\[?)\s*([A-Za-z0-9_.\-]+)\s*\]\]?")
_KEY = re.compile(r"^\s*[\"']?([A-Za-z0-9_\-]+)[\"']?\s*[.=]")
_PLAINER = {
    "extra_forbidden": "there is no such setting",
    "missing": "this setting is required",
    "tuple_type": "write a list, in [ ]",
    "dict_type": "write a table",
    "path_type": "write a path",
    "model_type": "this is a table; write its keys below a header in [ ]",
}

_RENAMED = {
    "sign_in.verifications_per_hour_per_client": "it is failures_per_hour_per_client now and counts "
    "failed tries only (120 where it is not set)",
}


def load_settings(config: Path | None = None, *, variables: Mapping[str, str] = os.environ) -> Settings:
    """The settings from `config`, else `LAUNCHPAD_CONFIG`, else `/etc/launchpad/launchpad.toml` where it exists.

    Raises:
        SettingsError: a file that is named but missing, a syntax error, an unknown key, a value that does not fit;
            the text names the file, the line and the key, or the variable.
    """
    path = config_path(config, variables)
    text = _read(path) if path else ""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: this is not valid TOML: {error}") from None
    return _settings(data, _read_variables(variables), _Places(path, text, variables))


def tables(data: Mapping[str, Any]) -> Settings:
    """Settings from tables as a TOML file would give them, without a file and without variables.

    Raises:
        SettingsError: as above; the text names the key.
    """
    return _settings(dict(data), {}, _Places(None, "", {}))


def _settings(data: dict[str, Any], overlay: dict[str, Any], places: _Places) -> Settings:
    merged = _over(data, overlay)
    try:
        return Settings(**merged)
    except ValidationError as error:
        problems = _problems(error, merged)
        texts = [places.text(location, message, data, overlay) for location, message in problems]
        raise SettingsError("\n".join(dict.fromkeys(texts))) from None


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`below` with `above` put over it, table by table; lists are replaced whole."""
    merged = {**below, **above}
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            merged[key] = _over(below[key], value)
    return merged


def config_path(config: Path | None, variables: Mapping[str, str]) -> Path | None:
    """The settings file that is read; None: there is none, and defaults and variables are all."""
    named = config or (Path(variables["LAUNCHPAD_CONFIG"]) if variables.get("LAUNCHPAD_CONFIG") else None)
    if named is None:
        return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None
    return named


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no such settings file") from None
    except OSError as error:
        raise SettingsError(f"{path}: the settings file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: the settings file is not UTF-8: {error}") from None


def _read_variables(variables: Mapping[str, str]) -> dict[str, Any]:
    """The tables that `LAUNCHPAD_…` variables stand for; what names a key goes over what names its whole table."""
    known = dict(_known_variables(Settings, VARIABLE_PREFIX))
    read: dict[str, Any] = {}
    for name, text in sorted(variables.items(), key=lambda variable: variable[0].count("__")):
        if not name.upper().startswith(VARIABLE_PREFIX) or name.upper() in _NOT_SETTINGS:
            continue
        end = name.upper().removeprefix(VARIABLE_PREFIX)
        if name.upper() not in known:
            if not name.startswith(VARIABLE_PREFIX):  # somebody else's
                continue
            close = difflib.get_close_matches(end, [one.removeprefix(VARIABLE_PREFIX) for one in known], n=1)
            hint = f"; did you mean {VARIABLE_PREFIX}{close[0]}?" if close else ""
            key = end.lower().replace("__", ".")
            hint = f"; {_RENAMED[key]}" if key in _RENAMED else hint
            raise SettingsError(f"The variable {name} is not a setting{hint}")
        value = _value(name, text, known[name.upper()])
        *tables, key = end.lower().split("__")
        here: Any = read
        for table in tables:
            here = here.setdefault(table, {}) if isinstance(here, dict) else None
        if value is not None and isinstance(here, dict):  # else the whole table was given as something else
            here[key] = value
    return read


def _value(name: str, text: str, kind: str) -> Any:
    """What a variable's text stands for; what is neither list nor table, Pydantic reads from the text itself.

    Raises:
        SettingsError: it must be JSON, and is not.
    """
    if not kind:
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        if kind == _LIST_OR_WORD:
            return text
        raise SettingsError(f"{name}: write this {kind} as JSON: {error}") from None


def _known_variables(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    """Every variable, with "list" or "table" where its text must be JSON."""
    for name, field in model.model_fields.items():
        variable = prefix + name.upper()
        kind: Any = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield variable, "table"
            yield from _known_variables(kind, variable + "__")
        elif get_origin(kind) is tuple:
            yield variable, "list"
        else:
            yield variable, _LIST_OR_WORD if any(_is_list(choice) for choice in get_args(kind)) else ""


def _is_list(kind: Any) -> bool:
    """Also where the type is annotated with what checks it."""
    return tuple in (get_origin(kind), get_origin(getattr(kind, "__origin__", None)))


def _problems(error: ValidationError, merged: dict[str, Any]) -> list[tuple[list[str | int], str]]:
    """Where and what, one entry a mistake: Pydantic reports a choice such as "auto" or a size once for each."""
    environments = merged.get("environments", [])
    try:
        whole = {**merged, "environments": with_shipped_environments(environments)}
    except ValueError:
        whole = merged
    found: dict[tuple[str | int, ...], list[Any]] = {}
    for problem in error.errors():
        location = tuple(_location(problem["loc"], problem["type"], whole))
        found.setdefault(location, []).append(problem)
    for location, problems in list(found.items()):  # "or auto" beside a list of which one entry is wrong
        deeper = any(other != location and other[: len(location)] == location for other in found)
        if deeper and all(problem["type"] == "literal_error" for problem in problems):
            del found[location]
    return [(list(location), _message(location, problems)) for location, problems in found.items()]


def _location(loc: Sequence[str | int], kind: str, data: Any) -> list[str | int]:
    """`loc` without the names of union members that Pydantic puts in ("function-before[…]", "int").

    An entry of the catalogue goes by its name, since an index would count the entries that ship.
    """
    location: list[str | int] = []
    here = data
    for depth, part in enumerate(loc):
        if isinstance(here, dict) and part in here:
            location.append(part)
            here = here[part]
        elif isinstance(here, list | tuple) and isinstance(part, int) and part < len(here):
            here = here[part]
            named = location == ["environments"] and isinstance(here, dict) and isinstance(here.get("name"), str)
            location.append(here["name"] if named else part)
        elif kind == "missing" and depth == len(loc) - 1:
            location.append(part)
    return location


def _message(location: Sequence[str | int], problems: list[Any]) -> str:
    """One text for the mistakes found at one place."""
    literal = next((problem for problem in problems if problem["type"] == "literal_error"), None)
    others = [problem for problem in problems if problem is not literal]
    texts = [_PLAINER.get(problem["type"], problem["msg"]).removeprefix("Value error, ") for problem in others]
    if literal is not None:
        expected = literal["ctx"]["expected"].replace("'", '"')
        texts.append(f"or {expected}" if texts else f"choose {expected}")
    if any(problem["type"] == "extra_forbidden" for problem in problems):
        texts[-1] += _did_you_mean(location)
    return ", ".join(dict.fromkeys(texts))


def _did_you_mean(location: Sequence[str | int]) -> str:
    if renamed := _RENAMED.get(".".join(map(str, location))):
        return f"; {renamed}"
    model: type[BaseModel] = Settings
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is not None:
            inner: Any = field.annotation
            kinds = (inner, *get_args(inner))
            model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    close = difflib.get_close_matches(str(location[-1]).replace("-", "_"), model.model_fields, n=1)
    return f"; did you mean {close[0]}?" if close else ""


class _Places:
    """Says where a key comes from: a variable, or a line of the file."""

    def __init__(self, path: Path | None, text: str, variables: Mapping[str, str]) -> None:
        self._path = path
        self._text = text
        self._variables = {name.upper(): name for name in variables}

    def text(
        self, location: Sequence[str | int], message: str, data: Mapping[str, Any], overlay: Mapping[str, Any]
    ) -> str:
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
        told = f"{key}: {message}" if key else message
        if variable := self._variable(location, overlay):
            return f"{variable}: {told}"
        if self._path is None:
            return told
        line = line_of(self._text, location, data)
        return f"{self._path}, line {line}: {told}" if line else f"{self._path}: {told}"

    def _variable(self, location: Sequence[str | int], overlay: Any) -> str | None:
        here = overlay
        for part in location:
            if isinstance(here, list):
                break  # a list of a variable replaces the file's whole
            if not isinstance(here, dict) or part not in here:
                return None
            here = here[part]
        for depth in range(len(location), 0, -1):
            name = VARIABLE_PREFIX + "__".join(str(part).upper() for part in location[:depth])
            if name in self._variables:
                return self._variables[name]
        return None


def line_of(text: str, location: Sequence[str | int], data: Mapping[str, Any]) -> int | None:
    """The line, from 1, of a key in a TOML text; where the key does not stand there, that of the nearest table above.

    Args:
        location: keys and list indices from the top; an entry of `environments` goes by its name.
    """
    index = _array_index(location, data)
    wanted = [part for part in location if isinstance(part, str)]
    if index is not None and isinstance(location[1], str):
        del wanted[1]
    best: int | None = None
    depth = 0
    table: list[str] = []
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
        if index is not None and here[0] == wanted[0] and seen_arrays.get(wanted[0], index) != index:
            continue
        if wanted[: len(here)] == here and len(here) > depth:
            best, depth = number, len(here)
    return best


def _array_index(location: Sequence[str | int], data: Mapping[str, Any]) -> int | None:
    """Which `[[table]]` of the file a location lies in."""
    if len(location) < 2:
        return None
    if location[0] == "environments":
        given = data.get("environments", [])
        names = [table.get("name") if isinstance(table, dict) else None for table in given]
        name = location[1] if isinstance(location[1], str) else None
        return names.index(name) if name in names else None
    return location[1] if isinstance(location[1], int) else None
