"""What a process that stays does to hold little memory."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from pathlib import Path

ARENAS = 1
_M_ARENA_MAX = -8  # mallopt(3)
_MADV_PAGEOUT = 21  # madvise(2), since Linux 5.4


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
    let_go_of_programs()


def let_go_of_programs() -> None:
    """Pages of libraries are dropped, most of which only the start has run; the kernel brings back what is used.

    Nothing is lost: what is written to is left out, and reclaim, unlike MADV_DONTNEED, keeps what a linker wrote.
    """
    with suppress(AttributeError, OSError):
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5].startswith("/") and "w" not in fields[1]:
                begin, end = (int(one, 16) for one in fields[0].split("-"))
                madvise(begin, end - begin, _MADV_PAGEOUT)  # an older kernel refuses, and keeps them
