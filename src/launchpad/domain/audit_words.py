"""The details of audit records in words, and what they say of changes. Pure."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from .limits import Quota
from .sizes import describe_bytes, describe_cpus

NAMES = ("environment", "owner")  # what an instance is called; said of the subject, not among the details
_LABELS = {"uid": "user number", "cpus": "cores", "safe_mode": "safe mode", "from": "from files"}
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(\+00:00|Z)")

# As records said it before they were written in words.
_OLD_QUOTA = re.compile(r"Quota\(memory_bytes=(\w+), cpus=([\w.]+), storage_bytes=(\w+), instances=(\w+)\)")


def quota_in_words(quota: Quota) -> str:
    """ "8 GB of memory, 2 instances"; "no limits of its own" where nothing is capped."""
    said = []
    if quota.memory_bytes is not None:
        said.append(f"{describe_bytes(quota.memory_bytes)} of memory")
    if quota.cpus is not None:
        said.append(describe_cpus(quota.cpus))
    if quota.storage_bytes is not None:
        said.append(f"{describe_bytes(quota.storage_bytes)} home folder")
    if quota.instances is not None:
        said.append(f"{quota.instances} instance{'' if quota.instances == 1 else 's'}")
    return ", ".join(said) or "no limits of its own"


def changes_in_words(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """What differs, by its name: "1g, 2g → 1g, 2g, 4g"; inner tables by both names."""
    old, new = dict(_flat(before)), dict(_flat(after))
    return {
        name: f"{_value(old.get(name))} → {_value(new.get(name))}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    }


def details_in_words(details: Mapping[str, Any]) -> str:
    """ "memory: 8 GB, until: 28 November 2026 at 15:07 UTC"; what is None or names the subject is left out."""
    plain = _of_before(details)
    return ", ".join(
        f"{_LABELS.get(name, name.replace('_', ' '))}: {_value(value)}"
        for name, value in _flat(plain)
        if value is not None and name not in NAMES
    )


def instance_in_words(details: Mapping[str, Any]) -> str:
    """ "jupyterlab of alice@example.org" of a record that is about an instance; empty for others."""
    environment, owner = (details.get(name) for name in NAMES)
    return f"{environment} of {owner}" if environment and owner else ""


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield prefix + str(name), value


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value)) or "none"
    text = str(value)
    if _INSTANT.fullmatch(text):
        return f"{datetime.fromisoformat(text.replace('Z', '+00:00')):%-d %B %Y at %H:%M} UTC"
    return _OLD_QUOTA.sub(_old_quota, text)


def _old_quota(found: re.Match[str]) -> str:
    memory, cpus, storage, number = (None if part == "None" else part for part in found.groups())
    return quota_in_words(
        Quota(
            memory_bytes=int(memory) if memory else None,
            cpus=float(cpus) if cpus else None,
            storage_bytes=int(storage) if storage else None,
            instances=int(number) if number else None,
        )
    )


def _of_before(details: Mapping[str, Any]) -> Mapping[str, Any]:
    """Two tables that were recorded as Python wrote them, as what differs."""
    before, after = details.get("before"), details.get("after")
    if not (isinstance(before, str) and isinstance(after, str) and before.startswith("{") and after.startswith("{")):
        return details
    try:
        return changes_in_words(ast.literal_eval(before), ast.literal_eval(after))
    except (ValueError, SyntaxError):
        return details
