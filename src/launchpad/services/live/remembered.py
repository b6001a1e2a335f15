"""Answers of the store that are kept in memory, each until one of the rows that it was made of changes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from ...store.changes import EVERYTHING, Change, ChangeFeed

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Answer(NamedTuple, Generic[V]):
    """What the store says, and the rows (table and key) that it says it of."""

    value: V
    rows: tuple[Change, ...]


class Remembered(Generic[K, V]):
    """Keeps at most `most` answers, the latest used.

    An answer is given from memory only while the feed is current, so a change anywhere is in force here as soon as the
    feed has told it. That there is nothing is not kept: whoever signs in is let in at once. What was read while
    something changed is given to those who asked before the change, and not kept.
    """

    def __init__(self, feed: ChangeFeed, most: int) -> None:
        self._feed = feed
        self._most = most
        self._answers: OrderedDict[K, Answer[V]] = OrderedDict()
        self._made_of: dict[Change, set[K]] = defaultdict(set)
        self._reading: dict[tuple[K, int], asyncio.Task[Answer[V] | None]] = {}
        feed.subscribe(self._heard)

    def __len__(self) -> int:
        return len(self._answers)

    async def get(self, key: K, read: Callable[[], Awaitable[Answer[V] | None]]) -> V | None:
        """What is known of `key`, else what `read` finds; None: there is no such thing."""
        if self._feed.is_current and (known := self._answers.get(key)) is not None:
            self._answers.move_to_end(key)
            return known.value
        # Those who ask at the same time share an answer, if nothing has changed since it was asked for.
        shared = (key, self._feed.position)
        reading = self._reading.get(shared)
        if reading is None:
            reading = self._reading[shared] = asyncio.ensure_future(self._read(key, read))
            reading.add_done_callback(lambda done: self._was_read(shared, done))
        answer = await asyncio.shield(reading)  # who hangs up takes the answer from nobody else
        return answer.value if answer is not None else None

    def _was_read(self, shared: tuple[K, int], done: asyncio.Task[Answer[V] | None]) -> None:
        del self._reading[shared]
        if not done.cancelled():
            done.exception()  # is for those who ask; where all of them have hung up, for nobody

    async def _read(self, key: K, read: Callable[[], Awaitable[Answer[V] | None]]) -> Answer[V] | None:
        position, was_current = self._feed.position, self._feed.is_current
        answer = await read()
        if answer is not None and was_current and self._feed.position == position:
            self._keep(key, answer)
        return answer

    def _keep(self, key: K, answer: Answer[V]) -> None:
        self._forget((key,))
        self._answers[key] = answer
        for row in answer.rows:
            self._made_of[row].add(key)
        while len(self._answers) > self._most:
            self._forget((next(iter(self._answers)),))

    def _heard(self, changes: Sequence[Change]) -> None:
        if EVERYTHING in changes:
            self._answers.clear()
            self._made_of.clear()
            return
        for change in changes:
            self._forget(tuple(self._made_of.get(change, ())))

    def _forget(self, keys: Iterable[K]) -> None:
        for key in keys:
            answer = self._answers.pop(key, None)
            for row in answer.rows if answer is not None else ():
                concerned = self._made_of[row]
                concerned.discard(key)
                if not concerned:
                    del self._made_of[row]
