"""Merges the environments of the settings with those that ship in `environments.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any


def shipped_environments() -> list[dict[str, Any]]:
    tables: list[dict[str, Any]] = _shipped()["environments"]
    return tables


@cache
def shipped_env_vars() -> dict[str, str]:
    """The templates of the variables that every environment has, those of the settings too."""
    variables: dict[str, str] = _shipped()["every_environment"]["env_vars"]
    return variables


def _shipped() -> dict[str, Any]:
    return tomllib.loads(resources.files("launchpad").joinpath("environments.toml").read_text(encoding="utf-8"))


def with_shipped_environments(value: object) -> object:
    """The shipped entries, each changed by the given table of the same name, then the given tables with new names.

    A table inside an entry (`env_vars`, `request_headers`, `offer`) is merged key by key. Anything that is not a list
    of tables is handed on as it is, for the validation behind this to refuse.

    Raises:
        ValueError: two of the given tables have one name.
    """
    if not isinstance(value, list | tuple) or not all(isinstance(table, dict) for table in value):
        return value
    merged = {str(table["name"]): table for table in shipped_environments()}
    nameless: list[dict[str, Any]] = []
    seen: set[str] = set()
    for table in value:
        name = table.get("name")
        if not isinstance(name, str):
            nameless.append(table)
            continue
        if name in seen:
            raise ValueError(f"two environments are named “{name}”")
        seen.add(name)
        merged[name] = _merge(merged.get(name, {}), table)
    return [*merged.values(), *nameless]


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {**below, **above}
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            both[key] = {**below[key], **value}
    return both
