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

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 5.0
AT_ONCE = 100  # addresses in one command


async def cut(addresses: Sequence[Address]) -> bool:
    """Closes every connection that was made from this machine to one of the addresses.

    Returns:
        Whether it could be done; if not, the reason is in the log.
    """
    worked = True
    for first in range(0, len(addresses), AT_ONCE):
        wanted = " or ".join(f"dst {address.host}:{address.port}" for address in addresses[first : first + AT_ONCE])
        worked = await _ss("-K", wanted) is not None and worked
        # Where the kernel cannot do it, ss closes nothing and says nothing.
        left = await _ss(wanted) if worked else ""
        if left:
            log.error("connections.not_cut", reason="the kernel lacks INET_DIAG_DESTROY, or they were opened again")
            worked = False
    return worked


async def can_cut() -> bool:
    """Whether it works here, tried on a connection of our own."""
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    reader, writer = await asyncio.open_connection(host, port)
    try:
        await cut([Address(host, port)])
        async with asyncio.timeout(1):
            await reader.read()
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    else:
        return False
    finally:
        writer.close()
        server.close()


async def _ss(*arguments: str) -> str | None:
    """What `ss` lists of established connections; None when it does not work."""
    *flags, wanted = arguments
    program = shutil.which("ss", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        log.error("connections.not_cut", reason="the program ss is missing; it is in the package iproute2")
        return None
    process = await asyncio.create_subprocess_exec(
        *(program, *flags, "-H", "-t", "-n", "state", "established", wanted),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        log.error("connections.not_cut", reason="ss does not finish")
        return None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
    if process.returncode != 0:
        log.error("connections.not_cut", reason=err.decode(errors="replace").strip()[:500])
        return None
    return out.decode(errors="replace").strip()
