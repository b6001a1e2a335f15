"""Commands whose processes load no more than they need: those that stay, and the timer's sweep, every minute.

What is not quite plain (another option, no portal, a table to draw) is left to the whole program.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from ..control.client import ask, value_of
from ..errors import LaunchpadError
from ..settings_place import state_dir
from . import no_telemetry

NOTHING = "Nothing to do."
# What sqlalchemy.ext.asyncio takes of the two.
_OF_THE_MAPPER = (
    "async_scoped_session",
    "async_object_session",
    "async_session",
    "async_sessionmaker",
    "AsyncAttrs",
    "AsyncSession",
    "AsyncSessionTransaction",
    "close_all_sessions",
)


def run(arguments: Sequence[str]) -> int | None:
    """The exit code; None: the whole program has to do it, and nothing was done."""
    command = _COMMANDS.get(arguments[0]) if arguments else None
    if command is None:
        return None
    work, flag = command
    options = _options(arguments[1:], flag)
    if options is None:
        return None
    try:
        return work(*options)
    except LaunchpadError as error:
        _say(error)
        return 1


def _options(arguments: Sequence[str], flag: str | None) -> tuple[Path | None, bool] | None:
    """`--config`, and whether the flag is there."""
    config, has_flag = None, False
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        if option == flag:
            has_flag = True
        elif option == "--config" and rest:
            config = Path(rest.pop(0))
        elif option.startswith("--config="):
            config = Path(option.removeprefix("--config="))
        else:
            return None
    return config, has_flag


def leave_out_what_is_not_used() -> None:
    """Keeps 20 MB out of a process that stays: what libraries load for others at their own start.

    Rich, and with it Pygments, is structlog's for tracebacks in colour. SQLAlchemy's object-relational mapper comes
    with its asyncio package; our SQL is in its core language (docs/adr/0002), and nobody here asks for a name of the
    mapper. FastAPI asks whether a model is one of Pydantic's first version, which none is, and brings OpenTelemetry,
    which nobody has set up. uvicorn's own command and its supervisors are not ours. Pydantic looks for plugins in
    what every package says of itself.
    """
    for name in ("rich", "pydantic.v1"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    for name in ("scoping", "session"):
        _stand_in(f"sqlalchemy.ext.asyncio.{name}", _OF_THE_MAPPER)
    _stand_in("uvicorn.main", ("Server", "main", "run"))
    for name in ("", "._api", "._asgi", "._runtime"):
        sys.modules.setdefault(f"fastapi.telemetry{name}", no_telemetry)
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    _load_unbuilt("fastapi.openapi.models")


def _stand_in(module: str, names: Sequence[str]) -> None:
    empty = ModuleType(module)
    for name in names:
        setattr(empty, name, type(name, (), {}))
    sys.modules.setdefault(module, empty)


def _load_unbuilt(module: str) -> None:
    """Imports it while Pydantic leaves models to be built when one is first used, here with the API's description."""
    from pydantic import BaseModel

    rebuild = BaseModel.__dict__["model_rebuild"]

    def rebuild_if_used(cls: type[BaseModel], /, **how: Any) -> bool | None:
        """Without arguments it is the module that asks, before anybody has used the model."""
        return rebuild.__func__(cls, **how) if how else None

    BaseModel.model_config["defer_build"] = True
    BaseModel.model_rebuild = classmethod(rebuild_if_used)  # type: ignore[assignment]
    try:
        import_module(module)
    finally:
        BaseModel.model_rebuild = rebuild  # type: ignore[method-assign]
        del BaseModel.model_config["defer_build"]


def _serve(config: Path | None, quiet: bool) -> int:
    leave_out_what_is_not_used()
    from .portal import run as run_portal

    run_portal(config, quiet=quiet)
    return 0


def _quickstart(config: Path | None, _: bool) -> int:
    from .supervisor import run as run_supervisor

    return run_supervisor(config)


def _sweep(config: Path | None, as_json: bool) -> int | None:
    place = state_dir(config)
    answer = None if place is None else ask(place, "sweep")
    if answer is None:
        return None
    outcomes = value_of(answer)
    _show(
        [{"instance": one["instance_id"], "action": one["action"], "reason": one["reason"]} for one in outcomes],
        as_json,
    )
    return 0


_COMMANDS: dict[str, tuple[Callable[[Path | None, bool], int | None], str | None]] = {
    "serve": (_serve, "--quiet"),
    "sweep": (_sweep, "--json"),
    "quickstart": (_quickstart, None),
}


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print(NOTHING)
    else:
        from .output import show_table  # loads what draws tables, for a pass that did something

        show_table(rows, tuple(rows[0]), as_json=False, empty=NOTHING)


def _say(error: LaunchpadError) -> None:
    """As `output.fail` says it."""
    title = f"\033[1;31m{error.title}\033[0m" if sys.stderr.isatty() else error.title
    lines = [title, error.detail]
    lines += [f"  {field}: {message}" for field, message in error.fields.items() if message not in error.detail]
    print("\n".join(lines), file=sys.stderr)
