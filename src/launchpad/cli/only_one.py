"""One quick start at a time for a state directory, by a lock that ends with its process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from ..errors import AlreadyRunning, Unavailable

LOCK = "quickstart.lock"  # in the folder `run` of the state directory


def insist_on_being_the_only_one(folder: Path) -> None:
    """Raises AlreadyRunning while a quick start runs; nothing is made, and nothing held."""
    try:
        with (folder / "run" / LOCK).open("r+") as file:
            _lock(file)
    except OSError:
        return


def hold(folder: Path) -> IO[str]:
    """The state directory, which is made if need be, held until what is returned is closed; write our address to it.

    Raises:
        AlreadyRunning: another one holds it.
        Unavailable: it cannot be made.
    """
    try:
        for each in (folder, folder / "run"):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (folder / "run" / LOCK).open("a+")
    except OSError as error:
        raise Unavailable(f"The state directory {folder} cannot be used: {error.strerror}.") from error
    _lock(file)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _lock(file: IO[str]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        pid, _, url = file.read().strip().partition(" ")
        see = f"; see {url}" if url else ""
        raise AlreadyRunning(
            f"The quick start is already running: process {pid or 'another'} has the same state directory{see}. "
            "Stop it first, or set LAUNCHPAD_STATE_DIR, LAUNCHPAD_PUBLIC_URL and LAUNCHPAD_INSTANCES_URL for a "
            "second one."
        ) from None
