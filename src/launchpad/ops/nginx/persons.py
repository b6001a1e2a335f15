"""What nginx needs to know to ask the gate apart about what may be a person's act."""

from __future__ import annotations

from collections.abc import Sequence

from ...domain.naming import ID_PATTERN
from ...settings import Settings


def person_patterns(settings: Settings, *, is_wildcard: bool) -> list[str]:
    """Regular expressions of `METHOD /address` as nginx has them between double quotes, each once."""
    root = "" if is_wildcard else f"/i/{ID_PATTERN}"
    patterns = (
        f"^(?:{method}) {root}(?:{path})"
        for environment in settings.environments
        for method, _, path in (request.partition(" ") for request in environment.person.requests)
    )
    return list(dict.fromkeys(pattern.replace("\\", "\\\\") for pattern in patterns))


def quiet_variables(settings: Settings) -> Sequence[str]:
    """nginx's variables of the headers by which pages say that no person asks."""
    names = dict.fromkeys(
        one.person.quiet_header.lower().replace("-", "_") for one in settings.environments if one.person.quiet_header
    )
    return [f"$http_{name}" for name in names]
