"""The processes of a container, read from /proc: which are busy, which are the IDE's own, which are kernels.

How busy one has been is what it took since the last look, with what its children took that have ended in between:
a compiler that lives for a second is counted with the `make` that has waited for it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from ..domain.activity import Program
from .program_names import is_ide_server, is_kernel, is_monitor, program_name, shown_command

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SHOWN_PROGRAMS = 5
LEAST_CORES = 0.001  # what takes less is not shown
LOOKED_AT_MOST = 4096  # processes of one container; its limit is lower
_BYTES_READ = 4096


@dataclass(frozen=True)
class Named:
    """A process by what it is called. `ide`: it is the IDE's own server."""

    name: str
    command: str
    ide: bool
    kernel: bool
    r_session: bool


class InTerminal(IntEnum):
    """What a process is to a terminal: nothing, its shell (what leads its session), or a job that was begun in it."""

    NOTHING = 0
    SHELL = 1
    JOB = 2


@dataclass(slots=True)
class Process:
    """One process at one look. Times are in the kernel's ticks.

    Attributes:
        image: where its program lies in memory (proc(5): startcode, endcode, startstack), which changes when it becomes
            another (execve); the same for all where the kernel does not tell.
    """

    pid: int
    started: int
    parent: int
    own: int
    children: int
    memory_bytes: int
    comm: str
    image: str
    named: Named
    terminal: InTerminal


@dataclass
class ProcessLook:
    """The processes of one container at one moment.

    Attributes:
        at: of the monotonic clock, in seconds.
        programs: the busiest since the look before.
        job: the busiest since then of those that were begun in a terminal; None: none took any time.
    """

    at: float
    processes: dict[int, Process] = field(default_factory=dict)
    programs: tuple[Program, ...] = ()
    job: Program | None = None

    @property
    def ide_cpu_seconds(self) -> float:
        return sum(one.own for one in self.processes.values() if one.named.ide) / TICKS

    @property
    def kernels(self) -> int:
        return sum(one.named.kernel for one in self.processes.values())


def look_at(pids: Sequence[int], before: ProcessLook | None, at: float, proc: Path) -> ProcessLook:
    """Looks at processes; those that have ended meanwhile are left out.

    Args:
        before: the look before at the same container; None: there was none, so nobody knows what is busy.
    """
    known: Mapping[int, Process] = before.processes if before is not None else {}
    found: dict[int, Process] = {}
    root = str(proc)
    for pid in pids[:LOOKED_AT_MOST]:
        process = _read(root, pid, known.get(pid))
        if process is not None:
            found[pid] = process
    look = ProcessLook(at, found)
    if before is not None and at > before.at:
        taken = _taken(found, known)
        look.programs = _busiest(found, taken, at - before.at)
        look.job = _job(found, taken, at - before.at)
    return look


def read_process(proc: Path, pid: int) -> Process | None:
    """One process as it is now; None: it has ended."""
    return _read(str(proc), pid, None)


def _read(root: str, pid: int, before: Process | None) -> Process | None:
    try:
        comm, fields = read_stat(root, pid)
        started, parent = int(fields[19]), int(fields[1])
        own, children = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
        memory = int(fields[21]) * PAGE_BYTES
        terminal = _terminal(pid, *map(int, fields[2:5]))
        image = " ".join(fields[23:26])
    except (OSError, ValueError, IndexError):
        return None
    # The name alone does not tell: R is a script of this name, which then becomes the program of this name.
    same = before is not None and (before.started, before.comm, before.image) == (started, comm, image)
    named = before.named if before is not None and same else _named(root, pid, comm)
    return Process(pid, started, parent, own, children, memory, comm, image, named, terminal)


def _terminal(pid: int, group: int, session: int, terminal: int) -> InTerminal:
    """A shell puts every job into a group of its own, in the foreground and in the background."""
    if terminal == 0:
        return InTerminal.NOTHING
    return InTerminal.SHELL if pid == session or group == session else InTerminal.JOB


def _named(root: str, pid: int, comm: str) -> Named:
    try:
        words = read_text(f"{root}/{pid}/cmdline").rstrip("\0").split("\0")
    except OSError:
        words = []
    session = comm == "rsession" or any(word.rpartition("/")[2] == "rsession" for word in words[:2])
    name = "R" if session else program_name(comm, words)
    return Named(name, shown_command(words), is_ide_server(comm, words), is_kernel(words), session)


