"""What the egress rules do to packets, in networks made for it: by nftables and by iptables, beside other firewalls.

An instance's network, this server between, and machines elsewhere are namespaces joined by cables, so nothing here
touches the machine's own firewall. What real containers reach is shown in tests/promises.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.firewalls import FIREWALLS

PORT = 8099
INSTANCE, GATEWAY = "10.9.8.2", "10.9.8.1"
PUBLIC, PRIVATE, SERVER = "203.0.113.10", "10.66.7.10", "203.0.113.1"
BRIDGE = "lp-0"
ID = "0123abcd"

RULES = """
import asyncio, json, sys
from launchpad.runtime.egress import EgressRules
from launchpad.settings import EgressSettings

async def main(what, settings, deployment_id, bridge):
    rules = EgressRules(EgressSettings.model_validate(json.loads(settings)), deployment_id)
    match what:
        case "ensure":
            await rules.ensure(bridge)
        case "remove":
            await rules.remove()
    found = {"gaps": await rules.gaps(bridge), "shields": await rules.shields(bridge)}
    print(json.dumps({**found, "firewall": await rules.firewall(bridge)}))

asyncio.run(main(*sys.argv[1:]))
"""
PROBE = "import socket,sys\ns=socket.socket(); s.settimeout(4)\nprint(s.connect_ex((sys.argv[1], int(sys.argv[2]))))"
SERVE = (
    "import socket,sys\ns=socket.create_server(('0.0.0.0', %d))\nprint(flush=True)\nwhile True: s.accept()[0].close()"
)

# What engines and administrators have in force besides; none of it may open what our rules close.
ACCEPTS = [
    "-P FORWARD DROP",
    f"-A FORWARD -o {BRIDGE} -j ACCEPT",
    f"-A FORWARD -i {BRIDGE} -j ACCEPT",
    "-A INPUT -j ACCEPT",
]
OTHERS: dict[str, tuple[str, list[str]]] = {
    "alone": ("iptables", []),
    "beside iptables-nft": ("iptables-nft", ACCEPTS),
    "beside iptables-legacy": ("iptables-legacy", ACCEPTS),
}


class Networks:
    """A server with an instance's bridge and a network outside; a machine in each, and what listens on each."""

    def __init__(self, stack: ExitStack) -> None:
        mark = secrets.token_hex(3)
        self.server, self.instance, self.outside = (f"lp{kind}{mark}" for kind in ("s", "i", "o"))
        for name in (self.server, self.instance, self.outside):
            run("ip", "netns", "add", name)
            stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
            run("ip", "-n", name, "link", "set", "lo", "up")
        on = ("ip", "-n", self.server)
        run(*on, "link", "add", BRIDGE, "type", "bridge")
        for near, namespace, addresses in (
            ("inside", self.instance, [INSTANCE]),
            ("cable", self.outside, [PUBLIC, PRIVATE]),
        ):
            run(*on, "link", "add", near, "type", "veth", "peer", "name", "far", "netns", namespace)
            for address in addresses:
                run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "far")
            run("ip", "-n", namespace, "link", "set", "far", "up")
            run(*on, "link", "set", near, "up")
        run(*on, "link", "set", "inside", "master", BRIDGE)
        run(*on, "link", "set", BRIDGE, "up")
        for address, device in ((GATEWAY, BRIDGE), (SERVER, "cable"), ("10.66.7.1", "cable")):
            run(*on, "address", "add", f"{address}/24", "dev", device)
        run("ip", "-n", self.instance, "route", "add", "default", "via", GATEWAY)
        run("ip", "-n", self.outside, "route", "add", "default", "via", SERVER)
        run("ip", "netns", "exec", self.server, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for name in (self.server, self.instance, self.outside):
            command = ["ip", "netns", "exec", name, sys.executable, "-c", SERVE % PORT]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()

    def reaches(self, namespace: str, address: str, port: int = PORT) -> bool:
        """Whether a connection comes about."""
        return self._tried(namespace, address, port) == 0

    def refused_at_once(self, address: str, port: int = PORT) -> bool:
        begun = time.monotonic()
        tried = self._tried(self.instance, address, port)
        return tried not in (0, 11) and time.monotonic() - begun < 60  # 11, EAGAIN: the probe's own patience

    def _tried(self, namespace: str, address: str, port: int) -> int:
        command = ("ip", "netns", "exec", namespace, sys.executable, "-c", PROBE, address, str(port))
        return int(run(*command))

    def rules(self, what: str, path: Path | None = None, **settings: Any) -> Mapping[str, Any]:
        """Has the rules put in place, removed or looked at, on the server."""
        variables = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"} if path else None
        given = [what, json.dumps(settings), ID, BRIDGE]
        command = ["ip", "netns", "exec", self.server, sys.executable, "-c", RULES, *given]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
        assert done.returncode == 0, done.stderr
        found: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def by_hand(self, *command: str) -> str:
        return run("ip", "netns", "exec", self.server, *command)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


@pytest.fixture
def networks() -> Iterator[Networks]:
    with ExitStack() as stack:
        yield Networks(stack)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("firewall", FIREWALLS)
def test_an_instance_reaches_the_internet_and_nothing_of_the_server_or_its_network(
    networks: Networks, firewall: str, other: str
) -> None:
    program, commands = OTHERS[other]
    for command in commands:
        networks.by_hand(program, *command.split())
    everything = [PUBLIC, PRIVATE, SERVER, GATEWAY]
    assert [networks.reaches(networks.instance, address) for address in everything] == [True] * 4
    assert networks.reaches(networks.outside, INSTANCE)

    found = networks.rules("ensure", firewall=firewall)
    assert found == {"gaps": [], "shields": True, "firewall": firewall}
    assert networks.reaches(networks.instance, PUBLIC)
    assert all(map(networks.refused_at_once, (PRIVATE, SERVER, GATEWAY)))
    assert not networks.reaches(networks.outside, INSTANCE), "other machines are kept out"
    assert networks.reaches(networks.server, INSTANCE), "nginx is not"
    assert networks.reaches(networks.outside, SERVER), "others' traffic with the server is none of ours"

    allowed: dict[str, Any] = {"allow": [f"{PRIVATE}:{PORT}"], "deny": [f"{PUBLIC}/32"]}
    assert networks.rules("ensure", firewall=firewall, **allowed)["gaps"] == []
    assert networks.reaches(networks.instance, PRIVATE)
    assert networks.refused_at_once(PUBLIC)
    assert networks.refused_at_once(PRIVATE, PORT + 1)

    networks.rules("remove", firewall=firewall)
    assert [networks.reaches(networks.instance, address) for address in everything] == [True] * 4


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_nftables_holds_whatever_another_firewall_accepts_before_it(networks: Networks, program: str) -> None:
    networks.rules("ensure", firewall="nftables")
    for chain in ("INPUT", "FORWARD"):
        networks.by_hand(program, "-I", chain, "-j", "ACCEPT")
    assert all(map(networks.refused_at_once, (PRIVATE, SERVER, GATEWAY)))
    networks.by_hand(program, "-P", "FORWARD", "DROP")
    networks.by_hand(program, "-F", "FORWARD")
    assert not networks.reaches(networks.instance, PUBLIC), "and opens nothing that another closes"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("nft flush ruleset", "is missing"),
        ("nft delete table inet launchpad_0123abcd", "is missing"),
        ("nft flush chain inet launchpad_0123abcd outward", "the chain outward of the table"),
        ("nft flush chain inet launchpad_0123abcd input", "the chain input of the table"),
        ("nft insert rule inet launchpad_0123abcd inward accept", "the chain inward of the table"),
        ("nft add table inet launchpad_0123abcd { flags dormant ; }", "is switched off"),
    ],
)
def test_what_a_firewalls_reload_or_a_hand_took_away_is_told_and_comes_back(
    networks: Networks, command: str, words: str
) -> None:
    networks.rules("ensure", firewall="nftables")
    networks.by_hand(*command.split())
    assert any(networks.reaches(networks.instance, address) for address in (PRIVATE, SERVER)), "the rules kept it out"
    gaps = networks.rules("look", firewall="nftables")["gaps"]
    assert words in "; ".join(gaps)
    assert networks.rules("ensure", firewall="nftables")["gaps"] == []
    assert all(map(networks.refused_at_once, (PRIVATE, SERVER, GATEWAY)))


