"""What the engine, the helper or the disk say: asked by a loop, so that no page waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")


class LookedUp(Generic[T]):
    """The newest answer to one question, which a loop asks again and again with `renew`.

    Where no loop does, or it is late, whoever wants the answer has it asked, and waits `patience_seconds` at most; for
    a question that has been open for longer than that nobody waits.
    """

    def __init__(
        self, ask: Callable[[], Awaitable[T]], *, late_after_seconds: float, patience_seconds: float = 1.0
    ) -> None:
        self._ask = ask
        self._late_after_seconds = late_after_seconds
        self._patience_seconds = patience_seconds
        self._answer: tuple[T] | None = None
        self._renewed_at: float | None = None
        self._asking: asyncio.Task[None] | None = None
        self._asking_since = 0.0

    async def renew(self) -> None:
        """Asks, and waits for as long as it takes; raises what asking raises, and then keeps the answer before."""
        await asyncio.shield(self._shared_asking())
        self._renewed_at = monotonic()

    async def get(self) -> T:
        """The newest answer.

        Raises:
            TimeoutError: there has been none yet, and none comes in time.
        """
        if self._answer is None or not self._is_renewed:
            asking = self._shared_asking()
            rest = self._asking_since + self._patience_seconds - monotonic()
            try:
                await asyncio.wait_for(asyncio.shield(asking), max(rest, 0))
            except TimeoutError:
                if self._answer is None:
                    raise
        if self._answer is None:
            raise TimeoutError
        return self._answer[0]

    @property
    def _is_renewed(self) -> bool:
        return self._renewed_at is not None and monotonic() - self._renewed_at < self._late_after_seconds

    def _shared_asking(self) -> asyncio.Task[None]:
        if self._asking is None:
            self._asking_since = monotonic()
            self._asking = asyncio.create_task(self._ask_now())
            self._asking.add_done_callback(self._asked)
        return self._asking

    async def _ask_now(self) -> None:
        self._answer = (await self._ask(),)

    def _asked(self, done: asyncio.Task[None]) -> None:
        self._asking = None
        if not done.cancelled():
            done.exception()  # for those who wait, if any still do

    async def aclose(self) -> None:
        """Gives up what is being asked."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait((self._asking,))
