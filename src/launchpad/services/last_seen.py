"""Writes down, in the background, when logins, users and tokens were used: no page waits for a busy database."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

from ..errors import StoreUnavailable
from ..store import logins, tokens, users
from ..store.database import Database

SEEN_AGAIN_AFTER = timedelta(seconds=60)  # how stale what is written may be, to spare a write a request
GATHER_SECONDS = 1.0  # what comes within so long is written at once


class LastSeen:
    """Notes are gathered for a second and written in one transaction; `settle` writes them now."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._logins: dict[str, datetime] = {}
        self._logins_written: dict[str, datetime] = {}  # those that are being written now
        self._users: dict[str, datetime] = {}
        self._tokens: dict[str, datetime] = {}
        self._now = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def login(self, login_id: str, user_id: str | None, now: datetime) -> None:
        """A login was used, and by its user; `user_id` is None where only the login's own time counts."""
        self._logins[login_id] = now
        if user_id is not None:
            self._users[user_id] = now
        self._write_soon()

    def of_login(self, login_id: str, written_at: datetime) -> datetime:
        """When a login was used last, where its record says `written_at`."""
        noted = self._logins.get(login_id) or self._logins_written.get(login_id)
        return max(written_at, noted) if noted is not None else written_at

    def token(self, token_id: str, user_id: str, now: datetime) -> None:
        """A personal token was used, and by its user."""
        self._tokens[token_id] = now
        self._users[user_id] = now
        self._write_soon()

    async def settle(self) -> None:
        """Returns when everything that was noted is written."""
        while self._writing is not None:
            self._now.set()
            await asyncio.wait((self._writing,))

    def _write_soon(self) -> None:
        if self._writing is None:
            self._now.clear()
            self._writing = asyncio.create_task(self._write(), name="last seen")
            self._writing.add_done_callback(self._written)

    def _written(self, _: asyncio.Task[None]) -> None:
        self._writing = None
        self._logins_written = {}
        if self._logins or self._users or self._tokens:
            self._write_soon()  # what came while it was written

    async def _write(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_SECONDS):  # wait_for() of Python 3.11 can lose a cancellation
                await self._now.wait()
        self._logins_written, self._logins = self._logins, {}
        seen_users, self._users = self._users, {}
        seen_tokens, self._tokens = self._tokens, {}
        with suppress(StoreUnavailable):  # a disk that is full for the moment signs nobody out
            async with self._database.transaction() as db:
                await logins.seen_all(db, self._logins_written)
                await users.seen_all(db, seen_users)
                for token_id, at in seen_tokens.items():
                    await tokens.used(db, token_id, at)
