"""What is kept of the store's answers, and for how long."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from launchpad.errors import StoreUnavailable
from launchpad.services.live.remembered import Answer, Remembered
from launchpad.store.changes import EVERYTHING, Change
from support.feeds import ToldFeed


class Store:
    """Rows by their keys. `reads` counts who asked for what; a read waits for `may_answer`."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}
        self.reads: Counter[str] = Counter()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.is_there = True

    def reader(self, key: str) -> Callable[[], Awaitable[Answer[str] | None]]:
        async def read() -> Answer[str] | None:
            self.reads[key] += 1
            value = self.rows.get(key)
            await self.may_answer.wait()
            if not self.is_there:
                raise StoreUnavailable("The database is not available right now.")
            return Answer(value, (Change("logins", key), Change("users", f"owner of {key}"))) if value else None

        return read


@pytest.fixture
def feed() -> ToldFeed:
    return ToldFeed()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def known(feed: ToldFeed) -> Remembered[str, str]:
    return Remembered(feed, 3)


async def test_an_answer_is_kept_until_a_row_that_it_was_made_of_changes(
    feed: ToldFeed, store: Store, known: Remembered[str, str]
) -> None:
    store.rows = {"a": "alice", "b": "bob"}
    for change in (Change("logins", "a"), Change("users", "owner of a"), EVERYTHING):
        assert [await known.get("a", store.reader("a")) for _ in range(3)] == ["alice"] * 3
        store.rows["a"] = "anna"
        feed.tell(Change("logins", "b"), Change("kv", "a"))
        assert await known.get("a", store.reader("a")) == "alice", "nothing was told of it"
        feed.tell(change)
        assert await known.get("a", store.reader("a")) == "anna"
        store.rows["a"] = "alice"
        feed.tell(Change("logins", "a"))
    assert store.reads["a"] == 6


async def test_while_the_feed_is_not_current_the_store_answers(
    feed: ToldFeed, store: Store, known: Remembered[str, str]
) -> None:
    store.rows = {"a": "alice"}
    assert await known.get("a", store.reader("a")) == "alice"
    feed.current = False
    store.rows = {}
    assert await known.get("a", store.reader("a")) is None
    store.rows = {"a": "anna"}
    assert await known.get("a", store.reader("a")) == "anna"
    store.is_there = False
    with pytest.raises(StoreUnavailable):
        await known.get("a", store.reader("a"))
    feed.tell(EVERYTHING)
    feed.current = store.is_there = True
    assert await known.get("a", store.reader("a")) == "anna"


async def test_that_there_is_nothing_is_not_kept(store: Store, known: Remembered[str, str]) -> None:
    assert await known.get("a", store.reader("a")) is None
    store.rows = {"a": "alice"}
    assert await known.get("a", store.reader("a")) == "alice"


async def test_what_was_read_while_something_changed_is_not_kept_and_not_given_to_those_who_ask_later(
    feed: ToldFeed, store: Store, known: Remembered[str, str]
) -> None:
    store.rows = {"a": "alice"}
    store.may_answer.clear()
    before = asyncio.create_task(known.get("a", store.reader("a")))
    with_it = asyncio.create_task(known.get("a", store.reader("a")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    store.rows = {}
    feed.tell(Change("logins", "a"))
    after = asyncio.create_task(known.get("a", store.reader("a")))
    await asyncio.sleep(0)
    store.may_answer.set()
    assert (await before, await with_it, await after) == ("alice", "alice", None)
    assert store.reads["a"] == 2, "those who ask at the same time share an answer"
    assert await known.get("a", store.reader("a")) is None


async def test_who_hangs_up_takes_the_answer_from_nobody_else(store: Store, known: Remembered[str, str]) -> None:
    store.rows = {"a": "alice"}
    store.may_answer.clear()
    impatient, patient = (asyncio.create_task(known.get("a", store.reader("a"))) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    store.may_answer.set()
    assert await patient == "alice"
    assert impatient.cancelled()


async def test_memory_is_bounded_and_the_latest_used_are_kept(
    feed: ToldFeed, store: Store, known: Remembered[str, str]
) -> None:
    store.rows = {f"{number}": "somebody" for number in range(100)}
    for key in store.rows:
        await known.get("0", store.reader("0"))
        await known.get(key, store.reader(key))
    assert len(known) == 3
    assert store.reads["0"] == 1
    assert sum(map(len, known._made_of.values())) == 6, "nothing is kept of what was given up"
    feed.tell(*(Change("logins", key) for key in store.rows))
    assert (len(known), len(known._made_of)) == (0, 0)
