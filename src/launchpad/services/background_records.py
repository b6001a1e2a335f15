"""What the processes of this machine tell each other of their background work: a file each, in the state directory.

So a command can tell how the portal fares, also while the database does not answer or the portal hangs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from ..domain.background import LoopHealth, LoopRecord, LoopState


class Record:
    """A file `<folder>/<process id>.json`, which goes with the process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{os.getpid()}.json"

    def write(self, loops: Sequence[LoopHealth], at: datetime) -> None:
        """Raises OSError."""
        content = {"at": at.isoformat(), "loops": [asdict(one) for one in loops]}
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(content, default=datetime.isoformat), encoding="utf-8")
        beside.replace(self._path)

    def remove(self) -> None:
        for path in (self._path, self._path.with_suffix(".new")):
            with suppress(OSError):
                path.unlink()


def read_records(folder: Path) -> list[LoopRecord]:
    """What the living processes of this machine have written down; the files of dead ones are removed.

    Raises:
        OSError: the folder cannot be read.
    """
    found = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            process_id = int(path.stem)
            if not _is_alive(process_id):
                path.unlink(missing_ok=True)
                continue
            content = json.loads(path.read_text(encoding="utf-8"))
            loops = tuple(_health(one) for one in content["loops"])
            found.append(LoopRecord(process_id, datetime.fromisoformat(content["at"]), loops))
        except (ValueError, KeyError, TypeError, FileNotFoundError):  # not of ours, or gone meanwhile
            continue
    return found


def _health(read: dict[str, object]) -> LoopHealth:
    at = {name: _instant(read[name]) for name in ("last_success_at", "last_error_at")}
    return LoopHealth(
        name=str(read["name"]),
        state=LoopState(str(read["state"])),
        failures=int(str(read["failures"])),
        failures_in_a_row=int(str(read["failures_in_a_row"])),
        last_error=None if read["last_error"] is None else str(read["last_error"]),
        **at,
    )


def _instant(text: object) -> datetime | None:
    return None if text is None else datetime.fromisoformat(str(text))


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
