"""The egress rules as a table of nftables of our own, which is replaced as a whole, in one step.

Its chains come before those of iptables and of other firewalls. What they refuse is refused; what they let pass goes on
to the others, so nothing is opened that another firewall closes, and none can let pass what is refused here. It works
beside the engine's iptables, of either kind. Tried with nftables 1.0.6, kernel 6.18 and Docker 20.10.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import structlog

from ..settings import EgressSettings
from .firewall import PRIVATE_RANGES, call, resolvers, run

log = structlog.get_logger(__name__)

PRIORITY = -5  # iptables' chains, and those of firewalls in general, have 0
OUTWARD, INWARD, FORWARD, INPUT = "outward", "inward", "forward", "input"
REFUSE_TCP = "meta l4proto tcp reject with tcp reset"  # at once and clearly, so that no program hangs
REFUSE = "reject with icmp type admin-prohibited"

Chains = Mapping[str, Sequence[str]]


class NftablesRules:
    """The rules of one deployment's network. `Firewall` says what each method promises."""

    def __init__(self, settings: EgressSettings, deployment_id: str) -> None:
        self._settings = settings
        self.table = f"launchpad_{deployment_id[:16]}"

    async def works(self, bridge: str) -> bool:
        """Whether this server would take the table: nft is there, and the kernel knows all that is in it."""
        text = table_text(self.table, await self._chains(bridge))
        listed, _ = await call("nft", ("-j", "list", "tables"))
        checked, _ = await call("nft", ("-c", "-f", "-"), text)
        return listed == checked == 0

    async def ensure(self, bridge: str) -> None:
        wanted = await self._chains(bridge)
        if differences(await self._listed(), wanted):
            await run("nft", ("-f", "-"), package="nftables", feed=table_text(self.table, wanted))
            log.info("egress.rules_in_place", table=self.table, bridge=bridge)

    async def gaps(self, bridge: str) -> list[str]:
        found = differences(await self._listed(), await self._chains(bridge))
        return [f"nftables: {each.format(table=self.table)}" for each in found]

    async def shields(self, bridge: str) -> bool:
        marks = [_mark(rule) for rule in (await self._chains(bridge))[FORWARD]]
        return marks[0] in _marks(await self._listed(), FORWARD)

    async def remove(self) -> None:
        if await self._listed() is not None:
            await call("nft", ("delete", "table", "inet", self.table))

    async def _chains(self, bridge: str) -> Chains:
        return chains(self._settings, bridge, await asyncio.to_thread(resolvers))

    async def _listed(self) -> list[Mapping[str, Any]] | None:
        """The table as the kernel has it; None where there is none."""
        code, said = await call("nft", ("-j", "list", "table", "inet", self.table))
        if code != 0:
            return None
        try:
            found: list[Mapping[str, Any]] = json.loads(said)["nftables"]
        except (ValueError, KeyError):
            return None
        return found


def chains(settings: EgressSettings, bridge: str, name_servers: Sequence[str]) -> Chains:
    """The rules of each chain, in nft's words."""
    allowed = [target for entry in settings.allow for target in _target(entry)]
    allowed += [f"ip daddr {server} {kind} dport 53" for server in name_servers for kind in ("udp", "tcp")]
    # IPv6, which instances do not have: nothing passes.
    begin = [
        "meta nfproto ipv6 drop",
        "ct state { established, related } return",
        *(f"{each} return" for each in allowed),
    ]
    denied = (*PRIVATE_RANGES, *settings.deny)
    return {
        FORWARD: [
            # nginx comes from this machine, so what it sends is not forwarded.
            f'iifname != "{bridge}" oifname "{bridge}" ct state != {{ established, related }} drop',
            f'iifname "{bridge}" jump {OUTWARD}',
        ],
        INPUT: [f'iifname "{bridge}" jump {INWARD}'],
        OUTWARD: [*begin, *(f"ip daddr {each} {how}" for each in denied for how in (REFUSE_TCP, REFUSE))],
        INWARD: [*begin, REFUSE_TCP, REFUSE],
    }


def _target(entry: str) -> Iterator[str]:
    """`10.1.2.0/24`, or `10.1.2.3/32:3128`, as nft writes it."""
    target, _, port = entry.partition(":")
    yield f"ip daddr {target} tcp dport {port}" if port else f"ip daddr {target}"


def table_text(table: str, wanted: Chains) -> str:
    """What `nft -f` is fed: the table goes, if there is one, and comes back as it should be, in one transaction."""
    lines = [f"table inet {table}", f"delete table inet {table}", f"table inet {table} {{"]
    for name in (OUTWARD, INWARD, FORWARD, INPUT):  # who jumps comes after where to
        lines.append(f"\tchain {name} {{")
        if name in (FORWARD, INPUT):
            lines.append(f"\t\ttype filter hook {name} priority {PRIORITY}; policy accept;")
        lines += [f'\t\t{rule} comment "{_mark(rule)}"' for rule in wanted[name]]
        lines.append("\t}")
    return "\n".join([*lines, "}", ""])


def differences(listed: Sequence[Mapping[str, Any]] | None, wanted: Chains) -> list[str]:
    """What the kernel's table lacks, has too much or has changed, `{table}` standing for its name.

    Every rule carries a mark made of its own text, which a rule that is changed loses: how a version of nft spells what
    it lists is nothing to go by.
    """
    if listed is None:
        return ["the table {table} is missing"]
    found = []
    for name, rules in wanted.items():
        if _marks(listed, name) != [_mark(rule) for rule in rules]:
            found.append(f"the chain {name} of the table {{table}} does not match the settings")
        elif name in (FORWARD, INPUT) and not _is_hooked(listed, name):
            found.append(f"no packets pass the chain {name} of the table {{table}}")
    if any("table" in each and each["table"].get("flags") for each in listed):
        found.append("the table {table} is switched off")
    return found


def _mark(rule: str) -> str:
    return hashlib.sha256(rule.encode()).hexdigest()[:12]


def _marks(listed: Sequence[Mapping[str, Any]] | None, chain: str) -> list[str]:
    rules = [each["rule"] for each in listed or () if "rule" in each]
    return [str(rule.get("comment", "")) for rule in rules if rule["chain"] == chain]


def _is_hooked(listed: Sequence[Mapping[str, Any]], name: str) -> bool:
    wanted = {"type": "filter", "hook": name, "prio": PRIORITY, "policy": "accept"}
    found = [each["chain"] for each in listed if "chain" in each and each["chain"]["name"] == name]
    return bool(found) and all(found[0].get(key) == value for key, value in wanted.items())
