"""How one part of a process wakes another that it does not know: both are given the same signal."""

from __future__ import annotations

import asyncio


class Signal:
    """Something has happened that somebody waits for. Set many times before it is seen, it is seen once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Returns as soon as it is set, or after `seconds`; whether it was. From then on it is not set."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
