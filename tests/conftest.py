"""Fixtures that more than one folder of tests can use."""

from __future__ import annotations

import gc
import signal
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings

from support.databases import _databases, database, database_url, empty_url, every_database
from support.names import names_below_localhost
from support.parts import browser, mail, open_folder, program, shared_platform, start_platform

__all__ = [
    "_databases",
    "browser",
    "clock",
    "database",
    "database_url",
    "empty_url",
    "every_database",
    "mail",
    "open_folder",
    "program",
    "shared_platform",
    "start_platform",
]

names_below_localhost()
# A shell starts jobs in the background deaf to Ctrl-C, and programs hand that on: those that tests interrupt would not
# end. What has a handler here is what a new program begins with anew.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as nohup hands it on
    signal.signal(signal.SIGHUP, lambda *_: None)
settings.register_profile("launchpad", deadline=None)  # a busy machine is no failure
settings.load_profile("launchpad")


# Whole servers first, then what waits most: where files run beside each other, the longest must not begin last.
FIRST = ("system", "e2e", "promises", "images", "contract", "web")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folders = {item.path.parent: item.path.parent.name for item in items}
    ranks = {path: FIRST.index(name) if name in FIRST else len(FIRST) for path, name in folders.items()}
    items.sort(key=lambda item: ranks[item.path.parent])


def pytest_collection_finish() -> None:
    """What collecting has made lives until the end: the collector of garbage needs not walk through it all the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


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
