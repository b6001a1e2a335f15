"""The text of the egress rules, and where the resolvers come from. What it does is shown in tests/promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from launchpad.errors import SettingsError
from launchpad.runtime.egress_iptables import gaps, rules
from launchpad.runtime.egress_nftables import FORWARD, INPUT, INWARD, OUTWARD, chains, differences, table_text
from launchpad.runtime.firewall import PRIVATE_RANGES, resolvers
from launchpad.settings import EgressSettings, tables


def lines(settings: EgressSettings, *servers: str) -> list[str]:
    return rules(settings, "F", "I", servers).splitlines()


def test_what_is_allowed_comes_before_what_is_refused_and_replies_before_both() -> None:
    allowed = EgressSettings(allow=("10.1.2.0/24", "192.168.7.9:3128"), deny=("203.0.113.0/24",))
    text = lines(allowed, "10.0.0.53")
    forward = [line.removeprefix("-A F ") for line in text if line.startswith("-A F ")]
    assert forward[1].endswith("--ctstate ESTABLISHED,RELATED -j RETURN")
    assert forward[2:6] == [
        "-d 10.1.2.0/24 -j RETURN",
        "-d 192.168.7.9/32 -p tcp --dport 3128 -j RETURN",
        "-d 10.0.0.53 -p udp --dport 53 -j RETURN",
        "-d 10.0.0.53 -p tcp --dport 53 -j RETURN",
    ]
    refused = forward[6:]
    assert all("-j REJECT" in line for line in refused)
    for denied in (*PRIVATE_RANGES, "203.0.113.0/24"):
        assert sum(f"-d {denied} " in line for line in refused) == 2
    inward = [line for line in text if line.startswith("-A I ")]
    assert inward[-1] == "-A I -j REJECT --reject-with icmp-admin-prohibited", "the server itself: nothing else passes"


def test_nftables_rules_say_the_same_in_the_same_order() -> None:
    allowed = EgressSettings(allow=("10.1.2.0/24", "192.168.7.9:3128"), deny=("203.0.113.0/24",))
    made = chains(allowed, "lp-1", ["10.0.0.53"])
    begin = [
        "meta nfproto ipv6 drop",
        "ct state { established, related } return",
        "ip daddr 10.1.2.0/24 return",
        "ip daddr 192.168.7.9/32 tcp dport 3128 return",
        "ip daddr 10.0.0.53 udp dport 53 return",
        "ip daddr 10.0.0.53 tcp dport 53 return",
    ]
    assert made[OUTWARD][:6] == made[INWARD][:6] == begin
    refused = made[OUTWARD][6:]
    assert all(" reject with " in rule for rule in refused)
    for denied in (*PRIVATE_RANGES, "203.0.113.0/24"):
        assert sum(f"ip daddr {denied} " in rule for rule in refused) == 2
    assert made[INWARD][6:] == ["meta l4proto tcp reject with tcp reset", "reject with icmp type admin-prohibited"]
    text = table_text("t", made).splitlines()
    assert text[:3] == ["table inet t", "delete table inet t", "table inet t {"], "in one transaction"


def listed(*changes: str) -> list[dict[str, dict[str, object]]]:
    """What `nft -j list table` shows of the default rules, as far as it is looked at, less or with some changes."""
    found: list[dict[str, dict[str, object]]] = [{"metainfo": {}}, {"table": {"name": "t"}}]
    for name, rules_of in chains(EgressSettings(), "lp-1", []).items():
        chain: dict[str, object] = {"name": name}
        if name in (FORWARD, INPUT) and f"unhooked {name}" not in changes:
            chain |= {"type": "filter", "hook": name, "prio": -5, "policy": "accept"}
        found.append({"chain": chain})
        text = table_text("t", {**EMPTY, name: rules_of}).splitlines()
        marks = [line.split('comment "')[1][:12] for line in text if "comment" in line]
        marks = marks[1:] if f"less {name}" in changes else marks
        marks = [*reversed(marks)] if f"turned {name}" in changes else marks
        found += [{"rule": {"chain": name, "comment": mark}} for mark in marks]
        if f"more {name}" in changes:
            found.append({"rule": {"chain": name}})
    return found


EMPTY: dict[str, list[str]] = {OUTWARD: [], INWARD: [], FORWARD: [], INPUT: []}


@pytest.mark.parametrize("change", ["less", "more", "turned", "unhooked"])
@pytest.mark.parametrize("name", [OUTWARD, INWARD, FORWARD, INPUT])
def test_a_table_that_lacks_or_has_more_is_told(change: str, name: str) -> None:
    wanted = chains(EgressSettings(), "lp-1", [])
    assert differences(listed(), wanted) == []
    has_nothing_to_change = (change, name) in (("turned", INPUT), ("unhooked", OUTWARD), ("unhooked", INWARD))
    found = differences(listed(f"{change} {name}"), wanted)
    assert len(found) == (not has_nothing_to_change)
    assert all(f"the chain {name}" in each for each in found)


def test_resolvers_are_those_that_the_engine_asks_for_instances(tmp_path: Path) -> None:
    first, second = tmp_path / "resolv.conf", tmp_path / "real.conf"
    first.write_text("search x\nnameserver 127.0.0.53\nnameserver ::1\nnameserver nonsense\nnameserver\n")
    second.write_text("# by systemd\nnameserver 10.0.0.53\nnameserver 10.0.0.53\nnameserver 2001:db8::1\n")
    assert resolvers([first, second, tmp_path / "none"]) == ["10.0.0.53"]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("allow", "mirror.example.org", "write an IPv4 address or range"),
        ("allow", "10.1.2.3:0", "write a port after the colon"),
        ("allow", "10.1.2.3:http", "write a port after the colon"),
        ("allow", "2001:db8::/32", "write a port after the colon"),
        ("deny", "10.1.2.3:80", "write an IPv4 address or range"),
        ("allow", "10.0.0.0/8 -j ACCEPT", "write an IPv4 address or range"),
    ],
)
def test_what_is_no_address_is_refused_with_its_key(key: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError, match=rf"egress\.{key}.*{words}"):
        tables({"egress": {key: [value]}})


HOOKS = [("DOCKER-USER", ("-i", "lp-1", "-j", "F")), ("INPUT", ("-i", "lp-1", "-j", "I"))]
TEXT = """*filter
:F - [0:0]
:I - [0:0]
-A F -m comment --comment 1234
-A F -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN
-A F -d 10.0.0.0/8 -p tcp -j REJECT --reject-with tcp-reset
-A I -j REJECT --reject-with icmp-admin-prohibited
COMMIT
"""
LISTED = """-P INPUT ACCEPT
-N DOCKER-USER
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i eth0 -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -i lp-1 -j I
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A DOCKER-USER -i lp-1 -j F
-A DOCKER-USER -j RETURN
-A F -m comment --comment 1234
-A F -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A F -d 10.0.0.0/8 -p tcp -j REJECT --reject-with tcp-reset
-A I -j REJECT --reject-with icmp-admin-prohibited
"""


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("", "", ""),
        ("-A DOCKER-USER -i lp-1 -j F\n", "", "no rule leads from DOCKER-USER to F"),
        ("-A INPUT -i lp-1 -j I\n", "-A INPUT -i lp-2 -j I\n", "no rule leads from INPUT to I"),
        ("1234", "4321", "the chain F does not match the settings"),
        ("-A F -d 10.0.0.0/8 -p tcp -j REJECT --reject-with tcp-reset\n", "", "the chain F does not"),
        ("-A I -j REJECT --reject-with icmp-admin-prohibited\n", "", "the chain I does not"),
        ("-A INPUT -i lo -j ACCEPT\n", "-A INPUT -p tcp --dport 22 -j ACCEPT\n", "INPUT accepts packets before our"),
        ("-A INPUT -i lo -j ACCEPT\n", "-A INPUT ! -i eth0 -j ACCEPT\n", "INPUT accepts packets before our"),
        ("-A DOCKER-USER -i lp-1", "-A DOCKER-USER -j RETURN\n-A DOCKER-USER -i lp-1", "DOCKER-USER accepts packets"),
    ],
)
def test_rules_that_are_missing_changed_or_passed_by_are_told(before: str, after: str, words: str) -> None:
    assert before in LISTED
    found = gaps(LISTED.replace(before, after) if before else LISTED, TEXT, "1234", HOOKS)
    assert words in "; ".join(found)
    assert len(found) == bool(words)
