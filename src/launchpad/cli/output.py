"""How commands speak: tables for people, JSON for programs, one line for an error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from ..errors import LaunchpadError

PIPED_WIDTH = 400  # nobody wants a table folded that goes into a file or a pipe
NEVER_FOLDED = frozenset({"id", "instance", "email", "owner", "address"})  # what people copy

out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else PIPED_WIDTH)


def show_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """Prints rows as a table with these columns, or all of their fields as JSON."""
    if as_json:
        print(json.dumps([dict(row) for row in rows], indent=2, default=_plain))
        return
    if not rows:
        out.print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold", no_wrap=column in NEVER_FOLDED)
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    out.print(table)


def show_json(value: object) -> None:
    print(json.dumps(value, indent=2, default=_plain))


def fail(error: LaunchpadError) -> NoReturn:
    """Ends the command with an error's text, one line for each field."""
    err.print(f"[bold red]{error.title}[/]", markup=True)
    err.print(error.detail, markup=False)
    for field, message in error.fields.items():
        if message not in error.detail:
            err.print(f"  {field}: {message}", markup=False)
    sys.exit(1)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M} UTC"
    return str(value)