def _taken(found: Mapping[int, Process], known: Mapping[int, Process]) -> dict[int, tuple[int, int]]:
    """Ticks that each took itself since the look before, and those of its children that have ended."""
    counted = _counted_before(found, known)
    taken = {}
    for pid, process in found.items():
        before = known.get(pid)
        same = before is not None and before.started == process.started
        own = process.own - (before.own if before is not None and same else 0)
        children = process.children - (before.children if before is not None and same else 0)
        taken[pid] = max(0, own), max(0, children - counted.get(pid, 0))
    return taken


def _busiest(found: Mapping[int, Process], taken: Mapping[int, tuple[int, int]], seconds: float) -> tuple[Program, ...]:
    ticks = {pid: sum(taken[pid]) for pid, process in found.items() if not process.named.ide}
    return tuple(_programs(found, ticks, seconds)[:SHOWN_PROGRAMS])


def _job(found: Mapping[int, Process], taken: Mapping[int, tuple[int, int]], seconds: float) -> Program | None:
    """Of a shell only what it has waited for counts: at its prompt that is nothing. What only watches is no job."""
    ticks = {}
    for pid, process in found.items():
        if process.terminal is not InTerminal.NOTHING and not process.named.ide and not is_monitor(process.comm):
            own, children = taken[pid]
            ticks[pid] = children + (own if process.terminal is InTerminal.JOB else 0)
    return next(iter(_programs(found, ticks, seconds)), None)


def _programs(found: Mapping[int, Process], ticks: Mapping[int, int], seconds: float) -> list[Program]:
    """These processes by their names, the busiest first."""
    cores: dict[str, float] = {}
    memory: dict[str, int] = {}
    commands: dict[str, str] = {}
    for pid, number in ticks.items():
        name = found[pid].named.name
        cores[name] = cores.get(name, 0.0) + number / TICKS / seconds
        memory[name] = memory.get(name, 0) + found[pid].memory_bytes
        commands.setdefault(name, found[pid].named.command)
    busy = sorted((name for name in cores if cores[name] >= LEAST_CORES), key=lambda name: -cores[name])
    return [Program(name, round(cores[name], 3), memory[name], commands[name]) for name in busy]


def _counted_before(found: Mapping[int, Process], known: Mapping[int, Process]) -> dict[int, int]:
    """What processes took that have ended since, as far as earlier looks counted it, by who has waited for them.

    It is in the time of their parents' children now, and was theirs before.
    """
    counted: dict[int, int] = {}
    for pid, process in known.items():
        now = found.get(pid)
        if now is not None and now.started == process.started:
            continue
        parent = process.parent
        while parent not in found and parent in known:
            parent = known[parent].parent
        counted[parent] = counted.get(parent, 0) + process.own + process.children
    return counted


def disk_bytes(pids: Sequence[int], proc: Path) -> tuple[int, int]:
    """Bytes that processes had read from disks and written to them, those of children that have ended included.

    Where control groups do not count what is written later, in version 1, this is what is known of writing.
    """
    read = written = 0
    for pid in pids[:LOOKED_AT_MOST]:
        try:
            lines = read_text(f"{proc}/{pid}/io").splitlines()
            counts = {name: int(number) for name, _, number in (line.partition(": ") for line in lines)}
        except (OSError, ValueError):
            continue
        read += counts.get("read_bytes", 0)
        written += counts.get("write_bytes", 0) - counts.get("cancelled_write_bytes", 0)
    return read, max(0, written)


def network_bytes(pid: int, proc: Path) -> tuple[int, int]:
    """Bytes that a process' network has received and sent, its own loopback left out; zeros once it is gone."""
    received = sent = 0
    try:
        lines = read_text(f"{proc}/{pid}/net/dev").splitlines()[2:]
    except OSError:
        return 0, 0
    for line in lines:
        name, _, rest = line.partition(":")
        numbers = rest.split()
        if name.strip() != "lo" and len(numbers) >= 9:
            received += int(numbers[0])
            sent += int(numbers[8])
    return received, sent


def read_stat(root: str, pid: int) -> tuple[str, list[str]]:
    """The kernel's name of a process, which may hold any letter, and the fields of proc_pid_stat(5) from the third on.

    Raises:
        OSError: it has ended.
    """
    head, _, rest = read_text(f"{root}/{pid}/stat").rpartition(")")
    return head.partition("(")[2], rest.split()


def read_text(path: str) -> str:
    """The beginning of a file of /proc; raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, _BYTES_READ).decode("utf-8", "replace")
    finally:
        os.close(file)
