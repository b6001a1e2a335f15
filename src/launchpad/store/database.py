"""The engine, its PRAGMAs, and the two ways in: `reading()` and `transaction()`."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ..errors import StoreUnavailable
from . import audit_chain
from .audit_chain import ChainKeeper, Tail
from .changes import WRITE_LOCK, ChangeFeed
from .revisions import is_newest
from .schema import Instant as Instant
from .schema import metadata as metadata
from .sqlite_driver import BEGIN, Driver, prepare

log = structlog.get_logger(__name__)

BUSY_SECONDS = 10  # how long a writer waits for another process before the answer is 503
ANSWER_SECONDS = 60  # of one statement on PostgreSQL: a server that is gone without a word holds nobody for ever
# What PostgreSQL says (https://www.postgresql.org/docs/15/errcodes-appendix.html) when it is not the program's fault:
# the connection, who may connect, no such database, a conflict of transactions, no room or memory, an operator at work,
# a fault of the system, of the server.
UNAVAILABLE_CLASSES = {"08", "28", "3D", "40", "53", "57", "58", "XX"}
# A lock that was not to be had, a server that only reads, no right to do it, tables and columns other than these.
UNAVAILABLE_CODES = {"55P03", "25006", "42501", "42P01", "42P07", "42703"}
_TAKE_WRITE_LOCK = text(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")


class Database:
    """One per process. `transaction()` commits on leaving and rolls back on an error.

    On SQLite a transaction takes the write lock at its start (BEGIN IMMEDIATE), so that what it reads is still true
    when it writes; within the process writers queue on a lock, which is fairer and quicker than SQLite's busy loop.
    `changes` tells what was changed, by this process before `transaction()` returns.
    """

    def __init__(self, url: str, *, busy_seconds: float = BUSY_SECONDS, chain: ChainKeeper | None = None) -> None:
        """`chain`: what entries of the audit are chained with; without it nothing is written into the audit."""
        self._is_sqlite = url.startswith("sqlite")
        self._chain = chain
        self._driver = Driver() if self._is_sqlite else None
        options = _sqlite_options(self._driver) if self._driver else _postgresql_options(busy_seconds)
        self._engine = create_async_engine(url, **options)
        self._write_lock = asyncio.Lock()
        if self._is_sqlite:
            event.listen(self._engine.sync_engine, "connect", _sqlite_preparer(busy_seconds))
            event.listen(self._engine.sync_engine, "begin", _begin_sqlite)
        self.changes = ChangeFeed(partial(_watching, self._engine))

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A consistent view of the data.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        with _translated():
            async with self._engine.connect() as db:
                if not self._is_sqlite:  # where each statement would see another state
                    await db.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                async with db.begin():
                    yield db

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """All or nothing. No engine or mail call may be awaited inside.

        Raises:
            StoreUnavailable: the database does not answer, is locked for longer than `busy_seconds`, or its disk is
                full. Nothing was written.
        """
        committing = committed = False
        tail = self._chain.begin() if self._chain is not None else None
        with _translated():
            async with self._writing(tail) as db:
                try:
                    async with db.begin():
                        await self._take_write_lock(db)
                        await self.changes.begin(db)
                        yield db
                        batch = await self.changes.collect(db)
                        committing = True
                    committed = True
                finally:
                    if committing and not committed:  # cancelled, or the connection broke: it may have happened
                        self.changes.doubt()
                if self._chain is not None and tail is not None:
                    self._chain.committed(tail)
                self.changes.deliver(batch)

    @asynccontextmanager
    async def _writing(self, tail: Tail | None = None) -> AsyncIterator[AsyncConnection]:
        async with self._write_lock, self._engine.connect() as db:
            await db.execution_options(launchpad_write=True, **{audit_chain.OPTION: tail})
            yield db

    async def _take_write_lock(self, db: AsyncConnection) -> None:
        if not self._is_sqlite:
            await db.execute(_TAKE_WRITE_LOCK)

    async def migrate(self) -> None:
        """Brings the tables to this version's state; safe when several processes do it at once.

        Entries of the audit from before there was a chain are chained as they are, in the transaction that makes room
        for it, and never later.

        Raises:
            StoreUnavailable: the database cannot be opened, or was written by a newer version of the program.
        """
        with _translated():  # not transaction(), which needs the tables
            async with self._writing() as db, db.begin():
                await self._take_write_lock(db)
                if not await db.run_sync(is_newest):
                    from .upgrading import upgrade  # Alembic takes 11 MB, and is needed once a version

                    await db.run_sync(upgrade)
                    await self._chain_what_is_there(db)

    async def _chain_what_is_there(self, db: AsyncConnection) -> None:
        """Once, when the tables were brought to a version that has a chain: a chain that is there is left alone."""
        from . import audit  # knows this module

        if self._chain is not None and not await audit.is_chained(db):
            await audit.chain_anew(db, self._chain.key)

    async def ping(self) -> None:
        async with self.reading() as db:
            await db.execute(text("SELECT 1"))

    async def problems(self) -> list[str]:
        """What is damaged in the file, at most five lines; the server of PostgreSQL looks after its own.

        Raises:
            StoreUnavailable: it cannot be looked at now.
        """
        if not self._is_sqlite:
            return []
        try:
            async with self.reading() as db:
                found = [str(row[0]) for row in await db.execute(text("PRAGMA quick_check(5)"))]
                orphans = [
                    f"a row of {row[0]} without its {row[2]}"
                    for row in await db.execute(text("PRAGMA foreign_key_check"))
                ]
        except StoreUnavailable as error:
            if type(error.__cause__) is DatabaseError:
                return ["so badly that it cannot be read at all"]
            raise
        return [line for line in (*found, *orphans) if line != "ok"][:5]

    async def aclose(self) -> None:
        await self._engine.dispose()
        if self._driver is not None:
            await self._driver.aclose()


class _translated:  # noqa: N801 - a context manager that reads like a function
    """Turns the driver's errors into StoreUnavailable; programming errors pass through as they are."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is not None and _is_unavailable(error):
            log.error("store.unavailable", error=str(error))
            raise StoreUnavailable(
                "The database is not available right now. Nothing was changed; please try again in a moment.",
                retry_after_seconds=5,
            ) from error


