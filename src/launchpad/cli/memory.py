"""What a process that stays does to hold little memory."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

ARENAS = 1
_M_ARENA_MAX = -8  # mallopt(3)


def keep_together() -> None:
    """glibc's heaps, one for each thread, keep what others could use; its threads take turns anyway."""
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)


def settle() -> None:
    """What the start took and needs no more goes back to the system; what stays is not looked at by collections.

    A collection of everything would stop all requests for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
