"""Tells waiting pages at once that an instance changed; a page that misses it looks again within a second."""

from __future__ import annotations

import asyncio
from collections import defaultdict


class Changes:
    """In one process. What another process changes is seen by looking, which is why `wait` is bounded."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    def tell(self, instance_id: str) -> None:
        for event in self._waiting.get(instance_id, ()):
            event.set()

    async def wait(self, instance_id: str, seconds: float) -> None:
        """Returns when the instance changed here, or after `seconds`."""
        event = asyncio.Event()
        self._waiting[instance_id].add(event)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting[instance_id].discard(event)
            if not self._waiting[instance_id]:
                del self._waiting[instance_id]
