"""Whether what has to happen again and again does: sweeps, and systemd's timers and services."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from ...domain.instances import State
from ...settings import Settings
from ...store import instances
from ...store.database import Database
from .findings import Finding, Level, unseen
from .machine import output_of

RUNS = Path("/run/systemd/system")  # sd_booted(3)
SWEEP_TIMER = "launchpad-sweep.timer"
TIMERS = (SWEEP_TIMER, "launchpad-backup.timer", "launchpad-drill.timer")
UNITS = (
    *("launchpad.socket", "launchpad.service", "launchpad-helper.socket", "launchpad-helper.service"),
    *TIMERS,
    *(timer.replace(".timer", ".service") for timer in TIMERS),
)
OVERDUE = timedelta(minutes=5)
MISSED_IN_A_ROW = 5  # of the portal's own sweeps
_TIMER = "“systemctl enable --now launchpad-sweep.timer”, or web.sweep_seconds = 60; then “launchpad sweep” once."


async def sweeps(
    subject: str, settings: Settings, database: Database, last: datetime | None, now: datetime
) -> list[Finding]:
    """When the last sweep was; without them nothing expires and nobody leaves the queue."""
    own = settings.web.sweep_seconds
    patience = max(OVERDUE, timedelta(seconds=own * MISSED_IN_A_ROW))
    whose = f"the portal itself, every {own} seconds" if own else "a timer, every minute"
    if last is None:
        async with database.reading() as db:
            live = await instances.in_states(db, State.QUEUED, State.STARTING, State.RUNNING)
        waited = any(instance.created_at < now - patience for instance in live)
        text = f"There has been none yet; {whose}, should run them."
        return [Finding(Level.BAD if waited else Level.WARN, subject, text, _TIMER)]
    ago = now - last
    if ago > patience:
        text = f"The last one was at {last:%-d %B %Y, %H:%M} UTC; {whose}, should run them. Until then nothing expires."
        remedy = "Start the portal, and check its log." if own else _TIMER
        return [Finding(Level.BAD, subject, text, remedy)]
    return [Finding(Level.OK, subject, f"The last one was {max(0, int(ago.total_seconds()))} seconds ago.")]


async def services(subject: str, runs: Path = RUNS) -> list[Finding]:
    """What systemd says of our timers and services, where they are installed."""
    if not await asyncio.to_thread(runs.is_dir):
        return [unseen(subject, "systemd is not running here")]
    said = await output_of(("systemctl", "show", "-p", "Id,LoadState,ActiveState,Result", "--", *UNITS))
    if said is None:
        return [unseen(subject, "systemd does not answer")]
    return judged(subject, parsed(said))


def parsed(said: str) -> dict[str, Mapping[str, str]]:
    """The blocks of `systemctl show`, by the units' names."""
    blocks = (dict(line.partition("=")[::2] for line in block.splitlines()) for block in said.split("\n\n"))
    return {block["Id"]: block for block in blocks if "Id" in block}


def judged(subject: str, units: Mapping[str, Mapping[str, str]]) -> list[Finding]:
    """Timers that do not run, and units that have failed; those that are not installed are nobody's business."""
    there = {name: unit for name, unit in units.items() if unit.get("LoadState") not in (None, "not-found")}
    if not there:
        return [unseen(subject, "the platform's units are not installed here")]
    found = []
    for name, unit in there.items():
        state = unit.get("ActiveState", "")
        if state == "failed":
            text = f"{name} has failed ({unit.get('Result') or 'no result'})."
            found.append(Finding(Level.BAD, subject, text, f"journalctl -u {name} -n 50 shows why."))
        elif name in TIMERS and state != "active":
            level = Level.BAD if name == SWEEP_TIMER else Level.WARN
            text = f"{name} is installed, but not running."
            found.append(Finding(level, subject, text, f"systemctl enable --now {name}"))
    timers = ", ".join(name for name in TIMERS if name in there) or "none"
    return found or [Finding(Level.OK, subject, f"None of the platform's units has failed; timers: {timers}.")]