def _is_unavailable(error: BaseException) -> bool:
    if isinstance(error, OperationalError | PoolTimeoutError | sqlite3.OperationalError | OSError):
        return True
    if type(error) in (DatabaseError, sqlite3.DatabaseError):  # a broken file; the kinds below are faults of ours
        return True
    if not isinstance(error, DBAPIError):
        return False
    code = str(getattr(error.orig, "sqlstate", None) or "")
    return error.connection_invalidated or code[:2] in UNAVAILABLE_CLASSES or code in UNAVAILABLE_CODES


def _postgresql_options(busy_seconds: float) -> dict[str, Any]:
    return {
        "pool_pre_ping": True,
        "connect_args": {
            "timeout": busy_seconds,
            "command_timeout": ANSWER_SECONDS,
            "server_settings": {
                "application_name": "launchpad",
                "lock_timeout": str(round(busy_seconds * 1000)),
            },
        },
    }


@asynccontextmanager
async def _watching(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    with _translated():
        async with engine.connect() as db:
            yield db


class _SqliteConnection(sqlite3.Connection):
    """Gives up its transaction when it is closed.

    SQLite closes a connection for good only once its last statement is finalized, and until then it keeps the lock of
    all writers. Of a query that was cancelled, as a start is by a stop, the statement lives as long as somebody keeps
    the error with its traceback.
    """

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self.rollback()
        super().close()


def _sqlite_options(driver: Driver) -> dict[str, Any]:
    return {"module": driver, "connect_args": {"factory": _SqliteConnection}}


def _sqlite_preparer(busy_seconds: float) -> Callable[[Any, object], None]:
    def set_up(connection: sqlite3.Connection) -> None:
        connection.isolation_level = None  # the driver must not open transactions of its own; see _begin_sqlite
        for pragma in (
            f"busy_timeout = {round(busy_seconds * 1000)}",
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "foreign_keys = ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()
        connection.create_function("lower_of_any_letter", 1, _lower, deterministic=True)

    return lambda connection, _record: prepare(connection, set_up)


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("launchpad_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else BEGIN)
