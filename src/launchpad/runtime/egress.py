"""What instances may reach: the internet and what the settings allow; not the server itself, nor private networks.

The rules are iptables', in chains of our own that the engine's chain DOCKER-USER and the kernel's INPUT lead to, for
packets that come in from the instances' bridge only. They are put in as a whole, and looked after by every sweep: the
reload of a firewall takes them away. Tried with iptables 1.8.9 (nf_tables) and Docker 20.10.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import structlog

from ..errors import NetworkUnavailable
from ..settings import EgressSettings

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 20.0
WAIT_FOR_LOCK = ("-w", "10")  # iptables' own lock, which the engine takes as well
# Never the internet (RFC 6890), so what answers there is this server, its network, or a cloud's metadata service.
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
)
RESOLVER_FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
ANSWERS = "-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN"


class EgressRules:
    """The rules of one deployment's network.

    Args:
        settings: what is allowed and denied besides.
        deployment_id: stands in the chains' names.
    """

    def __init__(self, settings: EgressSettings, deployment_id: str) -> None:
        self._settings = settings
        self._forward = f"LP-{deployment_id[:16]}-FWD"
        self._input = f"LP-{deployment_id[:16]}-IN"

    async def ensure(self, bridge: str) -> None:
        """Puts the rules in place where they are not; nothing where they are.

        Raises:
            NetworkUnavailable: they cannot be put in place, so nobody's container may start.
        """
        if self._settings.rules == "off":
            return
        text = rules(self._settings, self._forward, self._input, await asyncio.to_thread(resolvers))
        mark = hashlib.sha256(f"{text}{bridge}".encode()).hexdigest()[:16]
        outer = "DOCKER-USER" if await _works("iptables", "-n", "-L", "DOCKER-USER") else "FORWARD"
        await self._put("iptables", bridge, text.replace("{mark}", mark), mark, outer)
        if await asyncio.to_thread(Path("/proc/net/if_inet6").exists):
            closed = closed_rules(self._forward, self._input)
            mark = hashlib.sha256(f"{closed}{bridge}".encode()).hexdigest()[:16]
            await self._put("ip6tables", bridge, closed.replace("{mark}", mark), mark, "FORWARD")

    async def _put(self, command: str, bridge: str, text: str, mark: str, outer: str) -> None:
        hooks = ((outer, self._forward), ("INPUT", self._input))
        marked = (self._forward, "-m", "comment", "--comment", mark)
        if not await _works(command, "-C", *marked):
            await _run(f"{command}-restore", "--noflush", feed=text)
            log.info("egress.rules_in_place", command=command, bridge=bridge)
        for chain, ours in hooks:
            if not await _works(command, "-C", chain, "-i", bridge, "-j", ours):
                await _run(command, "-I", chain, "1", "-i", bridge, "-j", ours)

    async def remove(self) -> None:
        """Takes the rules away, whatever leads to them."""
        for command in ("iptables", "ip6tables"):
            _, listed = await _call(command, ("-S",), None)
            for line in listed.splitlines():
                verb, chain, *rest = [*line.split(), "", ""]
                if verb == "-A" and rest[:1] == ["-i"] and line.endswith((self._forward, self._input)):
                    await _works(command, "-D", chain, *filter(None, rest))
            for ours in (self._forward, self._input):
                await _works(command, "-F", ours)
                await _works(command, "-X", ours)


def rules(settings: EgressSettings, forward: str, inward: str, name_servers: Sequence[str]) -> str:
    """The text for `iptables-restore`. `{mark}` is left for a mark by which the whole is found again."""
    allowed = [f"-d {target}{ports}" for entry in settings.allow for target, ports in _targets(entry)]
    allowed += [f"-d {server} -p {kind} --dport 53" for server in name_servers for kind in ("udp", "tcp")]
    lines = ["*filter", f":{forward} - [0:0]", f":{inward} - [0:0]", f"-A {forward} -m comment --comment {{mark}}"]
    for chain in (forward, inward):
        lines.append(f"-A {chain} {ANSWERS}")
        lines += [f"-A {chain} {what} -j RETURN" for what in allowed]
    for denied in (*PRIVATE_RANGES, *settings.deny):
        lines += _refuse(forward, f"-d {denied} ")
    lines += _refuse(inward, "")
    return "\n".join([*lines, "COMMIT", ""])


def closed_rules(forward: str, inward: str) -> str:
    """The same for IPv6, which instances do not have: nothing passes."""
    lines = ["*filter", f":{forward} - [0:0]", f":{inward} - [0:0]", f"-A {forward} -m comment --comment {{mark}}"]
    return "\n".join([*lines, f"-A {forward} -j DROP", f"-A {inward} -j DROP", "COMMIT", ""])


def _refuse(chain: str, what: str) -> list[str]:
    """At once and clearly, so that a program does not hang until it gives up."""
    return [
        f"-A {chain} {what}-p tcp -j REJECT --reject-with tcp-reset",
        f"-A {chain} {what}-j REJECT --reject-with icmp-admin-prohibited",
    ]


def _targets(entry: str) -> list[tuple[str, str]]:
    """`10.1.2.0/24`, or `10.1.2.3:3128`, as iptables writes it."""
    target, _, port = entry.partition(":")
    return [(target, f" -p tcp --dport {port}")] if port else [(target, "")]


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


async def _works(command: str, *arguments: str) -> bool:
    """Whether the command says yes; a chain or rule that is not there is a no."""
    return (await _call(command, arguments, None))[0] == 0


async def _run(command: str, *arguments: str, feed: str | None = None) -> None:
    """Raises NetworkUnavailable when it does not work."""
    code, said = await _call(command, arguments, feed)
    if code != 0:
        log.error("egress.rules_refused", command=command, arguments=arguments, said=said[:2000])
        raise NetworkUnavailable(
            "The rules that keep instances away from the server and its network could not be put in place, so none is "
            f"started: {command} does not work. It needs root and the package iptables; with egress.rules = "
            "“off” you go without them."
        )


async def _call(command: str, arguments: Sequence[str], feed: str | None) -> tuple[int, str]:
    program = shutil.which(command, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if program is None:
        return 127, f"{command} is missing"
    process = await asyncio.create_subprocess_exec(
        *(program, *WAIT_FOR_LOCK, *arguments),
        stdin=subprocess.PIPE if feed is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, _ = await process.communicate(feed.encode() if feed is not None else None)
    except TimeoutError:
        return 124, f"{command} does not end"
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
    return process.returncode or 0, out.decode(errors="replace").strip()
