"""An instance's memory: when it runs short, what the kernel ended for lack of it, which size comes next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from .sizes import describe_bytes

NEARLY_OUT = 0.9  # of the size, without page cache, which is given up at need
LONGEST_NAME = 60  # characters, as the database has it


@dataclass(frozen=True)
class MemoryDeath:
    """A program that the kernel ended for lack of memory.

    Attributes:
        program: as its user knows it: "R session", "notebook kernel (Python)"; empty where nobody can tell.
        memory_bytes: what it held; None where nobody can tell.
        of_server: the server itself had no more memory, not the instance.
    """

    program: str
    memory_bytes: int | None
    at: datetime
    of_server: bool = False


def is_nearly_out(used_bytes: int, memory_bytes: int) -> bool:
    """Whether so little is left that programs are about to be ended. `used_bytes` is without page cache."""
    return used_bytes >= NEARLY_OUT * memory_bytes


def use_in_words(used_bytes: int, memory_bytes: int) -> str:
    """ "15.9 of 16 GB": in the unit of the whole, and never more than that."""
    whole = describe_bytes(memory_bytes)
    unit = whole.rpartition(" ")[2]
    used = min(used_bytes, memory_bytes) / {"TB": 1024**4, "GB": 1024**3, "MB": 1024**2, "KB": 1024}.get(unit, 1)
    text = f"{used:.1f}" if used >= 2 else f"{used:.2f}"
    return f"{text.removesuffix('0').removesuffix('.0').removesuffix('.')} of {whole}"


def victim_in_words(program: str, held_bytes: int | None, memory_bytes: int) -> str:
    """ "R session, 15.9 of 16 GB"; empty where nothing is known."""
    if not program:
        return ""
    return program if held_bytes is None else f"{program}, {use_in_words(held_bytes, memory_bytes)}"


def nearly_out_in_words(memory_bytes: int) -> str:
    """What the owner of an instance is told whose memory runs short; the same words while it does."""
    return (
        f"more than {round(NEARLY_OUT * 100)} % of its {describe_bytes(memory_bytes)} of memory is in use: when it is "
        "full, its largest program is ended, and what that has not saved is lost"
    )


def larger_sizes(
    offered: Sequence[int], memory_bytes: int, quota_bytes: int | None = None, in_use_bytes: int = 0
) -> tuple[int, ...]:
    """The sizes above `memory_bytes` that a person may have, the smallest first.

    Args:
        quota_bytes: what their instances may have together; None: no quota of memory.
        in_use_bytes: what their other live instances have.
    """
    most = None if quota_bytes is None else quota_bytes - in_use_bytes
    return tuple(size for size in sorted(offered) if size > memory_bytes and (most is None or size <= most))
