"""In which order the kernel ends programs of a container for lack of memory: what its user runs goes before the IDE.

A container starts with `IDE_SCORE`, which its processes inherit; all of them but the IDE's own are raised to
`PROGRAM_SCORE` soon after they began (`oom_score_adj`, proc_pid_oom_score_adj(5)). Both are above what services of the
server have, so that these outlive every instance where the server itself runs out.

Which process is the IDE's own is told by where it stands, not by its name alone, which everybody can choose: it is the
container's first process; where that is an init, the oldest of its children; and below these what is called like a
server of an IDE and runs as a system's user, as which nobody's own programs run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from .control_groups import PROC
from .processes import read_stat, read_text
from .program_names import is_ide_server, is_init
from .values import IDE_SCORE, PROGRAM_SCORE

SETTLES_SECONDS = 30.0  # so long a young process is looked at each time: it may become another program yet
AGAIN_SECONDS = 120.0  # between two looks at an older one
SYSTEM_UIDS = 1000  # users of a system have lower numbers than people


@dataclass
class _Seen:
    """A process at its latest look. `since`: when it was seen first; both of the monotonic clock."""

    since: float
    looked_at: float
    started: int
    parent: int
    is_system: bool
    is_init: bool
    is_server: bool


@dataclass(frozen=True)
class Ordered:
    """What one pass has done: how many processes were moved, and of how many that was refused."""

    moved: int = 0
    refused: int = 0


@dataclass
class OomOrder:
    """Remembers which processes it has looked at.

    Args:
        proc: where the kernel's files about processes are, as this process sees them.
    """

    proc: Path = PROC
    clock: Callable[[], float] = monotonic
    _seen: dict[str, dict[int, _Seen]] = field(default_factory=dict)

    def order(self, containers: Mapping[str, tuple[int, Sequence[int]]]) -> Ordered:
        """Brings the processes of these containers in order; those of others are forgotten. Blocks.

        Args:
            containers: by their ids, the first process of each and all of them, as this machine numbers them.
        """
        for gone in self._seen.keys() - containers.keys():
            del self._seen[gone]
        moved = refused = 0
        for container_id, (first, pids) in containers.items():
            seen = self._seen.setdefault(container_id, {})
            for pid in seen.keys() - set(pids):
                del seen[pid]
            due = self._look(seen, pids)
            ide = _ide_of(seen, first) if due else set()
            for pid in due:
                score = IDE_SCORE if pid in ide else PROGRAM_SCORE
                done = self._move(container_id, pid, seen[pid].started, score)
                moved, refused = moved + (done is True), refused + (done is False)
        return Ordered(moved, refused)

    def _look(self, seen: dict[int, _Seen], pids: Sequence[int]) -> list[int]:
        """Looks at those that are due, and returns them."""
        now, due = self.clock(), []
        for pid in pids:
            before = seen.get(pid)
            if before is not None and now - before.since > SETTLES_SECONDS and now - before.looked_at < AGAIN_SECONDS:
                continue
            found = self._read(pid, now)
            if found is None:
                seen.pop(pid, None)
                continue
            if before is not None and before.started == found.started:
                found.since = before.since
            seen[pid] = found
            due.append(pid)
        return due

    def _read(self, pid: int, now: float) -> _Seen | None:
        """None: it has ended."""
        try:
            comm, fields = read_stat(str(self.proc), pid)
            words = self._text(pid, "cmdline").rstrip("\0").split("\0")
            lines = self._text(pid, "status").splitlines()
            uids = next(line.split()[1:] for line in lines if line.startswith("Uid:"))
            is_system = min(int(uid) for uid in uids) < SYSTEM_UIDS
            started, parent = int(fields[19]), int(fields[1])
        except (OSError, ValueError, IndexError, StopIteration):
            return None
        return _Seen(now, now, started, parent, is_system, is_init(comm, words), is_ide_server(comm, words))

    def _move(self, container_id: str, pid: int, started: int, score: int) -> bool | None:
        """Whether it could be; None where nothing was to be done."""
        try:
            file = os.open(self.proc / str(pid) / "oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        except PermissionError:
            return False
        except OSError:
            return None  # it has ended
        try:
            has = int(os.read(file, 16))
            # Whoever wants their own program to go first may have that.
            if has == score or (score == PROGRAM_SCORE and has > score):
                return None
            # What is open now stays one process' own. Its number may be another's than of the one that was looked at,
            # as where somebody uses up numbers until they come again.
            if not self._is_still(container_id, pid, started):
                return None
            os.pwrite(file, str(score).encode(), 0)
        except PermissionError:
            return False
        except (OSError, ValueError):
            return None
        finally:
            with suppress(OSError):
                os.close(file)
        return True

    def _is_still(self, container_id: str, pid: int, started: int) -> bool:
        try:
            _, fields = read_stat(str(self.proc), pid)
            return int(fields[19]) == started and container_id in self._text(pid, "cgroup")
        except (OSError, ValueError, IndexError):
            return False

    def _text(self, pid: int, name: str) -> str:
        return read_text(f"{self.proc}/{pid}/{name}")


def _ide_of(seen: Mapping[int, _Seen], first: int) -> set[int]:
    """Those of the processes that are the IDE's own."""
    own = {first}
    top = seen.get(first)
    if top is not None and top.is_init:
        children = [(one.started, pid) for pid, one in seen.items() if one.parent == first]
        own |= {pid for _, pid in sorted(children)[:1]}
    found = True
    while found:
        below = {pid for pid, one in seen.items() if one.parent in own and one.is_system and one.is_server}
        found = bool(below - own)
        own |= below
    return own
