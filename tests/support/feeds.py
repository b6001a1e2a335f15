"""A feed of changes that a test tells what to say."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from sqlalchemy.ext.asyncio import AsyncConnection

from launchpad.store.changes import Batch, Change, ChangeFeed


def _no_database() -> AbstractAsyncContextManager[AsyncConnection]:
    raise AssertionError("nobody watches this feed")


class ToldFeed(ChangeFeed):
    """`current` says whether it is; `tell` tells."""

    def __init__(self) -> None:
        super().__init__(_no_database)
        self.current = True
        self._number = 0

    @property
    def is_current(self) -> bool:
        return self.current

    def tell(self, *changes: Change) -> None:
        self._number += 1
        self.deliver(Batch(self._number, changes))
