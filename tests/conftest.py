"""Fixtures that more than one folder of tests can use."""

from __future__ import annotations

import gc
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings

from support.compiled import share_compiled_statements
from support.databases import _databases, database, database_url, empty_url, every_database
from support.names import names_below_localhost
from support.parts import browser, mail, open_folder, program, shared_platform, start_platform, whole_browser

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
    "whole_browser",
]

names_below_localhost()
share_compiled_statements()
# A shell starts jobs in the background deaf to Ctrl-C, and programs hand that on: those that tests interrupt would not
# end. What has a handler here is what a new program begins with anew.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as nohup hands it on
    signal.signal(signal.SIGHUP, lambda *_: None)
settings.register_profile("launchpad", deadline=None)  # a busy machine is no failure
settings.load_profile("launchpad")


# Where files run beside each other, the longest must not begin last: whole servers first, then what takes a minute or
# more, then what waits most.
LONGEST = (
    "tests/e2e/test_browser_open_tabs.py",
    "tests/promises/test_gate.py",
    "tests/promises/test_containers.py",
    "tests/e2e/test_packages_stay.py",
    "tests/web/test_browser_every_page.py",
    "tests/e2e/test_full_home.py",
    "tests/unit/test_words_texts.py",
    "tests/unit/test_sign_in_service.py",
)
FIRST = ("system", *LONGEST, "e2e", "promises", "images", "contract", "web")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {each: rank for rank, each in enumerate(FIRST)}

    def rank(path: Path) -> int:
        name = "/".join(path.parts[-3:])
        return ranks.get(name, ranks.get(path.parent.name, len(FIRST)))

    of_files = {path: rank(path) for path in {item.path for item in items}}
    items.sort(key=lambda item: of_files[item.path])


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
