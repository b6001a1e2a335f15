"""Writes down, in the background, when persons did something in instances: no request waits for a busy database."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol

from ..errors import StoreUnavailable
from ..store import activity_latest
from ..store.database import Database

AGAIN_AFTER = timedelta(seconds=20)  # how stale what is written may be
GATHER_SECONDS = 1.0


class PersonNoted(Protocol):
    """Where it is noted that a person wants an instance. Whoever changes its row writes it down there as well."""

    def note_person(self, instance_id: str, now: datetime) -> None: ...


class PersonNotes:
    """What this process has seen itself, and what of it other processes know."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[str, datetime] = {}
        self._written: dict[str, datetime] = {}
        self._writing: asyncio.Task[None] | None = None

    def note(self, instance_id: str, now: datetime) -> None:
        """A person did something in an instance."""
        before = self._seen.get(instance_id)
        if before is None or before < now:
            self._seen[instance_id] = now
        written = self._written.get(instance_id)
        if self._writing is None and (written is None or now - written >= AGAIN_AFTER):
            self._writing = asyncio.create_task(self._write_soon(), name="persons' acts")
            self._writing.add_done_callback(self._done)

    def last(self, instance_id: str) -> datetime | None:
        """When a person last did something, as far as this process has seen it."""
        return self._seen.get(instance_id)

    def forget_all_but(self, instance_ids: set[str]) -> None:
        self._seen = {one: at for one, at in self._seen.items() if one in instance_ids}
        self._written = {one: at for one, at in self._written.items() if one in instance_ids}

    async def settle(self) -> None:
        """Returns when everything that was noted is written."""
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        await self._write()

    def _done(self, done: asyncio.Task[None]) -> None:
        self._writing = None
        if not done.cancelled():
            done.exception()  # a disk that is full for the moment: the next act tries again

    async def _write_soon(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        await self._write()

    async def _write(self) -> None:
        due = {one: at for one, at in self._seen.items() if self._written.get(one) != at}
        if not due:
            return
        with suppress(StoreUnavailable):
            async with self._database.transaction() as db:
                await activity_latest.note_persons(db, due)
            self._written |= due
