"""What the kernel offers for containers that stand still: pushing their memory out, and what waits for them unread."""

from __future__ import annotations

import os
import re
from pathlib import Path
from time import monotonic

from .control_groups import PROC, ControlGroup
from .values import Freezer, HostFacts

PUSHED_AT_ONCE = 256 * 1024**2  # bytes; between two pieces it is looked whether the container goes on
PUSH_SECONDS = 30.0  # a slow disk does not keep one pass for longer
RECLAIM_SINCE = (5, 19)  # the kernel from which on `memory.reclaim` is there
_ESTABLISHED, _LISTENING = "01", "0A"  # include/net/tcp_states.h


def freezer_of(host: HostFacts, proc: Path = PROC) -> Freezer:
    """Whether containers can stand still on this engine, and whether their memory can leave meanwhile."""
    if host.cgroup_driver in ("", "none"):
        return Freezer(False, "the container engine runs without control groups (rootless, or without systemd)")
    if host.cgroup_version == "1" and not _has_controller("freezer", proc):
        return Freezer(False, "the kernel has no freezer (control groups of version 1 without “freezer”)")
    return Freezer(True, why_memory_stays=_why_memory_stays(host, proc))


def _why_memory_stays(host: HostFacts, proc: Path) -> str:
    if host.cgroup_version != "2":
        return "control groups of version 1 cannot push memory out"
    if _release() < RECLAIM_SINCE:
        return "the kernel is older than 5.19, which is the first that can push memory out"
    try:
        has_swap = len((proc / "swaps").read_text(encoding="ascii", errors="replace").splitlines()) > 1
    except OSError:
        has_swap = False
    return "" if has_swap else "the server has no swap, so only cached files leave it"


def _has_controller(name: str, proc: Path) -> bool:
    """True where nothing can be read, as where the engine is on another machine: then its own word counts."""
    try:
        lines = (proc / "cgroups").read_text(encoding="ascii").splitlines()
    except OSError:
        return True
    return any(line.split()[:1] == [name] and line.split()[-1:] == ["1"] for line in lines)


def _release() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])


def push_out(group: ControlGroup) -> None:
    """Pushes the memory of a group that stands still out, piece by piece, until the kernel finds no more.

    Ends early when the group goes on. Does nothing where the kernel has no `memory.reclaim`.
    """
    reclaim = group.memory / "memory.reclaim"
    if group.version != 2 or not reclaim.exists():
        return
    until = monotonic() + PUSH_SECONDS
    while monotonic() < until and _stands_still(group):
        try:
            held = int((group.memory / "memory.current").read_text(encoding="ascii"))
            if held <= 0:
                return
            reclaim.write_text(str(min(held, PUSHED_AT_ONCE)), encoding="ascii")
        except (OSError, ValueError):  # EAGAIN: less was found than asked for
            return


def _stands_still(group: ControlGroup) -> bool:
    try:
        return (group.memory / "cgroup.freeze").read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False


def unread_bytes(group: ControlGroup, proc: Path = PROC) -> int | None:
    """What waits unread on the open connections to the ports that programs of the group listen on.

    Connections that the other side has closed do not count: a page that was closed leaves a word of goodbye. None when
    there is no such group any more.
    """
    for first in _processes(group):
        found = [_waiting(text) for text in _tables(proc / str(first) / "net")]
        if found:
            return sum(found)
    return None


def _processes(group: ControlGroup) -> list[int]:
    """One process of the group or of the groups below it is enough: all are in one network."""
    for procs in (group.memory / "cgroup.procs", *sorted(group.memory.glob("*/cgroup.procs"))):
        try:
            pids = procs.read_text(encoding="ascii").split()
        except OSError:
            continue
        if pids:
            return [int(pid) for pid in pids[:8]]
    return []


def _tables(net: Path) -> list[str]:
    found = []
    for name in ("tcp", "tcp6"):
        try:
            found.append((net / name).read_text(encoding="ascii"))
        except OSError:
            continue
    return found


def _waiting(table: str) -> int:
    """Of /proc/<pid>/net/tcp (proc_net(5)): local address, state, and send and receive queue in hexadecimal."""
    rows = [line.split() for line in table.splitlines()[1:]]
    listening = {_port(row[1]) for row in rows if row[3] == _LISTENING}
    open_here = (row for row in rows if row[3] == _ESTABLISHED and _port(row[1]) in listening)
    return sum(int(row[4].partition(":")[2], 16) for row in open_here)


def _port(address: str) -> str:
    return address.rpartition(":")[2]
