"""The portal's background work, as the portal's own processes have written down how it fares."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

from ...domain.background import LoopHealth, LoopRecord, LoopState
from ...services.background_records import read_records
from .findings import Finding, Level, unseen

SILENT_AFTER = timedelta(minutes=1)  # a portal writes every few seconds
_LOG = "The portal's log says why: journalctl -u launchpad -n 100"


def records_in(state_dir: Path) -> Path:
    return state_dir / "run" / "background"


async def background(subject: str, state_dir: Path, now: datetime) -> list[Finding]:
    """Loops that are late or fail, and processes that no longer tell.

    Raises:
        OSError: the folder cannot be read.
    """
    records = await asyncio.to_thread(read_records, records_in(state_dir))
    if not records:
        return [unseen(subject, "no portal is running with this state directory")]
    found = [_silent(subject, record) for record in records if now - record.at > SILENT_AFTER]
    heard = [loop for record in records if now - record.at <= SILENT_AFTER for loop in record.loops]
    for name in dict.fromkeys(loop.name for loop in heard):
        found += _judged(subject, [loop for loop in heard if loop.name == name])
    return found or [Finding(Level.OK, subject, f"All background loops of the portal run: {_names(heard)}.")]


def _judged(subject: str, loops: list[LoopHealth]) -> list[Finding]:
    """One loop of several processes: it is enough that it runs in one of them."""
    states = {loop.state for loop in loops}
    if states & {LoopState.OK, LoopState.STARTING}:
        return []
    worst = next((loop for loop in loops if loop.state is LoopState.LATE), None)
    if worst is not None:
        since = f"has not succeeded since {_instant(worst.last_success_at)}" if worst.last_success_at else "never did"
        text = f"{worst.name} is late: it {since}{_error(worst)}."
        return [Finding(Level.BAD, subject, text, _LOG)]
    failing = next((loop for loop in loops if loop.state is LoopState.FAILING), None)
    if failing is not None:
        text = f"{failing.name} has failed {failing.failures_in_a_row} times in a row{_error(failing)}."
        return [Finding(Level.WARN, subject, text, f"It is tried again by itself. {_LOG}")]
    return []


def _silent(subject: str, record: LoopRecord) -> Finding:
    text = f"Process {record.process_id} of the portal has not reported since {_instant(record.at)}: it may hang."
    return Finding(Level.BAD, subject, text, f"If pages do not load: systemctl restart launchpad. {_LOG}")


def _error(loop: LoopHealth) -> str:
    return f" ({loop.last_error.rstrip('.')})" if loop.last_error else ""


def _names(loops: list[LoopHealth]) -> str:
    return ", ".join(dict.fromkeys(loop.name for loop in loops))


def _instant(at: datetime | None) -> str:
    return f"{at:%-d %B %Y, %H:%M:%S} UTC" if at else "its start"
