"""What reading something shared needs besides: content that breaks off, a limit of requests, the secrets of links."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from ..errors import Forbidden, HomeUnavailable, NotFound, TooManyRequests
from ..storage.files import Received

GONE = "This does not exist any more, or cannot be read any more. Ask the person who shared it."


class RequestLimit:
    """How many requests a client may make in a minute, counted here: each process has its own."""

    def __init__(self, per_minute: int) -> None:
        self._most = per_minute
        self._minute = datetime.min.replace(tzinfo=UTC)
        self._counted: Counter[str] = Counter()

    def count(self, client: str, now: datetime) -> None:
        """Raises TooManyRequests."""
        if now - self._minute >= timedelta(minutes=1) or now < self._minute:
            self._minute = now
            self._counted.clear()
        self._counted[client] += 1
        if self._counted[client] > self._most:
            raise TooManyRequests("These are too many requests. Please wait for a minute.", retry_after_seconds=60)


class Watched:
    """Content that breaks off as soon as `check` raises."""

    def __init__(self, received: Received, check: Callable[[], Awaitable[None]]) -> None:
        self._received = received
        self._check = check
        self.header = received.header

    async def choose(self, **wanted: Any) -> None:
        await self._received.choose(**wanted)

    async def pieces(self) -> AsyncIterator[bytes]:
        async for piece in self._received.pieces():
            await self._check()
            yield piece

    async def last_word(self) -> dict[str, Any]:
        return await self._received.last_word()


@contextmanager
def said_plainly() -> Iterator[None]:
    """What the worker refuses is said in words about its owner's home."""
    try:
        yield
    except (NotFound, Forbidden, HomeUnavailable) as refusal:
        raise NotFound(GONE) from refusal


def new_secret() -> str:
    """For a link that opens something for everybody who has it: 256 random bits."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
