"""Fixtures that more than one folder of tests can use."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings

from launchpad.store.database import Database
from support.names import names_below_localhost
from support.parts import browser, mail, open_folder, program, shared_platform, start_platform

__all__ = ["browser", "clock", "database", "mail", "open_folder", "program", "shared_platform", "start_platform"]

names_below_localhost()
# A shell starts jobs in the background deaf to Ctrl-C, and programs hand that on: those that tests interrupt would not
# end. What has a handler here is what a new program begins with anew.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("launchpad", deadline=None)  # a busy machine is no failure
settings.load_profile("launchpad")


class Clock:
    """A clock that stands still until it is moved; call it where the program wants `now`."""

    def __init__(self, start: datetime) -> None:
        self.now = start

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> datetime:
        """Moves on by a timedelta's arguments: clock.forward(minutes=10)."""
        self.now += timedelta(**by)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime(2026, 3, 2, 9, 30, tzinfo=UTC))


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """A database of this test's own, which `database` opens; a second `Database` of it is like another process's."""
    return f"sqlite+aiosqlite:///{tmp_path / 'launchpad.db'}"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A migrated database of its own. On SQLite its file is `tmp_path / "launchpad.db"`."""
    database = Database(database_url)
    await database.migrate()
    yield database
    await database.aclose()
