"""Table `changes`, which triggers fill, and the feed that tells this process which rows have changed.

Triggers write a row for every change of a row of `FED` in the transaction that makes it. Whoever commits reads these
rows just before and hands them to the listeners just after; the changes of other processes are noticed by looking.
Both read what comes after the last number they know. That is enough since numbers are given in the order of commits:
whoever has written into `changes` holds the lock of all writers until the end of the transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple, Protocol

from sqlalchemy import BigInteger, Column, Integer, String, Table, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from .schema import metadata

LOOK_SECONDS = 0.15  # how often other processes' changes are looked for
ASK_SECONDS = 0.2  # how often a server that sends notifications is asked all the same
ANSWER_SECONDS = 5.0  # a server that has not answered by then is given up
CURRENT_SECONDS = 0.5  # a look that began longer ago says nothing of now
KEPT, PRUNED_EVERY = 10_000, 1_000  # rows: whoever is further behind is told to forget everything
CHANNEL = "launchpad_changes"  # of PostgreSQL's LISTEN and NOTIFY
WRITE_LOCK = 111_872_378  # PostgreSQL's advisory lock of whoever writes

# The tables whose changes are known, each with the column that stands for a row.
FED = {
    "instances": "id",
    "instance_history": "instance_id",
    "users": "id",
    "logins": "id",
    "grants": "secret_digest",
    "tokens": "id",
    "kv": "key",
    "announcements": "id",
    "home_use": "user_id",
    "home_libraries": "user_id",
    "shares": "id",
}

table = Table(
    "changes",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("table_name", String(40), nullable=False),
    Column("key", String(100), nullable=False),
)


class Change(NamedTuple):
    """A row that was added, changed or removed. `EVERYTHING` is a gap: some changes are unknown, so forget all."""

    table: str
    key: str


EVERYTHING = Change("*", "")
Listener = Callable[[Sequence[Change]], None]


@dataclass(frozen=True)
class Batch:
    """What was changed up to the number `newest`, each row once, in the order of their first changes."""

    newest: int
    changes: tuple[Change, ...]


class ChangeFeed:
    """Tells listeners in this process of every changed row of the tables in `FED`.

    What this process commits is told before `Database.transaction()` returns. What others commit is told by `watch()`,
    0.15 s later or sooner. Listeners are called in the event loop's thread; they mark what they hold as stale, await
    nothing and raise nothing. A change may be told twice, and never too early: whoever reads the store when told finds
    it changed.

    To keep what was read: take `position` before reading, and keep it only if `position` is still the same afterwards.
    """

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[AsyncConnection]]) -> None:
        """`connect` opens a connection without a transaction, and raises StoreUnavailable where there is none."""
        self._connect = connect
        self._listeners: list[Listener] = []
        self._last: int | None = None  # the newest number that was told
        self._looked_at: float | None = None
        self._look_again = False
        self._one_watches = asyncio.Lock()
        self._position = 0

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Calls `listener` with the changes from now on. Returns what ends that."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return unsubscribe

    @property
    def is_current(self) -> bool:
        """Whether everything that was committed 0.5 s ago has been told. Where not, read the store."""
        return self._looked_at is not None and monotonic() - self._looked_at < CURRENT_SECONDS

    @property
    def position(self) -> int:
        """A number that grows whenever something is told."""
        return self._position

    async def watch(self) -> None:
        """Tells what other processes change, until it is cancelled; begins with `EVERYTHING`.

        Called again meanwhile, it waits for its turn.

        Raises:
            StoreUnavailable: the database does not answer. Whoever calls tries again.
        """
        async with self._one_watches, self._connect() as db:
            lookout: _Lookout = _SqliteLookout(db) if db.dialect.name == "sqlite" else _PostgresqlLookout(db)
            await lookout.open()
            first = True
            try:
                while True:
                    began = monotonic()
                    if await lookout.has_changed() or first or self._look_again:
                        self._look_again = False
                        await self._look(db, first)
                    first = False
                    self._looked_at = began
                    await lookout.wait()
            finally:
                self._looked_at = None
                await lookout.close()

    async def _look(self, db: AsyncConnection, first: bool) -> None:
        async with db.begin():
            batch = await _newest(db) if self._last is None else await _since(db, self._last)
        if first:
            batch = Batch(batch.newest, (EVERYTHING,))
        self.deliver(batch)

    # -- for Database.transaction() ------------------------------------------------------------------------------------

    async def begin(self, db: AsyncConnection) -> None:
        """At the beginning of a transaction that holds the lock of all writers."""
        if self._last is None:
            self._last = (await _newest(db)).newest

    async def collect(self, db: AsyncConnection) -> Batch:
        """At its end: what it has changed, and what others had before."""
        last = self._last or 0
        batch = await _since(db, last)
        if batch.newest // PRUNED_EVERY > last // PRUNED_EVERY:
            await db.execute(delete(table).where(table.c.seq <= batch.newest - KEPT))
        return batch

    def deliver(self, batch: Batch) -> None:
        """After its commit."""
        self._last = batch.newest if EVERYTHING in batch.changes else max(batch.newest, self._last or 0)
        if not batch.changes:
            return
        self._position += 1
        with ExitStack() as stack:  # every listener is called, whatever another one does
            for listener in reversed(self._listeners):
                stack.callback(listener, batch.changes)

    def doubt(self) -> None:
        """Nobody knows whether a commit has happened: nothing is current before the next look."""
        self._looked_at = None
        self._look_again = True


async def _newest(db: AsyncConnection) -> Batch:
    return Batch((await db.execute(select(func.max(table.c.seq)))).scalar_one() or 0, ())


async def _since(db: AsyncConnection, last: int) -> Batch:
    # From `last` itself on: where that row is gone, others may be, too.
    query = select(table.c.seq, table.c.table_name, table.c.key).where(table.c.seq >= last).order_by(table.c.seq)
    rows = [tuple(row) for row in await db.execute(query)]
    first, newest = (rows[0][0], rows[-1][0]) if rows else (None, 0)
    missing = first != last if last else newest > KEPT and first != 1  # of a new database the first is number 1
    if missing:
        return Batch(newest or (await _newest(db)).newest, (EVERYTHING,))
    changes = dict.fromkeys(Change(name, key) for seq, name, key in rows if seq > last)
    return Batch(newest, tuple(changes))


class _Lookout(Protocol):
    async def open(self) -> None: ...

    async def has_changed(self) -> bool:
        """Whether somebody may have committed since it was last asked."""

    async def wait(self) -> None:
        """Until it is worth asking again."""

    async def close(self) -> None: ...


async def _driver_of(db: AsyncConnection) -> Any:
    return (await db.get_raw_connection()).driver_connection


class _SqliteLookout:
    """By a number that the file's header, or the index of its log, gets at another connection's commit: no query."""

    def __init__(self, db: AsyncConnection) -> None:
        self._db = db
        self._version = -1

    async def open(self) -> None:
        self._driver = await _driver_of(self._db)

    async def has_changed(self) -> bool:
        before = self._version
        ((self._version,),) = await self._driver.execute_fetchall("PRAGMA data_version")
        return self._version != before

    async def wait(self) -> None:
        await asyncio.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        return None


class _PostgresqlLookout:
    """By the server's notification, and by asking: a connection that was lost without a word tells nothing."""

    def __init__(self, db: AsyncConnection) -> None:
        self._db = db
        self._newest = -1
        self._noted = asyncio.Event()

    async def open(self) -> None:
        self._driver = await _driver_of(self._db)
        await self._driver.add_listener(CHANNEL, self._note)

    def _note(self, *_: object) -> None:
        self._noted.set()

    async def has_changed(self) -> bool:
        self._noted.clear()
        before = self._newest
        async with asyncio.timeout(ANSWER_SECONDS), self._db.begin():
            self._newest = (await _newest(self._db)).newest
        return self._newest != before

    async def wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(ASK_SECONDS):  # wait_for() of Python 3.11 can lose a cancellation
                await self._noted.wait()

    async def close(self) -> None:
        await self._driver.remove_listener(CHANNEL, self._note)