def test_a_table_without_its_hook_is_told_and_comes_back(networks: Networks, tmp_path: Path) -> None:
    """Its rules are all there, and no packet passes them."""
    networks.rules("ensure", firewall="nftables")
    listed = networks.by_hand("nft", "-s", "list", "table", "inet", "launchpad_0123abcd").splitlines()
    unhooked = "\n".join(line for line in listed if "type filter hook" not in line)
    (tmp_path / "rules").write_text(f"delete table inet launchpad_0123abcd\n{unhooked}\n")
    networks.by_hand("nft", "-f", str(tmp_path / "rules"))
    assert networks.reaches(networks.instance, PRIVATE)
    assert "no packets pass the chain forward" in "; ".join(networks.rules("look", firewall="nftables")["gaps"])
    assert networks.rules("ensure", firewall="nftables")["gaps"] == []
    assert networks.refused_at_once(PRIVATE)


def test_iptables_holds_while_the_engine_makes_a_network(networks: Networks) -> None:
    """It takes the rule away that leads to its chain, and puts it back."""
    for command in ("-N DOCKER-USER", "-I FORWARD -j DOCKER-USER"):
        networks.by_hand("iptables", *command.split())
    assert networks.rules("ensure", firewall="iptables")["gaps"] == []
    assert f"-A DOCKER-USER -i {BRIDGE}" in networks.by_hand("iptables", "-S")
    networks.by_hand("iptables", *["-D", "FORWARD", "-j", "DOCKER-USER"])
    assert networks.refused_at_once(PRIVATE)
    assert not networks.reaches(networks.outside, INSTANCE)
    networks.by_hand("iptables", *["-I", "FORWARD", "-j", "DOCKER-USER"])
    assert networks.rules("remove", firewall="iptables")["shields"] is False
    assert "LP-" not in networks.by_hand("iptables", "-S")
    assert networks.reaches(networks.outside, INSTANCE), "without the rules"


