"""What the two firewalls that can hold the egress rules share: the contract, the ranges, and running their programs."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

import structlog

from ..errors import NetworkUnavailable

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 20.0
# Never the internet (RFC 6890), so what answers there is this server, its network, or a cloud's metadata service; the
# last one looks public and is Azure's, where a machine's own extensions and their certificates are to be had.
PRIVATE_RANGES = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "168.63.129.16/32",
)
RESOLVER_FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


class Firewall(Protocol):
    """One way to put the rules of a deployment's network in force."""

    async def ensure(self, bridge: str) -> None:
        """Puts the rules in place where they are not; changes nothing where they are.

        Raises:
            NetworkUnavailable: they cannot be put in place, so nobody's container may start.
        """

    async def gaps(self, bridge: str) -> list[str]:
        """What is not in force of the rules, in an administrator's words; changes nothing."""
        ...

    async def shields(self, bridge: str) -> bool:
        """Whether the rule against machines of the same network is in place."""
        ...

    async def remove(self) -> None:
        """Takes the rules away, whatever leads to them; nothing where there are none."""


def resolvers(files: Sequence[Path] = RESOLVER_FILES) -> list[str]:
    """The name servers that the engine's own resolver asks for instances: IPv4, and not this machine's loopback."""
    found: dict[str, None] = {}
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if len(words) < 2 or words[0] != "nameserver":
                continue
            with suppress(ValueError):
                address = ip_address(words[1])
                if address.version == 4 and not address.is_loopback:
                    found[str(address)] = None
    return list(found)


async def run(command: str, arguments: Sequence[str], *, package: str, feed: str | None = None) -> str:
    """What the command prints.

    Args:
        package: what it comes with, for the administrator.
        feed: its standard input.

    Raises:
        NetworkUnavailable: it does not work.
    """
    code, said = await call(command, arguments, feed)
    if code != 0:
        log.error("egress.rules_refused", command=command, arguments=list(arguments), said=said[:2000])
        raise NetworkUnavailable(
            "The firewall rules that keep instances away from the server and its network could not be applied, so no "
            f"instance is started: {command} does not work. It needs root and the package {package}; with egress.rules "
            "= “off” instances run without them."
        )
    return said


async def call(command: str, arguments: Sequence[str], feed: str | None = None) -> tuple[int, str]:
    """The command's exit code and what it prints; 127 where it is missing, 124 where it does not finish."""
    program = shutil.which(command, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if program is None:
        return 127, f"{command} is missing"
    with _held(feed) as source:
        process = await asyncio.create_subprocess_exec(
            *(program, *arguments), stdin=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, _ = await process.communicate()
    except TimeoutError:
        return 124, f"{command} does not finish"
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
    return process.returncode or 0, out.decode(errors="replace").strip()


@contextmanager
def _held(feed: str | None) -> Iterator[int]:
    """A descriptor to read `feed` from. No pipe: a command that ends without reading it would break our side."""
    if feed is None:
        yield subprocess.DEVNULL
        return
    descriptor = os.memfd_create("firewall-rules")
    with os.fdopen(descriptor, "w+b") as file:
        file.write(feed.encode())
        file.seek(0)
        yield file.fileno()
