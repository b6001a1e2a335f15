"""What goes on in containers: control groups, processes and a few files inside, in one pass over all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from time import monotonic

from ..domain.usage import ContainerActivity
from .control_groups import PROC, ControlGroup, ControlGroups
from .inside import data_folder_of, r_is_busy, terminals_of
from .processes import TICKS, ProcessLook, disk_bytes, look_at, network_bytes

_NO_FOLDER = PurePosixPath("/")


@dataclass(frozen=True)
class Measured:
    """A container that is up, and where to look. `pid` is its first process."""

    container_id: str
    instance_id: str
    pid: int
    group: ControlGroup
    is_paused: bool = False


class ActivityReader:
    """Remembers the look before of each container, since how busy a program is lies between two.

    Args:
        groups: the control groups of this machine.
        clock: seconds that only go forward.
    """

    def __init__(self, groups: ControlGroups, proc: Path = PROC, clock: Callable[[], float] = monotonic) -> None:
        self._groups = groups
        self._proc = proc
        self._clock = clock
        self._looks: dict[str, ProcessLook] = {}
        self._data_folders: dict[tuple[int, int], PurePosixPath] = {}
        self._booted_at: float | None = None

    def read_all(self, containers: Sequence[Measured]) -> Mapping[str, ContainerActivity]:
        """What goes on in each, by its instance's id; those that have ended meanwhile are left out. Blocks."""
        self._forget_all_but({one.container_id for one in containers})
        found = {one.instance_id: self._read(one) for one in containers}
        return {instance_id: activity for instance_id, activity in found.items() if activity is not None}

    def _forget_all_but(self, container_ids: Collection[str]) -> None:
        self._looks = {key: look for key, look in self._looks.items() if key in container_ids}
        living = {(pid, one.started) for look in self._looks.values() for pid, one in look.processes.items()}
        self._data_folders = {key: folder for key, folder in self._data_folders.items() if key in living}

    def _read(self, container: Measured) -> ContainerActivity | None:
        measured = self._groups.measure(container.group)
        if measured is None:
            return None
        usage, with_cache = measured
        pids = self._groups.processes(container.group)
        look = look_at(pids, self._looks.get(container.container_id), self._clock(), self._proc)
        self._looks[container.container_id] = look
        disk = self._groups.disk_bytes(container.group)
        read, written = disk if disk is not None else disk_bytes(pids, self._proc)
        received, sent = network_bytes(container.pid, self._proc)
        terminals = terminals_of(container.pid, self._proc)
        return ContainerActivity(
            usage=usage,
            memory_with_cache_bytes=with_cache,
            disk_read_bytes=read,
            disk_written_bytes=written,
            network_received_bytes=received,
            network_sent_bytes=sent,
            ide_cpu_seconds=look.ide_cpu_seconds,
            programs=look.programs,
            job=look.job,
            kernels=look.kernels,
            terminals=terminals.number,
            terminal_input_at=_instant(terminals.input_at),
            r_is_busy=self._r_is_busy(look),
            is_paused=container.is_paused,
        )

    def _r_is_busy(self, look: ProcessLook) -> bool:
        for pid, process in look.processes.items():
            if not process.named.r_session:
                continue
            key = (pid, process.started)
            if key not in self._data_folders:
                self._data_folders[key] = data_folder_of(pid, self._proc) or _NO_FOLDER
            folder = self._data_folders[key]
            since = self._boot() + process.started / TICKS
            if folder != _NO_FOLDER and r_is_busy(pid, folder, since, self._proc):
                return True
        return False

    def _boot(self) -> float:
        """When this machine was booted, in seconds since 1970, rounded down."""
        if self._booted_at is None:
            lines = (self._proc / "stat").read_text(encoding="ascii", errors="replace").splitlines()
            self._booted_at = next((float(line.split()[1]) for line in lines if line.startswith("btime ")), 0.0)
        return self._booted_at - 1.0


def _instant(seconds: float | None) -> datetime | None:
    """Whoever owns a terminal may set its times to anything: None of what is no year of ours."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
