"""Commands that a portal is asked for by a process that loads next to nothing: `launchpad sweep`, every minute.

What is not quite plain (another option, no portal, a table to draw) is left to the whole program.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..control.client import ask, value_of
from ..errors import LaunchpadError
from ..settings_place import state_dir

NOTHING = "Nothing to do."


def run(arguments: Sequence[str]) -> int | None:
    """The exit code; None: the whole program has to do it, and nothing was done."""
    if not arguments or arguments[0] != "sweep":
        return None
    options = _options(arguments[1:])
    if options is None:
        return None
    config, as_json = options
    place = state_dir(config)
    if place is None:
        return None
    try:
        answer = ask(place, "sweep")
        if answer is None:
            return None
        outcomes = value_of(answer)
    except LaunchpadError as error:
        _say(error)
        return 1
    _show(
        [{"instance": one["instance_id"], "action": one["action"], "reason": one["reason"]} for one in outcomes],
        as_json,
    )
    return 0


def _options(arguments: Sequence[str]) -> tuple[Path | None, bool] | None:
    config, as_json = None, False
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        if option == "--json":
            as_json = True
        elif option == "--config" and rest:
            config = Path(rest.pop(0))
        elif option.startswith("--config="):
            config = Path(option.removeprefix("--config="))
        else:
            return None
    return config, as_json


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print(NOTHING)
    else:
        from .output import show_table  # loads what draws tables, for a pass that did something

        show_table(rows, tuple(rows[0]), as_json=False, empty=NOTHING)


def _say(error: LaunchpadError) -> None:
    """As `cli.output.fail` says it."""
    title = f"\033[1;31m{error.title}\033[0m" if sys.stderr.isatty() else error.title
    lines = [title, error.detail]
    lines += [f"  {field}: {message}" for field, message in error.fields.items() if message not in error.detail]
    print("\n".join(lines), file=sys.stderr)
