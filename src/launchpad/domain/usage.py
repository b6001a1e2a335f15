"""What a running instance uses, and what goes on in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .activity import Program


@dataclass(frozen=True)
class Usage:
    """What a running container uses now: memory without the page cache, and CPU time in seconds since its start.

    `peak_memory_bytes` is the most that it has used so far, page cache included; None where the kernel does not say.
    """

    memory_bytes: int
    cpu_seconds: float
    pids: int
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class ContainerActivity:
    """What goes on in a running container, as the kernel and its files say.

    What is counted in bytes is counted since the container's start, or since its processes'.

    Attributes:
        memory_with_cache_bytes: page cache included, which `usage` leaves out.
        ide_cpu_seconds: what the IDE's own server has taken, which serves pages and carries out nothing of its user's.
        programs: the busiest since the last look, the IDE's own server left out; empty at the first.
        job: the busiest program that was begun in a terminal, by what it took since the last look; None: none took any.
        kernels: Jupyter's, by their processes.
        terminals: that are open.
        terminal_input_at: when a program last read what somebody typed into one, to about eight seconds; None: never.
        r_is_busy: RStudio says that R carries something out.
        is_paused: it stands still, and answers nobody.
    """

    usage: Usage
    memory_with_cache_bytes: int
    disk_read_bytes: int = 0
    disk_written_bytes: int = 0
    network_received_bytes: int = 0
    network_sent_bytes: int = 0
    ide_cpu_seconds: float = 0.0
    programs: tuple[Program, ...] = ()
    job: Program | None = None
    kernels: int = 0
    terminals: int = 0
    terminal_input_at: datetime | None = None
    r_is_busy: bool = False
    is_paused: bool = False
