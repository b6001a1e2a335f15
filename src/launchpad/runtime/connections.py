"""Ends connections to instances. nginx carries their bytes, and the kernel is asked to close what nginx opened.

`ss -K` (iproute2) destroys TCP sockets by address; the kernel has to be built with INET_DIAG_DESTROY, as Debian's and
Ubuntu's are. Tried with iproute2 6.1 and kernel 6.18: both ends see their connection aborted at once.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress

import structlog

from ..domain.instances import Address
from ..errors import ConnectionsNotCut

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 5.0
KILLED_SECONDS = 1.0  # until a program that was killed is gone
AT_ONCE = 100  # addresses in one command


async def cut(addresses: Sequence[Address]) -> None:
    """Closes every connection that was made from this machine to one of the addresses.

    Raises:
        ConnectionsNotCut: some of them may still be open; of the reason the log knows more. The rest was closed.
    """
    failed: ConnectionsNotCut | None = None
    for first in range(0, len(addresses), AT_ONCE):
        wanted = " or ".join(f"dst {address}" for address in addresses[first : first + AT_ONCE])
        try:
            await _cut(wanted)
        except ConnectionsNotCut as error:
            failed = error
    if failed is not None:
        raise failed


async def _cut(wanted: str) -> None:
    before = _pairs(await _ss(wanted))
    if not before:
        return
    await _ss("-K", wanted)
    # Where the kernel cannot do it, ss closes nothing and says nothing. Others may have come meanwhile, by right.
    if before & _pairs(await _ss(wanted)):
        raise _not_cut("the kernel lacks INET_DIAG_DESTROY")


def _pairs(listed: str) -> set[tuple[str, ...]]:
    """The two ends of each connection, of lines of "0 0 127.0.0.1:41000 127.0.0.1:20001"."""
    return {tuple(line.split()[2:4]) for line in listed.splitlines()}


async def can_cut() -> bool:
    """Whether it works here, tried on a connection of our own."""
    accepted: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, there: accepted.append(there), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    reader, writer = await asyncio.open_connection(host, port)
    try:
        await cut([Address(host, port)])
        async with asyncio.timeout(1):
            await reader.read()
    except ConnectionError:
        return True
    except (TimeoutError, ConnectionsNotCut):
        return False
    else:
        return False
    finally:
        for open_end in (writer, *accepted):
            open_end.close()
        server.close()


async def _ss(*arguments: str) -> str:
    """What `ss` lists of established connections.

    Raises:
        ConnectionsNotCut: it does not work.
    """
    *flags, wanted = arguments
    program = shutil.which("ss", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise _not_cut("the program ss is missing; it is in the package iproute2")
    try:
        process = await asyncio.create_subprocess_exec(
            *(program, *flags, "-H", "-t", "-n", "state", "established", wanted),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:  # no memory, no process to be had
        raise _not_cut(f"ss does not start: {error.strerror}") from error
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        raise _not_cut("ss does not finish") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            with suppress(TimeoutError):
                async with asyncio.timeout(KILLED_SECONDS):
                    await process.wait()
    if process.returncode != 0:
        raise _not_cut("ss has failed", said=err.decode(errors="replace").strip()[:500])
    return out.decode(errors="replace").strip()


def _not_cut(reason: str, **more: str) -> ConnectionsNotCut:
    log.error("connections.not_cut", reason=reason, **more)
    return ConnectionsNotCut(f"Open connections could not be closed: {reason}.", retry_after_seconds=1)
