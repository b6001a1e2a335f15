"""What homes take up, and whether their sizes are enforced: known without waiting for the helper or a disk."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine
from contextlib import suppress
from datetime import datetime
from time import monotonic
from typing import Any

from ...domain.home_use import MeasuredUse
from ...errors import HomeUnavailable, LaunchpadError
from ...storage.base import Homes, HomeUse

FRESH_SECONDS = 3.0
KEPT_SECONDS = 300.0  # so long an old number is shown, while a new one is looked for
PATIENCE_SECONDS = 0.5
MOST = 10_000
AT_ONCE = 2  # looks at the same time: a disk that is slow gets no more of them

UNKNOWN = HomeUse(None, None)


class LiveHomes:
    def __init__(self, homes: Homes) -> None:
        self._homes = homes
        self._enforces: bool | None = None
        self._asking_enforces: asyncio.Task[None] | None = None
        self._began: dict[asyncio.Task[None], float] = {}
        self._known: OrderedDict[str, tuple[float, HomeUse]] = OrderedDict()
        self._adopted: dict[str, datetime] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._few = asyncio.Semaphore(AT_ONCE)

    async def enforces_limits(self) -> bool:
        """Whether this server keeps homes within their sizes; where that cannot be told just now, as if it did."""
        if self._enforces is None:
            if self._asking_enforces is None:
                self._asking_enforces = self._begin(self._ask_enforces())
            await self._wait_for(self._asking_enforces)
        return True if self._enforces is None else self._enforces

    async def _ask_enforces(self) -> None:
        try:
            with suppress(LaunchpadError):
                self._enforces = await asyncio.to_thread(lambda: self._homes.enforces_limits)
        finally:
            self._asking_enforces = None

    async def use(self, username: str) -> HomeUse:
        """What the home takes up and may, as of a few seconds ago; all None where that is not known in time.

        Only who asks first waits, for half a second at most.
        """
        known = self._known.get(username)
        age = monotonic() - known[0] if known is not None else KEPT_SECONDS
        if age > FRESH_SECONDS:
            looking = self.look(username)
            if age >= KEPT_SECONDS:
                await self._wait_for(looking)
        return self.latest(username)

    def _begin(self, asking: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(asking)
        self._began[task] = monotonic()
        task.add_done_callback(self._began.pop)
        return task

    async def _wait_for(self, task: asyncio.Task[None]) -> None:
        """Until PATIENCE_SECONDS after it began: where nobody answers, not every page waits anew."""
        rest = self._began.get(task, 0.0) + PATIENCE_SECONDS - monotonic()
        if rest > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(task), rest)

    def latest(self, username: str) -> HomeUse:
        """As it was known last; all None where it is not."""
        known = self._known.get(username)
        return known[1] if known is not None else UNKNOWN

    def age_seconds(self, username: str) -> float:
        """Of what is known."""
        known = self._known.get(username)
        return monotonic() - known[0] if known is not None else float("inf")

    def look(self, username: str) -> asyncio.Task[None]:
        """Has it looked at, if nobody is at it already; never fails."""
        looking = self._looking.get(username)
        if looking is None:
            looking = self._looking[username] = self._begin(self._look(username))
            looking.add_done_callback(lambda _: self._looking.pop(username, None))
        return looking

    async def look_now(self, username: str) -> HomeUse:
        """Looks, and returns what was found. Raises HomeUnavailable where it cannot be told."""
        try:
            async with self._few:
                found = await self._homes.use(username)
        except HomeUnavailable:
            self.note(username, UNKNOWN)
            raise
        self.note(username, found)
        return found

    def adopt(self, username: str, measured: MeasuredUse) -> None:
        """Takes over what the process that owns the work has found, once each."""
        looked_at = measured.looked_at or measured.measured_at
        if self._adopted.get(username) != looked_at:
            self._adopted[username] = looked_at
            self.note(username, HomeUse(measured.used_bytes, measured.limit_bytes, measured.free_bytes))

    async def _look(self, username: str) -> None:
        with suppress(HomeUnavailable):
            await self.look_now(username)

    def note(self, username: str, found: HomeUse) -> None:
        """It was just found."""
        self._known[username] = (monotonic(), found)
        self._known.move_to_end(username)
        while len(self._known) > MOST:
            self._adopted.pop(self._known.popitem(last=False)[0], None)

    async def aclose(self) -> None:
        """Gives up what is being looked at."""
        tasks = [*self._looking.values(), *([self._asking_enforces] if self._asking_enforces else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
