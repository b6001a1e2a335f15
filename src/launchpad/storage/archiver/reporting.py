"""What a process says of itself on its standard output, and how it notices that nobody waits for it any more."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from ..porter.counter import is_closed

STANDARD_INPUT = 0  # a pipe whose other end has who started us; who ends us closes it
EVERY_SECONDS = 0.3
LOOK_EVERY = 64  # entries or pieces of content between two looks at the clock


class Reporter:
    """Counts, and tells of it now and then."""

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0
        self._ticks = 0
        self._told_at = time.monotonic()

    def tick(self, *, files: int = 0, length: int = 0) -> None:
        """So much more is done. Ends the process where nobody waits for it."""
        self.files += files
        self.bytes += length
        self._ticks += 1
        if self._ticks % LOOK_EVERY and length < 2**20:
            return
        if is_closed(STANDARD_INPUT):
            raise SystemExit("nobody waits for this any more")
        now = time.monotonic()
        if now - self._told_at >= EVERY_SECONDS:
            self._told_at = now
            say(files=self.files, bytes=self.bytes)


def say(**what: Any) -> None:
    """One line of JSON; the last one has `done` or `error`."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
