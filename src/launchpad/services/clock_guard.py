"""Whether the server's clock may be believed when it says that somebody's time is up.

A clock that is set forward by mistake (a wrong time server, a paused virtual machine) would end everybody's work in one
pass, and nobody gets it back. The kernel also counts the seconds since it started, which nobody can set. Where the
clock has gone much further than that count, nothing ends by time for a while: either somebody sets it right, or the
clock was wrong before, and is believed from then on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from ..store import kv

log = structlog.get_logger(__name__)

JUMP = timedelta(minutes=10)  # more than a time server corrects in a running system, less than anybody's last hour
HOLD_SECONDS = 3600.0
KEY = "clock"  # of the record, so that a portal that restarts meanwhile knows of it too
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def seconds_since_boot() -> float:
    """Counts while the machine is suspended, too (clock_gettime(2), CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Another one at each start of the kernel; empty where it does not tell."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class Seen:
    """The clock, the kernel's count at the same moment, and until which count nothing ends by time."""

    boot: str
    elapsed: float
    at: datetime
    held_until: float = 0.0
    jumped: timedelta = timedelta()


class ClockGuard:
    """
    Args:
        elapsed: seconds since the kernel started.
        boot: its boot's id; counts of different boots cannot be compared.
    """

    def __init__(self, elapsed: Callable[[], float] = seconds_since_boot, boot: str | None = None) -> None:
        self._elapsed = elapsed
        self._boot = boot_id() if boot is None else boot

    async def look(self, db: AsyncConnection, now: datetime) -> Seen:
        """What is to be recorded as seen: compares the clock with the kernel's count since the last look."""
        elapsed = self._elapsed()
        before = _read(await kv.get(db, KEY))
        if before is None or before.boot != self._boot or before.elapsed > elapsed:
            return Seen(self._boot, elapsed, now)
        jumped = (now - before.at) - timedelta(seconds=elapsed - before.elapsed)
        seen = replace(before, elapsed=elapsed, at=now)
        if jumped > JUMP:
            log.error("clock.jumped", seconds=round(jumped.total_seconds()), held_seconds=HOLD_SECONDS)
            return replace(seen, held_until=elapsed + HOLD_SECONDS, jumped=jumped)
        if -jumped > JUMP and before.held_until > elapsed:  # it was set right again
            return replace(seen, held_until=0.0, jumped=timedelta())
        return seen

    def believes(self, seen: Seen) -> bool:
        return seen.held_until <= seen.elapsed

    async def record(self, db: AsyncConnection, seen: Seen, now: datetime) -> None:
        await kv.put(db, KEY, _written(seen), now)

    async def held(self, db: AsyncConnection) -> tuple[timedelta, float] | None:
        """How far the clock jumped, and for how many seconds nothing ends by time yet; None: it is believed."""
        seen = _read(await kv.get(db, KEY))
        if seen is None or seen.boot != self._boot:
            return None
        left = seen.held_until - self._elapsed()
        return (seen.jumped, left) if left > 0 else None


def _written(seen: Seen) -> dict[str, object]:
    return {
        "boot": seen.boot,
        "elapsed": seen.elapsed,
        "at": seen.at.isoformat(),
        "held_until": seen.held_until,
        "jumped_seconds": seen.jumped.total_seconds(),
    }


def _read(value: dict[str, object] | None) -> Seen | None:
    if value is None:
        return None
    return Seen(
        str(value["boot"]),
        float(str(value["elapsed"])),
        datetime.fromisoformat(str(value["at"])),
        float(str(value["held_until"])),
        timedelta(seconds=float(str(value["jumped_seconds"]))),
    )
