"""What the kernel's log says of programs that it has ended for lack of memory (`/dev/kmsg`, proc_kmsg(5))."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

KERNEL_LOG = Path("/dev/kmsg")
KILLS_KEPT = 500
_RECORD_BYTES = 8192  # more than the kernel makes one
_RECORDS_AT_ONCE = 100_000  # more than the kernel keeps

# The kernel's fields before the name are paths and numbers; the name is the program's own choice, of 15 letters at
# most, so what follows it is looked for from the end.
_WHY = re.compile(
    r"oom-kill:constraint=(?P<constraint>[A-Z_]+),(?:.*?,oom_memcg=(?P<short>[^,]+))?"
    r".*?,task_memcg=(?P<group>[^,]+),task=.*,pid=(?P<pid>\d+),uid=\d+$"
)
_CONTAINER = re.compile(r"[0-9a-f]{64}")
_KILLED = re.compile(
    r"Killed process (?P<pid>\d+) \((?P<name>.*)\) total-vm:\d+kB, anon-rss:(?P<anon>\d+)kB, "
    r"file-rss:(?P<file>\d+)kB, shmem-rss:(?P<shared>\d+)kB"
)


@dataclass(frozen=True)
class Kill:
    """A program that was ended.

    Attributes:
        group: the path of its control group.
        name: the kernel's own of it, of 15 letters at most.
        memory_bytes: what it held.
        of_server: the server itself had no more memory, or what it has for all containers, not the program's own one.
    """

    group: str
    pid: int
    name: str
    memory_bytes: int
    at: datetime
    of_server: bool = False


class KernelLog:
    """Follows the log from its beginning on.

    Attributes:
        is_readable: whether this process may read it; what it has read is in `kills`, the oldest first.
    """

    def __init__(self, path: Path = KERNEL_LOG, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._file: int | None = None
        self._read_at: float | None = None
        self._why: dict[int, tuple[str, bool]] = {}  # the group, and whether the server was short, by pid
        self.kills: deque[Kill] = deque(maxlen=KILLS_KEPT)
        self.is_readable = True

    def read(self) -> None:
        """Takes in what the kernel has written since. Does not wait; does nothing where the log may not be read."""
        if self._file is None:
            try:
                self._file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                self.is_readable = False
                return
        self.is_readable = True
        now = self._now()
        booted_at, since, self._read_at = now - time.clock_gettime(time.CLOCK_MONOTONIC), self._read_at, now
        for _ in range(_RECORDS_AT_ONCE):
            try:
                record = os.read(self._file, _RECORD_BYTES)
            except BrokenPipeError:  # it has written over what was not read yet
                continue
            except OSError:  # there is no more now
                return
            if not record:
                return
            self.take(record.decode("utf-8", "replace"), booted_at, since)

    def take(self, record: str, booted_at: float, since: float | None = None) -> None:
        """One record, of which only what ends programs is kept.

        Args:
            booted_at: what its times are counted from, in seconds since 1970.
            since: when the log was read last; what is new in it is not older, whatever the kernel's own clock says,
                which is wrong by minutes after months.
        """
        head, _, rest = record.partition(";")
        text = rest.partition("\n")[0]
        if found := _WHY.search(text):
            # A group that containers are in may have a limit, too (`--cgroup-parent`, a slice of systemd's).
            short, is_own = found["short"] or "", found["constraint"] == "CONSTRAINT_MEMCG"
            if is_own and short and not _CONTAINER.search(short):
                is_own = _CONTAINER.search(found["group"]) is None
            self._why = {int(found["pid"]): (found["group"], not is_own)}
        elif found := _KILLED.search(text):
            why = self._why.pop(int(found["pid"]), None)
            fields = head.split(",")
            if why is None or len(fields) < 3 or not fields[2].isdecimal():
                return
            held = sum(int(found[part]) for part in ("anon", "file", "shared")) * 1024
            seconds = booted_at + int(fields[2]) / 1e6
            at = datetime.fromtimestamp(seconds if since is None else min(max(seconds, since), self._now()), UTC)
            self.kills.append(Kill(why[0], int(found["pid"]), found["name"], held, at, of_server=why[1]))
