"""What a running instance uses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """What a running container uses now: memory without the page cache, and CPU time in seconds since its start.

    `peak_memory_bytes` is the most that it has used so far, page cache included; None where the kernel does not say.
    """

    memory_bytes: int
    cpu_seconds: float
    pids: int
    peak_memory_bytes: int | None = None