def test_the_rules_move_to_the_other_firewall_without_a_gap_between(networks: Networks) -> None:
    """Such as after an upgrade, or once nftables is installed: never are there none, and never two sets that differ."""
    for firewall in ("iptables", "nftables", "iptables"):
        found = networks.rules("ensure", firewall=firewall)
        assert (found["gaps"], found["firewall"]) == ([], firewall)
        assert networks.refused_at_once(PRIVATE)
        assert ("LP-" in networks.by_hand("iptables", "-S")) == (firewall == "iptables")
        assert ("launchpad_" in networks.by_hand("nft", "list", "tables")) == (firewall == "nftables")


@pytest.mark.parametrize("nft", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\ncase $* in *-c*) exit 1;; esac\nexec {nft} $*\n"])
def test_without_a_working_nftables_the_rules_are_iptables(networks: Networks, tmp_path: Path, nft: str) -> None:
    """Where nft is missing or fails, and where the kernel does not know what is in the table."""
    (tmp_path / "nft").write_text(nft.format(nft="/usr/sbin/nft"))
    (tmp_path / "nft").chmod(0o755)
    assert networks.rules("ensure", path=tmp_path) == {"gaps": [], "shields": True, "firewall": "iptables"}
    assert networks.refused_at_once(PRIVATE)
    assert networks.rules("ensure") == {"gaps": [], "shields": True, "firewall": "nftables"}
    assert networks.refused_at_once(PRIVATE)
