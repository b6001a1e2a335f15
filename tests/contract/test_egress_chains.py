"""Where the egress rules of iptables are hung up, with real iptables in a network of its own."""

from __future__ import annotations

import subprocess
import sys

# Runs where nothing is but what it makes: what it does to the firewall is done to nobody.
SCRIPT = """
import asyncio, subprocess, sys
from launchpad.runtime.egress import EgressRules
from launchpad.settings import EgressSettings

def iptables(*words):
    return subprocess.run(["iptables", *words], check=True, capture_output=True, text=True).stdout

async def main():
    rules = EgressRules(EgressSettings(firewall="iptables"), "0123abcd")
    iptables("-N", "DOCKER-USER")
    iptables("-A", "FORWARD", "-j", "DOCKER-USER")
    await rules.ensure("lp-0")
    listed = iptables("-S").splitlines()
    assert "-A DOCKER-USER -i lp-0 -j LP-0123abcd-FWD" in listed, listed
    assert await rules.gaps("lp-0") == []
    holds, *commands = sys.argv[1:]
    for command in commands:
        iptables(*command.split())
    found = await rules.gaps("lp-0")
    if holds == "holds":
        assert found == [], found
        assert await rules.shields("lp-0") is True
    else:
        assert any("no rule leads from FORWARD" in each for each in found), found
    await rules.ensure("lp-0")
    listed = iptables("-S").splitlines()
    assert "-A FORWARD -i lp-0 -j LP-0123abcd-FWD" in listed, listed
    assert await rules.gaps("lp-0") == []
    assert await rules.shields("lp-0") is True
    assert any("LP-0123abcd-OUT" in each for each in listed if each.startswith("-A FORWARD")), listed
    await rules.remove()
    assert "LP-" not in iptables("-S")

asyncio.run(main())
"""


def _in_a_network_of_its_own(*commands: str, holds: bool = False) -> None:
    """Args: commands: of iptables, after which the rules still hold, or are told to have a gap and then mended."""
    given = ["holds" if holds else "gap", *commands]
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", SCRIPT, *given], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_rules_hold_where_a_firewall_left_the_engines_chain_but_nothing_that_leads_to_it() -> None:
    """Such as after `iptables -P FORWARD ACCEPT; iptables -F`, until the engine starts again."""
    _in_a_network_of_its_own("-P FORWARD ACCEPT", "-F")


def test_rules_hold_where_only_the_way_to_the_engines_chain_was_taken() -> None:
    """As the engine does for a moment, each time it makes a network."""
    _in_a_network_of_its_own("-D FORWARD -j DOCKER-USER", holds=True)