def trigger_statements(dialect: str, name: str, key: str) -> list[str]:
    """The SQL, for a migration, that makes the changes of a table known.

    Where a later migration makes a table anew (Alembic's batch mode on SQLite), its triggers are gone with the old one
    and have to be made again.

    Args:
        dialect: `sqlite` or `postgresql`.
        name: the table.
        key: the column that stands for a row; its values have at most 100 characters.
    """
    if dialect != "sqlite":
        return [
            f"CREATE TRIGGER changes_of_{name} AFTER INSERT OR UPDATE OR DELETE ON {name} "
            f"FOR EACH ROW EXECUTE FUNCTION launchpad_note_change('{key}')"
        ]
    into = "INSERT INTO changes (table_name, key)"
    before, after = f"{into} VALUES ('{name}', OLD.{key})", f"{into} VALUES ('{name}', NEW.{key})"
    renamed = f"{into} SELECT '{name}', NEW.{key} WHERE NEW.{key} <> OLD.{key}"
    return [
        f"CREATE TRIGGER changes_of_{name}_insert AFTER INSERT ON {name} BEGIN {after}; END",
        f"CREATE TRIGGER changes_of_{name}_update AFTER UPDATE ON {name} BEGIN {before}; {renamed}; END",
        f"CREATE TRIGGER changes_of_{name}_delete AFTER DELETE ON {name} BEGIN {before}; END",
    ]
