"""Where the state directory is, read without the settings: a command that asks the portal needs to know no more.

Nothing but the standard library is loaded here. `settings/file.py` reads the settings; a test compares the two.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

DEFAULT_CONFIG = Path("/etc/launchpad/launchpad.toml")
DEFAULT_STATE_DIR = Path("/var/lib/launchpad")


def state_dir(
    config: Path | None = None, variables: Mapping[str, str] = os.environ, *, default: Path = DEFAULT_STATE_DIR
) -> Path | None:
    """As the settings say it; None: it takes all of the settings to say what is wrong with them.

    Args:
        default: where it is when they do not say it.
    """
    named = {name.upper(): value for name, value in variables.items() if name.upper().startswith("LAUNCHPAD_")}
    if "LAUNCHPAD_STATE_DIR" in named:
        return _whole(named["LAUNCHPAD_STATE_DIR"])
    path = config or (Path(variables["LAUNCHPAD_CONFIG"]) if variables.get("LAUNCHPAD_CONFIG") else None)
    if path is None:
        if not DEFAULT_CONFIG.exists():
            return default.absolute()
        path = DEFAULT_CONFIG
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8")).get("state_dir", str(default))
    except (OSError, ValueError):
        return None
    return _whole(found) if isinstance(found, str) else None


def _whole(path: str) -> Path:
    return Path(path).expanduser().absolute()
