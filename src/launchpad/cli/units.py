"""The platform's systemd units on this server, for commands that need them out of the way for a moment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .output import err

# What works with the portal's state, or wakes up what does. The order is that of stopping: sockets and timers first.
AT_WORK = (
    "launchpad.socket",
    "launchpad-sweep.timer",
    "launchpad-backup.timer",
    "launchpad-drill.timer",
    "launchpad.service",
    "launchpad-sweep.service",
    "launchpad-backup.service",
    "launchpad-drill.service",
)
HELPER = "launchpad-helper.service"


@contextmanager
def out_of_the_way() -> Iterator[None]:
    """Stops what works with the portal's state, where systemd and root are; starts it again in any case."""
    found = [unit for unit in AT_WORK if _is_active(unit)] if _can_be_asked() else []
    try:
        if found:
            err.print("Stopping the portal; instances keep running.")
            _systemctl("stop", *found)
        yield
    finally:
        if found:
            err.print("Starting the portal.")
            _systemctl("start", *(unit for unit in found if not unit.endswith(("sweep.service", "drill.service"))))


def restart_helper() -> None:
    """So that the helper reads anew what it remembers; nothing where none runs."""
    if _can_be_asked() and _is_active(HELPER):
        _systemctl("restart", HELPER)


def _can_be_asked() -> bool:
    return os.geteuid() == 0 and Path("/run/systemd/system").is_dir()


def _is_active(unit: str) -> bool:
    asked = ["systemctl", "show", "-p", "ActiveState", "--value", unit]
    state = subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip()  # noqa: S603
    return state in ("active", "activating", "reloading")  # a oneshot at work is “activating”


def _systemctl(verb: str, *units: str) -> None:
    if _run(verb, *units) != 0:
        err.print(f"systemctl {verb} {' '.join(units)} failed; look at: journalctl -xe", markup=False)


def _run(*arguments: str) -> int:
    return subprocess.run(["systemctl", *arguments], check=False).returncode  # noqa: S603, S607
