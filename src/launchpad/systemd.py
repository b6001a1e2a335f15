"""What a service owes systemd, and what it gets from it: sockets, readiness, a sign of life. Without it, nothing.

sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3), of which each is a variable and a datagram.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # random(4)
BOOT_ID_VARIABLE = "BOOT_ID"
FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START


def inherited_socket() -> socket.socket | None:
    """The one listening socket that systemd made for this process; None: there is none."""
    if os.environ.get("LISTEN_FDS") != "1":
        return None
    return next(iter(inherited_sockets()), None)


def inherited_sockets() -> list[socket.socket]:
    """All listening sockets that systemd made for this process, in the order of its unit."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return []
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)  # not for the programs that we start
    descriptors = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


def notify(state: str) -> None:
    """Tells systemd, such as `READY=1` or `STATUS=…`; nothing where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(state.encode(), address)
    except OSError:  # a manager that is gone is no reason to stop
        pass


async def keep_watchdog() -> None:
    """A sign of life at half the time that systemd allows, for ever; returns at once where it wants none.

    It comes from the event loop: one that hangs is a service that hangs.
    """
    allowed = int(os.environ.get("WATCHDOG_USEC", "0") or 0) / 1e6
    if not allowed or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(allowed / 2)


def boot_id() -> str:
    """Another one each time this server is started, 32 hexadecimal digits; empty where it cannot be told.

    Units that see nothing of /proc but processes (ProcSubset=pid) get it in a variable (systemd.unit(5), %b).
    """
    try:
        text = BOOT_ID.read_text(encoding="ascii")
    except OSError:
        text = os.environ.get(BOOT_ID_VARIABLE, "")
    return text.strip().replace("-", "")
