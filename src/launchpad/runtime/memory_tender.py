"""Sees to containers whose memory may run short: which programs go first, and which the kernel has ended."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..domain.memory import MemoryDeath
from .control_groups import PROC, ControlGroup, ControlGroups
from .kernel_log import KernelLog
from .oom_order import OomOrder, Ordered
from .processes import Process, read_process
from .program_names import program_name
from .values import MemoryWatch

KEPT = timedelta(minutes=10)  # so long a death is told again, for whoever has not heard
NAMED_AGAIN = 10  # passes after which a process is asked again what it is called and how much it holds
NAMES_KEPT_PASSES = 30  # of processes that have ended
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Tended:
    """A container that is up. `pid` is its first process."""

    container_id: str
    instance_id: str
    pid: int
    group: ControlGroup


@dataclass
class _Named:
    process: Process
    passes: int = 0  # since it was asked
    gone: int = 0  # passes since it ended


class MemoryTender:
    """Remembers processes by what they were called, since nobody can ask those that have ended.

    Args:
        groups: the control groups of this machine.
        log: the kernel's; where it cannot be read, the groups' own counts tell that something was ended.

    Attributes:
        restarted: containers that begin with another process by now, as of the last pass, by their ids. Which one is
            for their caller to find out; until then nobody knows which of their programs are the IDE's.
    """

    def __init__(
        self,
        groups: ControlGroups,
        proc: Path = PROC,
        log: KernelLog | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._groups = groups
        self._proc = proc
        self._log = log or KernelLog()
        self._now = now
        self._order = OomOrder(proc)
        # By the containers' ids, of those that have ended lately, too: the instance, and when it was seen last.
        self._known: dict[str, tuple[str, datetime]] = {}
        self._named: dict[str, dict[int, _Named]] = {}
        self._counts: dict[str, int] = {}
        self._guessed: list[tuple[str, MemoryDeath]] = []
        self.ordered = Ordered()
        self.restarted: frozenset[str] = frozenset()

    @property
    def reads_log(self) -> bool:
        """Whether the kernel's log says which program was ended."""
        return self._log.is_readable

    def watch(self) -> MemoryWatch:
        """How well it can be done, as of the last pass."""
        return MemoryWatch(
            "the order in which its programs are ended (oom_score_adj) may not be changed"
            if self.ordered.refused
            else "",
            "" if self.reads_log else "the kernel's log (/dev/kmsg) may not be read, so it is guessed",
        )

    def tend(self, containers: Sequence[Tended]) -> Mapping[str, tuple[MemoryDeath, ...]]:
        """One pass; what was ended in the last minutes, by the instances' ids, the oldest first. Blocks."""
        now = self._now()
        pids = {one.container_id: self._groups.processes(one.group) for one in containers}
        self._known |= {one.container_id: (one.instance_id, now) for one in containers}
        self._known = {key: known for key, known in self._known.items() if now - known[1] < KEPT}
        self._named = {key: named for key, named in self._named.items() if key in self._known}
        self._counts = {key: count for key, count in self._counts.items() if key in self._known}
        self.restarted = frozenset(
            one.container_id
            for one in containers
            if one.pid not in pids[one.container_id] and self._groups.find(one.pid, one.container_id) is None
        )
        self.ordered = self._order.order(
            {
                one.container_id: (one.pid, pids[one.container_id])
                for one in containers
                if one.container_id not in self.restarted
            }
        )
        for one in containers:
            self._name(one.container_id, pids[one.container_id])
        self._log.read()
        for one in containers:
            self._count(one, now)
        return self._told(now - KEPT)

    def _name(self, container_id: str, pids: Sequence[int]) -> None:
        named, living = self._named.setdefault(container_id, {}), set(pids)
        for pid in [*named]:
            if pid not in living:
                named[pid].gone += 1
                if named[pid].gone > NAMES_KEPT_PASSES:
                    del named[pid]
        for pid in pids:
            known = named.get(pid)
            if known is not None and known.gone == 0 and known.passes % NAMED_AGAIN:
                known.passes += 1
            elif (found := read_process(self._proc, pid)) is not None:
                is_same = known is not None and known.process.started == found.started
                if is_same and known is not None and not found.named.command and known.process.named.command:
                    continue  # it is ending: it has given its memory back, and its command line with it
                # One that is seen the first time is asked at the next pass, too: it may become another program yet.
                named[pid] = _Named(found, 1 if is_same else 0)

    def _count(self, one: Tended, now: datetime) -> None:
        """Guesses, where the log cannot be read, from the group's count: the largest that is gone was it."""
        counted = self._groups.oom_kills(one.group)
        before = self._counts.get(one.container_id)
        if counted is None:
            return
        self._counts[one.container_id] = counted
        if self.reads_log or before is None or counted <= before:
            return
        gone = [each.process for each in self._named[one.container_id].values() if each.gone == 1]
        largest = max(gone, key=lambda each: each.memory_bytes, default=None)
        death = MemoryDeath(_name_of(largest) if largest else "", None, now)
        self._guessed.append((one.instance_id, death))

    def _told(self, since: datetime) -> dict[str, tuple[MemoryDeath, ...]]:
        self._guessed = [(key, death) for key, death in self._guessed if death.at >= since]
        found = list(self._guessed)
        for kill in self._log.kills:
            known = next((key for key in _ID.findall(kill.group) if key in self._known), None)
            if known is None or kill.at < since:
                continue
            named = self._named.get(known, {}).get(kill.pid)
            is_same = named is not None and named.process.comm == kill.name
            name = _name_of(named.process) if named is not None and is_same else program_name(kill.name, ())
            found.append((self._known[known][0], MemoryDeath(name, kill.memory_bytes, kill.at, kill.of_server)))
        told: dict[str, list[MemoryDeath]] = {}
        for instance_id, death in sorted(found, key=lambda one: one[1].at):
            told.setdefault(instance_id, []).append(death)
        return {instance_id: tuple(deaths) for instance_id, deaths in told.items()}


def _name_of(process: Process) -> str:
    return "R session" if process.named.r_session else process.named.name
