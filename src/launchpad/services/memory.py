"""Looks after the memory of running instances."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from .background import Loop, periodic
from .out_of_memory import OutOfMemory

LOOK_SECONDS = 3.0
LATE_AFTER_SECONDS = 60.0


class MemoryService:
    """One pass every few seconds, in the process that owns the work."""

    def __init__(self, deaths: OutOfMemory) -> None:
        self._deaths = deaths

    def loop(self, now: Callable[[], datetime]) -> Loop:
        return periodic(
            "memory",
            lambda: self.tend(now()),
            every_seconds=LOOK_SECONDS,
            late_after_seconds=LATE_AFTER_SECONDS,
            longest_retry_seconds=LOOK_SECONDS,
        )

    async def tend(self, now: datetime) -> None:
        """Raises EngineUnavailable: nothing can be said."""
        await self._deaths.look()
