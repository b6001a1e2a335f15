"""The instances' network: one bridge on which containers do not reach each other."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import structlog

from ..errors import EngineAnswer, NetworkUnavailable
from .base import LABEL_DEPLOYMENT, NetworkFacts
from .egress import EgressRules
from .engine_client import EngineClient, refused

log = structlog.get_logger(__name__)

ICC_OPTION = "com.docker.network.bridge.enable_icc"
BRIDGE_OPTION = "com.docker.network.bridge.name"
BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")  # ICC off is a rule of iptables
_POOL_WORDS = ("address pool", "address space", "non-overlapping ipv4")


class EngineNetwork:
    """Made at its first use, and believed to be there until somebody says `forget`."""

    def __init__(self, client: EngineClient, name: str, deployment_id: str, egress: EgressRules) -> None:
        self._client = client
        self._egress = egress
        self._name = name
        self._deployment_id = deployment_id
        self._known = False
        self._lock = asyncio.Lock()

    def forget(self) -> None:
        """The engine said that it is gone, or that there are several."""
        self._known = False

    async def ensure(self) -> None:
        """As `Runtime.ensure_network`."""
        if self._known:
            return
        async with self._lock:
            if not self._known:
                await self._make_sure()
                self._known = True

    async def mend(self) -> None:
        """As `Runtime.mend_network`."""
        async with self._lock:
            if await self._of_that_name():
                self._known = False
                await self._make_sure()
                self._known = True

    async def facts(self) -> NetworkFacts:
        """As `Runtime.network`."""
        there = await self._of_that_name()
        if not there:
            return NetworkFacts(exists=False)
        gaps = [] if all(map(_is_apart, there)) else ["containers reach each other: its inter-container traffic is on"]
        if not await asyncio.to_thread(_filters_bridges):
            gaps.append(f"containers reach each other: {BRIDGE_FILTER} is not 1, so the kernel filters nothing there")
        shielded: list[bool | None] = []
        firewall = ""
        for bridge in map(_bridge_of, there):
            gaps += await self._egress.gaps(bridge)
            shielded.append(await self._egress.shields(bridge))
            firewall = await self._egress.firewall(bridge)
        holds = None if None in shielded else all(shielded)
        return NetworkFacts(exists=True, gaps=tuple(gaps), shielded=holds, firewall=firewall)

    async def remove(self) -> None:
        """Takes it away with its rules, when the platform leaves this server; what others have of that name stays.

        Raises:
            EngineRefused: containers are still in it.
        """
        async with self._lock:
            self._known = False
            for network in await self._of_that_name():
                if (network.get("Labels") or {}).get(LABEL_DEPLOYMENT) == self._deployment_id:
                    try:
                        await self._client.call(f"networks/{network['Id']}", "DELETE")
                    except EngineAnswer as error:
                        raise refused(error, "remove the instances' network") from error
            await self._egress.remove()

    async def _make_sure(self) -> None:
        there = await self._of_that_name()
        if not there:
            await self._create()
            there = await self._of_that_name()
        if not there:
            raise NetworkUnavailable("The instances' network was removed while it was being created. Please try again.")
        for network in there:
            if not _is_apart(network):
                raise NetworkUnavailable(
                    f"The engine's network “{self._name}” lets containers reach each other. Remove it, so that it is "
                    "created again, or name another one in engine.network."
                )
        if len(there) > 1:
            await self._leave_one(there)
            there = await self._of_that_name()
        for network in there:
            await self._egress.ensure(_bridge_of(network))

    async def _of_that_name(self) -> list[dict[str, Any]]:
        """Oldest first. The engine's own filter also lists names that only contain this one."""
        filters = json.dumps({"name": [self._name]})
        try:
            listed = await self._client.json("networks", params={"filters": filters})
        except EngineAnswer as error:
            raise refused(error, "list its networks") from error
        same = [network for network in listed if network["Name"] == self._name]
        return sorted(same, key=lambda network: (network["Created"], network["Id"]))

    async def _create(self) -> None:
        body = {
            "Name": self._name,
            "Driver": "bridge",
            "CheckDuplicate": True,  # engines from 25 on always do
            "Options": {ICC_OPTION: "false", BRIDGE_OPTION: _bridge_name(self._name)},
            "Labels": {LABEL_DEPLOYMENT: self._deployment_id},
        }
        try:
            await self._client.call("networks/create", "POST", data=body)
        except EngineAnswer as error:
            if error.engine_status == 409 or "same bridge name" in error.message:  # another process was quicker
                return
            log.warning("engine.no_network", network=self._name, status=error.engine_status, message=error.message)
            if any(words in error.message.lower() for words in _POOL_WORDS):
                raise NetworkUnavailable(
                    "The engine has no network addresses left for the instances' network. Remove unused networks, or "
                    "give the engine larger default-address-pools."
                ) from error
            raise NetworkUnavailable(
                "The instances' network could not be created. Your administrator can find the reason in the log."
            ) from error

    async def _leave_one(self, there: list[dict[str, Any]]) -> None:
        """Older engines let two processes make networks of one name at once, and then start no container on either.

        Every process that sees it takes away the youngest first; one that is in use, or not made by this program,
        stays.
        """
        left = len(there)
        for network in reversed(there):
            if left == 1:
                return
            if LABEL_DEPLOYMENT not in (network.get("Labels") or {}):
                continue
            try:
                await self._client.call(f"networks/{network['Id']}", "DELETE")
            except EngineAnswer as error:
                if error.engine_status != 404:  # 404: another process was quicker
                    log.warning("engine.network_stays", network=network["Id"], message=error.message)
                    continue
            left -= 1
        if left > 1:
            raise NetworkUnavailable(
                f"The engine has {left} networks named “{self._name}”. Remove all but one of them, or name another one "
                "in engine.network."
            )


def _is_apart(network: dict[str, Any]) -> bool:
    """Whether the engine keeps its containers from each other."""
    return network["Driver"] == "bridge" and (network.get("Options") or {}).get(ICC_OPTION) == "false"


def _filters_bridges() -> bool:
    try:
        return BRIDGE_FILTER.read_text(encoding="ascii").strip() == "1"
    except OSError:  # the module br_netfilter is not loaded
        return False


def _bridge_name(network_name: str) -> str:
    """A name for the bridge that can be known before the network is there; Linux allows 15 characters."""
    return f"lp-{hashlib.sha256(network_name.encode()).hexdigest()[:10]}"


def _bridge_of(network: dict[str, Any]) -> str:
    """The name of an existing network's bridge; the engine's own choice where the network was made without ours."""
    return str((network.get("Options") or {}).get(BRIDGE_OPTION) or f"br-{network['Id'][:12]}")
