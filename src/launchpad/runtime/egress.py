"""What instances may reach: the internet and what the settings allow; not the server itself, nor private networks.

And who reaches them: this server only. Engines before 28.0 let machines of the same network in, to a container's own
address and to ports that are published on the loopback interface (moby#45610; tried with 20.10).

The rules are a table of nftables, or chains of iptables where the server has no nftables. They are put in as a whole,
and looked after by every sweep: the reload of a firewall takes them away.
"""

from __future__ import annotations

from ..settings import EgressSettings
from .egress_iptables import IptablesRules
from .egress_nftables import NftablesRules
from .firewall import Firewall


class EgressRules:
    """The rules of one deployment's network, by the firewall that this server has.

    Args:
        settings: what is allowed and denied besides, and which firewall is to be used.
        deployment_id: stands in the names of the table or the chains.
    """

    def __init__(self, settings: EgressSettings, deployment_id: str) -> None:
        self._settings = settings
        self._nftables = NftablesRules(settings, deployment_id)
        self._iptables = IptablesRules(settings, deployment_id)

    async def ensure(self, bridge: str) -> None:
        """Puts the rules in place where they are not. What the other firewall has of them goes afterwards.

        Raises:
            NetworkUnavailable: they cannot be put in place, so nobody's container may start.
        """
        if self._settings.rules == "off":
            return
        chosen, other = await self._choose(bridge)
        await chosen.ensure(bridge)
        await other.remove()

    async def gaps(self, bridge: str) -> list[str]:
        """What is not in force of the rules, in an administrator's words; changes nothing."""
        if self._settings.rules == "off":
            return []
        return await (await self._choose(bridge))[0].gaps(bridge)

    async def shields(self, bridge: str) -> bool | None:
        """Whether our rule against machines of the same network is in place; None: it is not ours to put."""
        if self._settings.rules == "off":
            return None
        return await (await self._choose(bridge))[0].shields(bridge)

    async def firewall(self, bridge: str) -> str:
        """Which firewall holds the rules: `nftables` or `iptables`; empty where none is to."""
        if self._settings.rules == "off":
            return ""
        return "nftables" if (await self._choose(bridge))[0] is self._nftables else "iptables"

    async def remove(self) -> None:
        """Takes the rules away, whichever firewall has them and whatever leads to them."""
        await self._nftables.remove()
        await self._iptables.remove()

    async def _choose(self, bridge: str) -> tuple[Firewall, Firewall]:
        """The one whose rules are in force, and the other. nftables is it where the kernel takes the whole table."""
        wanted = self._settings.firewall
        if wanted == "nftables" or (wanted == "auto" and await self._nftables.works(bridge)):
            return self._nftables, self._iptables
        return self._iptables, self._nftables
