"""Which libraries of packages lie in the home, by their folders' names; nothing in them is read."""

from __future__ import annotations

import os
import re
from typing import Any

from ...domain.libraries import PYTHON, R
from ...errors import LaunchpadError
from .home import Home

MOST_ENTRIES = 20_000  # of a folder that is looked through
# R's own name for it, and that of earlier images of ours.
_R = re.compile(r"(?:[A-Za-z0-9_.-]+-library|library)[/-](\d{1,3}\.\d{1,3})")
_PYTHON = re.compile(r"python(\d\.\d{1,3})")


def tell(home: Home, _: dict[str, Any]) -> None:
    """By language and version: how many packages there are."""
    found: dict[str, dict[str, int]] = {R: {}, PYTHON: {}}
    for above in _names(home, "R"):
        inner = [f"{above}/{name}" for name in _names(home, f"R/{above}")] if above.endswith("-library") else [above]
        for path in inner:
            if (told := _R.fullmatch(path)) is not None:
                _add(found[R], told[1], len(_names(home, f"R/{path}")))
    for name in _names(home, ".local/lib"):
        if (told := _PYTHON.fullmatch(name)) is not None:
            packages = _names(home, f".local/lib/{name}/site-packages", (".dist-info", ".egg-info"))
            _add(found[PYTHON], told[1], len(packages))
    home.line.say(libraries=found)


def _add(versions: dict[str, int], version: str, number: int) -> None:
    if number:
        versions[version] = versions.get(version, 0) + number


def _names(home: Home, path: str, endings: tuple[str, ...] = ("",)) -> list[str]:
    """Folders in a folder that are none that R is still writing; none where it is not there or cannot be read."""
    found: list[str] = []
    try:
        with home.folder(path) as folder, os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number >= MOST_ENTRIES:
                    break
                if entry.name.endswith(endings) and not entry.name.startswith("00LOCK") and entry.is_dir():
                    found.append(entry.name)
            home.line.look()
    except (OSError, LaunchpadError):
        return found
    return found
