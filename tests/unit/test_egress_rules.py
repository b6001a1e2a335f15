"""The text of the egress rules, and where the resolvers come from. What it does is shown in tests/promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from launchpad.errors import SettingsError
from launchpad.runtime.egress import PRIVATE_RANGES, gaps, resolvers, rules
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
