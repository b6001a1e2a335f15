#!/usr/bin/env python3
"""Runs $CHROMIUM with these arguments, deaf to changes of the machine's network interfaces.

Every container that other tests start or end changes the interfaces, and Chromium then gives up whatever it is loading
(ERR_NETWORK_CHANGED). It learns of them from the kernel by a netlink socket; where it cannot have one, it takes the
network to be there and to stay.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
AF_NETLINK = 16
SOCKET = {"x86_64": 41, "aarch64": 198}  # the number of socket(2)
# Of linux/filter.h and linux/seccomp.h: load a word, compare it, answer.
LOAD, IF_EQUAL, ANSWER = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
NUMBER_AT, FIRST_ARGUMENT_AT = 0, 16  # in struct seccomp_data, on machines that put the low half first


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def without_netlink() -> None:
    """From now on this process and its children get no netlink sockets.

    Raises:
        OSError: the kernel does not do that.
    """
    instructions = b"".join(
        struct.pack("=HBBI", *each)
        for each in (
            (LOAD, 0, 0, NUMBER_AT),
            (IF_EQUAL, 0, 3, SOCKET[os.uname().machine]),
            (LOAD, 0, 0, FIRST_ARGUMENT_AT),
            (IF_EQUAL, 0, 1, AF_NETLINK),
            (ANSWER, 0, 0, FAIL | errno.EAFNOSUPPORT),
            (ANSWER, 0, 0, ALLOW),
        )
    )
    libc = ctypes.CDLL(None, use_errno=True)
    held = _Filter(len(instructions) // 8, instructions)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(held), 0, 0),
    ):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    without_netlink()
    os.execv(os.environ["CHROMIUM"], [os.environ["CHROMIUM"], *sys.argv[1:]])
