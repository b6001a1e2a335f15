"""Which TCP ports of this server can be reached from elsewhere, as far as the server itself can tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from ...settings import Settings
from .findings import Finding, Level, unseen

LISTEN = "0A"  # TCP_LISTEN of linux/include/net/tcp_states.h
SSH = 22
ENGINE_PORTS = (2375, 2376)
FIREWALL = "Let them listen on 127.0.0.1, or close them in the firewall; “ss -ltnp” shows the programs."


@dataclass(frozen=True, order=True)
class Listener:
    """A socket that takes connections. An `address` of 0.0.0.0 or :: is every address of the machine."""

    port: int
    address: str

    @property
    def is_open(self) -> bool:
        """Whether other machines can get at it, if no firewall is in between."""
        address = ip_address(self.address)
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return not (mapped or address).is_loopback


def listeners(proc: Path = Path("/proc")) -> list[Listener] | None:
    """Every listening TCP socket, of IPv4 and IPv6; None where the kernel does not tell."""
    found: set[Listener] = set()
    texts = 0
    for name in ("tcp", "tcp6"):
        try:
            text = (proc / "net" / name).read_text(encoding="ascii")
        except OSError:  # without IPv6 there is no tcp6
            continue
        texts += 1
        found.update(parsed(text))
    return sorted(found) if texts else None


def parsed(text: str) -> Iterable[Listener]:
    """The listening sockets of /proc/net/tcp or /proc/net/tcp6, as proc_pid_net(5) describes them."""
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 3 and words[3] == LISTEN:
            address, _, port = words[1].rpartition(":")
            yield Listener(int(port, 16), str(_address(address)))


def _address(digits: str) -> IPv4Address | IPv6Address:
    """Groups of 32 bits, each as this machine keeps numbers: turned round on all that we run on."""
    groups = [bytes.fromhex(digits[first : first + 8])[::-1] for first in range(0, len(digits), 8)]
    return ip_address(b"".join(groups))


def ports(subject: str, settings: Settings, found: Sequence[Listener] | None) -> list[Finding]:
    """What should not be reachable from outside, and what else is."""
    if found is None:
        return [unseen(subject, "the kernel does not show which ports are open")]
    reachable = sorted({listener.port for listener in found if listener.is_open})
    first, _, last = settings.engine.port_range.partition("-")
    instances = [port for port in reachable if int(first) <= port <= int(last or first)]
    engine = [port for port in reachable if port in ENGINE_PORTS]
    expected = {SSH, 80, 443, *settings.ports}
    others = [port for port in reachable if port not in {*instances, *engine, *expected}]
    said = []
    if silent := _silent(settings, found):
        text = f"Nothing listens on {_list(silent)}, where nginx should accept connections."
        remedy = "Check “systemctl status nginx” and “nginx -t”; a quick start has to be running."
        said.append(Finding(Level.BAD, subject, text, remedy))
    if instances:
        text = f"Reachable from outside, within the range of instances' ports: {_list(instances)}."
        remedy = (
            "Instances themselves use 127.0.0.1 only. Move the program that listens there, or change "
            f"engine.port_range. {FIREWALL}"
        )
        said.append(Finding(Level.BAD, subject, text, remedy))
    if engine:
        text = f"The engine's API listens on port {_list(engine)}: anybody who can reach it controls this server."
        remedy = "Remove tcp:// from “hosts” in /etc/docker/daemon.json and from dockerd's options."
        said.append(Finding(Level.BAD, subject, text, remedy))
    if others:
        text = f"Other programs accept connections from other machines: {_list(others)}."
        said.append(Finding(Level.WARN, subject, text, FIREWALL))
    open_ones = _list([port for port in reachable if port in expected]) or "none"
    return said or [Finding(Level.OK, subject, f"Open to other machines, as far as this server can tell: {open_ones}.")]


def _silent(settings: Settings, found: Iterable[Listener]) -> list[int]:
    """Ports of nginx's that nobody has, where no certificate is asked for that would tell."""
    if settings.is_https and not settings.proxy.trusted:
        return []
    there = {listener.port for listener in found}
    return [port for port in dict.fromkeys(settings.ports) if port not in there]


def _list(ports: Sequence[int]) -> str:
    return ", ".join(map(str, ports))
