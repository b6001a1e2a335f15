"""How a process of root's gives up root and shuts itself in."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
from collections.abc import Sequence

NOBODY = 65534
CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID = range(5)
CAPABILITY_VERSION_3 = 0x20080522  # capset(2)
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS = 1, 8, 38  # prctl(2)

_libc = ctypes.CDLL(None, use_errno=True)


def shut_in(folder: int) -> None:
    """From now on nothing outside of `folder` has a name.

    Nor is anything in it taken for a module: where Python's own were, there may now be a file of the folder's user.
    """
    sys.meta_path.clear()
    sys.path.clear()
    os.fchdir(folder)
    os.chroot(".")


def become(uid: int, *, reading_everything: bool = False, keeping: Sequence[int] = ()) -> None:
    """Goes on as `uid` for good, without any right of root's but, on demand, that of reading, or these capabilities."""
    if reading_everything:
        keeping = (CAP_DAC_READ_SEARCH,)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    if keeping:
        _prctl(PR_SET_KEEPCAPS, 1)
    os.setresuid(uid, uid, uid)
    if keeping:
        _keep_only(keeping)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _keep_only(capabilities: Sequence[int]) -> None:
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    kept = sum(1 << one for one in capabilities)
    data = struct.pack("=6I", kept, kept, 0, 0, 0, 0)  # effective, permitted, inheritable; twice, the higher ones last
    if _libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "the rights that are needed cannot be kept")


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
