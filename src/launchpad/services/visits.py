"""What a request to a frozen instance does: somebody's act thaws it, and the rest is told to come again later."""

from __future__ import annotations

import asyncio
from datetime import datetime
from time import monotonic
from typing import Protocol

from ..errors import EngineUnavailable
from .audit import Actor
from .freezing import A_VISIT

THAW_SECONDS = 3.0  # nginx waits four for the gate
AWAKE_SECONDS = 30.0  # so long after a visit, all that its page asks for is part of it
MOST = 10_000


class Thaws(Protocol):
    """See `FreezingService.thaw`."""

    async def thaw(self, instance_id: str, now: datetime, *, actor: Actor = ..., reason: str = "") -> bool: ...


class Visits:
    """Remembers, of this process, whom a visit has woken: what is known of the row may be older."""

    def __init__(self, freezing: Thaws) -> None:
        self._freezing = freezing
        self._woken: dict[str, float] = {}

    async def may_pass(self, instance_id: str, owner: Actor, *, is_persons_act: bool, now: datetime) -> bool:
        """Whether a request goes on to an instance that is frozen, or is to be; if so it is awake.

        Args:
            owner: whose it is: nobody else visits it.
            is_persons_act: whether somebody has made the request, as a page does not by itself.

        Raises:
            EngineUnavailable: it does not go on in time; it will be tried again.
        """
        if not is_persons_act and monotonic() - self._woken.get(instance_id, -AWAKE_SECONDS) >= AWAKE_SECONDS:
            return False
        try:
            async with asyncio.timeout(THAW_SECONDS):
                await self._freezing.thaw(instance_id, now, actor=owner, reason=A_VISIT)
        except TimeoutError as error:
            raise EngineUnavailable("The instance is still frozen. Please try again in a moment.") from error
        if is_persons_act:
            if len(self._woken) >= MOST:
                self._woken.clear()
            self._woken[instance_id] = monotonic()
        return True
