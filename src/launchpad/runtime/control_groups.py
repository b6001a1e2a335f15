"""What the kernel counts of a container and holds it to, read from the files of its control group.

The engine's own `stats` answers at its next tick of a second only (tried with 20.10, `one-shot` or not); these files
answer at once, and nobody but the kernel is asked. Both versions of control groups, and both drivers of the engine, are
met as they are: where a container's group lies is what `/proc/<pid>/cgroup` of its first process says, below what
`/proc/self/mountinfo` says is mounted.

A group is remembered by its folder. The folder's name has the container's id in it, which is never given to another
one, so a number of a process that the kernel uses again leads nobody astray; with the container the folder goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .base import Caps, Usage

PROC = Path("/proc")
NO_LIMIT = 2**62  # version 1 has no word for it, but the largest number of whole pages
_GONE = (FileNotFoundError, ProcessLookupError, NotADirectoryError)


@dataclass(frozen=True)
class ControlGroup:
    """The folders of one container's group: on version 1 one for each kind, on version 2 the same for all.

    `io` is None on version 1.
    """

    version: int
    memory: Path
    cpu: Path
    cpu_time: Path
    pids: Path
    io: Path | None = None


@dataclass(frozen=True)
class _Mount:
    """Where a hierarchy is seen: `root` is the part of it that is mounted at `point`."""

    root: PurePosixPath
    point: Path


class ControlGroups:
    """The control groups of this machine.

    Args:
        proc: where the kernel's files about processes are, as this process sees them.
    """

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._mounts: dict[str, _Mount] | None = None

    def find(self, pid: int, container_id: str) -> ControlGroup | None:
        """The group of the container whose first process is `pid`.

        None when that process is another one by now, or is not seen from here: it has ended, or the engine is on
        another machine.
        """
        try:
            lines = (self._proc / str(pid) / "cgroup").read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            return None
        folders: dict[str, Path] = {}
        for line in lines:
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            for controller in controllers.split(","):  # version 2 names none
                folder = self._folder(controller, path, container_id)
                if folder is not None:
                    folders[controller] = folder
        if "memory" in folders:
            memory = folders["memory"]
            cpu = folders.get("cpu", memory)
            return ControlGroup(1, memory, cpu, folders.get("cpuacct", cpu), folders.get("pids", memory))
        unified = folders.get("")
        return None if unified is None else ControlGroup(2, unified, unified, unified, unified, unified)

    def usage(self, group: ControlGroup) -> Usage | None:
        """What runs in the group uses now; None when there is no such group any more.

        Memory is without the page cache, which is given up at need, also what of it is used again and again: a program
        that reads the same files for hours fills the rest with it and is short of nothing.
        """
        measured = self.measure(group)
        return None if measured is None else measured[0]

    def measure(self, group: ControlGroup) -> tuple[Usage, int] | None:
        """As `usage`, and beside it the memory with all of the page cache, in bytes."""
        try:
            details = _table(group.memory / "memory.stat")
            if group.version == 1:
                used = _number(group.memory / "memory.usage_in_bytes")
                cpu_seconds = _number(group.cpu_time / "cpuacct.usage") / 1e9
                peak = _optional(group.memory / "memory.max_usage_in_bytes")
            else:
                used = _number(group.memory / "memory.current")
                cpu_seconds = _table(group.cpu_time / "cpu.stat")["usage_usec"] / 1e6
                peak = _optional(group.memory / "memory.peak")  # from kernel 5.19 on
            # Not `file`, which has shared memory in it. Version 1 counts the groups below by names of their own.
            cache = sum(details.get(f"total_{kind}", details.get(kind, 0)) for kind in ("inactive_file", "active_file"))
            pids = _optional(group.pids / "pids.current")
        except (OSError, KeyError, ValueError):  # with the last process a file may be there and yet not be read
            return None
        return Usage(max(0, used - cache), cpu_seconds, pids or 0, peak_memory_bytes=peak), used

    def oom_kills(self, group: ControlGroup) -> int | None:
        """How many programs of the group, or of those below it, the kernel has ended for lack of memory so far.

        None once it is gone, and where the kernel does not count them (before 4.13).
        """
        name = "memory.oom_control" if group.version == 1 else "memory.events"
        try:
            return _table(group.memory / name).get("oom_kill")
        except (OSError, ValueError):
            return None

    def processes(self, group: ControlGroup) -> list[int]:
        """The numbers of the processes in the group, as this machine counts them; empty once it is gone."""
        try:
            return [int(line) for line in (group.memory / "cgroup.procs").read_text(encoding="ascii").split()]
        except (OSError, ValueError):
            return []

    def disk_bytes(self, group: ControlGroup) -> tuple[int, int] | None:
        """What the group has read from disks and written to them.

        None in version 1, where it is not counted what is written later, which is nearly everything; and where the
        kernel counts nothing.
        """
        if group.io is None:
            return None
        try:
            words = (group.io / "io.stat").read_text(encoding="ascii").split()
            counts = [word.partition("=")[::2] for word in words]
            return _sum_of(counts, "rbytes"), _sum_of(counts, "wbytes")
        except (OSError, ValueError):
            return None

    def caps(self, group: ControlGroup) -> Caps | None:
        """What the group is held to; None when there is no such group any more."""
        try:
            if group.version == 1:
                memory = _limit(group.memory / "memory.limit_in_bytes")
                both = _limit(group.memory / "memory.memsw.limit_in_bytes")
                swap = both - memory if both is not None and memory is not None else None
                counts_swap = (group.memory / "memory.memsw.limit_in_bytes").exists()
                quota = _number(group.cpu / "cpu.cfs_quota_us")
                period = _number(group.cpu / "cpu.cfs_period_us")
                cpus = quota / period if quota > 0 else None
                weight = _optional(group.cpu / "cpu.shares")
            else:
                memory = _limit(group.memory / "memory.max")
                swap = _limit(group.memory / "memory.swap.max")
                counts_swap = (group.memory / "memory.swap.max").exists()
                most, _, each = (group.cpu / "cpu.max").read_text(encoding="ascii").partition(" ")
                cpus = None if most == "max" else int(most) / int(each)
                weight = _optional(group.cpu / "cpu.weight")
            pids = _limit(group.pids / "pids.max")
            if not (group.memory / "cgroup.procs").exists():
                return None
        except (OSError, ValueError):
            return None
        if not counts_swap and not self._has_swap():
            swap = 0
        return Caps(memory_bytes=memory, swap_bytes=swap, cpus=cpus, pids=pids, cpu_weight=weight)

    def _has_swap(self) -> bool:
        """Whether there is any at all; where the kernel cannot limit it, that decides."""
        try:
            return len((self._proc / "swaps").read_text(encoding="ascii", errors="replace").splitlines()) > 1
        except OSError:
            return True

    def _folder(self, controller: str, path: str, container_id: str) -> Path | None:
        """The container's own folder. Its first process may have gone into a group below, as a systemd inside does."""
        mount = self._mounted().get(controller)
        if mount is None:
            return None
        parts = PurePosixPath(path).parts
        own = next((number for number, part in enumerate(parts) if container_id in part), None)
        if own is None or ".." in parts:  # another process; or a group outside of what is seen from here
            return None
        folder = PurePosixPath(*parts[: own + 1])
        return mount.point / folder.relative_to(mount.root) if folder.is_relative_to(mount.root) else None

    def _mounted(self) -> dict[str, _Mount]:
        """Where each controller's hierarchy is mounted; "" for version 2's."""
        if self._mounts is None:
            try:
                text = (self._proc / "self" / "mountinfo").read_text(encoding="utf-8", errors="replace")
            except OSError:
                text = ""
            self._mounts = mounts_in(text.splitlines())
        return self._mounts


def mounts_in(lines: Iterable[str]) -> dict[str, _Mount]:
    """From `/proc/self/mountinfo` (proc_pid_mountinfo(5)); of several mounts of a hierarchy the first."""
    found: dict[str, _Mount] = {}
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        mount = _Mount(PurePosixPath(_plain(fields[3])), Path(_plain(fields[4])))
        for controller in kind[2].split(",") if kind[0] == "cgroup" else ("",):
            found.setdefault(controller, mount)
    return found


def _plain(text: str) -> str:
    """Without the octal spelling of blanks."""
    return text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")


def _sum_of(counts: Iterable[tuple[str, str]], name: str) -> int:
    return sum(int(number) for key, number in counts if key == name)


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _optional(path: Path) -> int | None:
    """None where this kernel has no such file."""
    try:
        return _number(path)
    except _GONE:
        return None


def _limit(path: Path) -> int | None:
    """None where nothing is limited, or this kernel has no such file."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except _GONE:
        return None
    return None if text == "max" or int(text) >= NO_LIMIT else int(text)


def _table(path: Path) -> dict[str, int]:
    """A file of names and numbers, one pair a line."""
    pairs = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
