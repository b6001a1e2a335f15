"""The two firewalls that can hold the egress rules, as an administrator's hand finds and changes them."""

from __future__ import annotations

import re
import subprocess
from typing import Literal

Firewall = Literal["nftables", "iptables"]
FIREWALLS: tuple[Firewall, ...] = ("nftables", "iptables")
CHAINS: dict[
    Firewall, tuple[str, str]
] = {  # for each, the chain for what leaves an instance, and the one for what is meant for the server
    "nftables": ("outward", "inward"),
    "iptables": ("FWD", "IN"),
}


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def our_rules(deployment_id: str) -> dict[str, str]:
    """By firewall, what is there of a deployment's rules."""
    table = f"launchpad_{deployment_id[:16]}"
    tables = _run("nft", "list", "tables").splitlines()
    lines = [line for line in _run("iptables", "-S").splitlines() if f"LP-{deployment_id[:16]}-" in line]
    return {
        "nftables": _run("nft", "list", "table", "inet", table) if f"table inet {table}" in tables else "",
        "iptables": "\n".join(lines),
    }


def empty_chain(firewall: Firewall, deployment_id: str, chain: str) -> None:
    """As somebody does who means well."""
    if firewall == "nftables":
        _run("nft", "flush", "chain", "inet", f"launchpad_{deployment_id[:16]}", chain)
    else:
        _run("iptables", "-w", "-F", f"LP-{deployment_id[:16]}-{chain}")


def remove_shield(firewall: Firewall, deployment_id: str) -> None:
    """The rule that keeps machines of the same network out."""
    if firewall == "nftables":
        table = f"launchpad_{deployment_id[:16]}"
        listed = _run("nft", "-a", "list", "chain", "inet", table, "forward")
        (handle,) = re.findall(r'oifname "[^"]+" ct state .* drop .*# handle (\d+)', listed)
        _run("nft", "delete", "rule", "inet", table, "forward", "handle", handle)
    else:
        rules = [each for each in _run("iptables", "-S").splitlines() if f"LP-{deployment_id[:16]}-OUT" in each]
        assert rules
        for rule in rules:
            _run("iptables", "-w", *rule.replace("-A", "-D", 1).split())
