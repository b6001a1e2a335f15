"""The egress rules in chains of iptables, where there is no nftables.

The engine's chain DOCKER-USER and the kernel's INPUT lead to our chains, for packets that come in from the instances'
bridge only. Tried with iptables 1.8.9 (nf_tables) and Docker 20.10.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from ..settings import EgressSettings
from .firewall import PRIVATE_RANGES, call, resolvers, run

log = structlog.get_logger(__name__)
_OF_ENGINE = "DOCKER-USER"  # the chain that engines leave to others

WAIT_FOR_LOCK = ("-w", "10")  # iptables' own lock, which the engine takes as well
ANSWERS = "-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN"


class IptablesRules:
    """The rules of one deployment's network. `Firewall` says what each method promises.

    Args:
        settings: what is allowed and denied besides.
        deployment_id: stands in the chains' names.
    """

    def __init__(self, settings: EgressSettings, deployment_id: str) -> None:
        self._settings = settings
        self._forward = f"LP-{deployment_id[:16]}-FWD"
        self._input = f"LP-{deployment_id[:16]}-IN"
        self._shield_name = f"LP-{deployment_id[:16]}-OUT"

    async def ensure(self, bridge: str) -> None:
        for wanted in await self._wanted(bridge):
            await self._put(bridge, wanted)
        for chain in _and_forward(await _outer_chain()):
            if not await _works("iptables", "-C", chain, *self._shield(bridge)):
                await _run("iptables", "-I", chain, "1", *self._shield(bridge))

    async def gaps(self, bridge: str) -> list[str]:
        found = []
        for wanted in await self._wanted(bridge):
            code, listed = await _call(wanted.command, ("-S",), None)
            if code != 0:
                found.append(f"{wanted.command} does not work here")
                continue
            hooks = self._hooks(wanted, bridge)
            found += [f"{wanted.command}: {each}" for each in gaps(listed, wanted.text, wanted.mark, hooks)]
        return found

    async def shields(self, bridge: str) -> bool:
        return await _works("iptables", "-C", await _outer_chain(), *self._shield(bridge))

    async def _wanted(self, bridge: str) -> list[_Wanted]:
        text = rules(self._settings, self._forward, self._input, await asyncio.to_thread(resolvers))
        found = [_Wanted.of("iptables", text, bridge, await _outer_chain())]
        if await asyncio.to_thread(Path("/proc/net/if_inet6").exists):
            found.append(_Wanted.of("ip6tables", closed_rules(self._forward, self._input), bridge, "FORWARD"))
        return found

    def _hooks(self, wanted: _Wanted, bridge: str) -> list[tuple[str, tuple[str, ...]]]:
        return [
            (wanted.outer, ("-i", bridge, "-j", self._forward)),
            ("INPUT", ("-i", bridge, "-j", self._input)),
        ]

    def _shield(self, bridge: str) -> tuple[str, ...]:
        """nginx comes from this machine, so what it sends is not forwarded."""
        forwarded = ("!", "-i", bridge, "-o", bridge, "-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED")
        return (*forwarded, "-m", "comment", "--comment", self._shield_name, "-j", "DROP")

    async def _put(self, bridge: str, wanted: _Wanted) -> None:
        command = wanted.command
        _, listed = await _call(command, ("-S",), None)
        if not all(_is_whole(listed, wanted.text, wanted.mark, chain) for chain in (self._forward, self._input)):
            await _run(f"{command}-restore", "--noflush", feed=wanted.text)
            log.info("egress.rules_in_place", command=command, bridge=bridge)
        for outer, hook in self._hooks(wanted, bridge):
            for chain in _and_forward(outer):
                if not await _works(command, "-C", chain, *hook):
                    await _run(command, "-I", chain, "1", *hook)

    async def remove(self) -> None:
        for command in ("iptables", "ip6tables"):
            _, listed = await _call(command, ("-S",), None)
            if not any(name in listed for name in (self._forward, self._input, self._shield_name)):
                continue
            for line in listed.splitlines():
                verb, chain, *rest = [*line.split(), "", ""]
                leads_to_ours = rest[:1] == ["-i"] and line.endswith((self._forward, self._input))
                if verb == "-A" and (leads_to_ours or self._shield_name in rest):
                    await _works(command, "-D", chain, *filter(None, rest))
            for ours in (self._forward, self._input):
                await _works(command, "-F", ours)
                await _works(command, "-X", ours)


@dataclass(frozen=True)
class _Wanted:
    """The rules of one version of IP. `outer` is the chain of forwarded packets that leads to ours."""

    command: str
    text: str
    mark: str
    outer: str

    @classmethod
    def of(cls, command: str, text: str, bridge: str, outer: str) -> _Wanted:
        mark = hashlib.sha256(f"{text}{bridge}".encode()).hexdigest()[:16]
        return cls(command, text.replace("{mark}", mark), mark, outer)


def gaps(listed: str, text: str, mark: str, hooks: Sequence[tuple[str, tuple[str, ...]]]) -> list[str]:
    """What `iptables -S` lists, held against the rules that should be there.

    Args:
        listed: every chain and rule of the table.
        text: the rules as `iptables-restore` was given them, and the `mark` in them.
        hooks: for each chain that leads to one of ours, what the rule has to say that does.
    """
    there, found = listed.splitlines(), []
    for chain, hook in hooks:
        ours = hook[-1]
        if not _is_whole(listed, text, mark, ours):
            found.append(f"the chain {ours} does not match the settings")
        rule = " ".join(("-A", chain, *hook))
        if rule not in there:
            found.append(f"no rule leads from {chain} to {ours}")
            continue
        bridge = hook[hook.index("-i") + 1]
        earlier = [line for line in there[: there.index(rule)] if line.startswith(f"-A {chain} ")]
        found += [
            f"{chain} accepts packets before our rules are reached ({one})" for one in earlier if _lets(one, bridge)
        ]
    return found


def _is_whole(listed: str, text: str, mark: str, chain: str) -> bool:
    """Whether a chain of ours is as `text` makes it: its mark, where it has one, and every verdict in its place."""
    there, wanted, marked = listed.splitlines(), text.splitlines(), f"-A {chain} -m comment --comment {mark}"
    return (marked in there or marked not in wanted) and _verdicts(there, chain) == _verdicts(wanted, chain)


def _verdicts(lines: Sequence[str], chain: str) -> list[str]:
    """What becomes of a packet, rule by rule; how iptables spells the rest of a rule differs from how it is given."""
    return [line.partition(" -j ")[2].split(" ")[0] for line in lines if line.startswith(f"-A {chain} ")]


def _lets(rule: str, bridge: str) -> bool:
    """Whether a rule lets new packets from the bridge pass."""
    words = rule.split()
    verdict = words[words.index("-j") + 1] if "-j" in words else ""
    if verdict not in ("ACCEPT", "RETURN"):
        return False
    if "--ctstate" in words and not {"NEW", "INVALID"} & set(words[words.index("--ctstate") + 1].split(",")):
        return words[words.index("--ctstate") - 1] == "!"
    if "-i" in words:
        named, negated = words[words.index("-i") + 1], words[words.index("-i") - 1] == "!"
        return (named != bridge) if negated else (named == bridge or named.endswith("+"))
    return True


def _and_forward(outer: str) -> tuple[str, ...]:
    """Where a rule is put: the engine takes what leads to its chain away for a moment, each time it makes a network."""
    return (outer, "FORWARD") if outer == _OF_ENGINE else (outer,)


async def _outer_chain() -> str:
    """The engine's chain for rules like ours, unless a firewall has left it there with nothing that leads to it."""
    return _OF_ENGINE if await _works("iptables", "-C", "FORWARD", "-j", _OF_ENGINE) else "FORWARD"


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


async def _works(command: str, *arguments: str) -> bool:
    """Whether the command says yes; a chain or rule that is not there is a no."""
    return (await _call(command, arguments, None))[0] == 0


async def _run(command: str, *arguments: str, feed: str | None = None) -> None:
    """Raises NetworkUnavailable when it does not work."""
    await run(command, (*WAIT_FOR_LOCK, *arguments), package="iptables", feed=feed)


async def _call(command: str, arguments: Sequence[str], feed: str | None) -> tuple[int, str]:
    return await call(command, (*WAIT_FOR_LOCK, *arguments), feed)
