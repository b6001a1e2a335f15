"""Closes connections on this machine, for a process that may."""

from __future__ import annotations

from collections.abc import Sequence

from ..domain.instances import Address
from . import connections


class KernelCutter:
    """See `base.ConnectionCutter`: the kernel closes them, at our request."""

    async def cut(self, addresses: Sequence[Address]) -> None:
        await connections.cut(addresses)

    async def can_cut(self) -> bool:
        return await connections.can_cut()
