"""The two processes' beginning."""

from __future__ import annotations

import json
import socket
import sys
from contextlib import suppress
from typing import Any

from .giver import Giver
from .jail import NOBODY, become, shut_in
from .line import Line
from .taker import Taker


def main(role: str, folder: int, connection: int, uid: int, how: str) -> None:
    """Args: descriptors of the directory (-1: there is none) and of the socket; the taker's user; "count" or "copy"."""
    line = Line(socket.socket(fileno=connection))
    if role == "give":
        shut_in(folder)
        become(NOBODY, reading_everything=True)
        with suppress(EOFError):
            Giver(line, folder).give()
        return
    if folder >= 0:
        shut_in(folder)
    become(uid)
    Taker(line, folder if folder >= 0 else None, only_count=how == "count", report=_report).take()


def _report(counts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(counts) + "\n")
    sys.stdout.flush()
