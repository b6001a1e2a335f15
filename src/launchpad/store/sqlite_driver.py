"""SQLite's statements, each in one hand-over to the connection's thread (docs/adr/0037).

SQLAlchemy's adapter of aiosqlite makes four (open a cursor, execute, fetch, close), each of which wakes two threads up:
most of what a short statement costs. Since a statement is finished in the thread, one whose caller was cancelled leaves
no cursor behind that holds a lock. A transaction that reads begins together with its first statement, as SQLite itself
does it (https://www.sqlite.org/lang_transaction.html, "DEFERRED"). Written against SQLAlchemy 2.1
(`sqlalchemy.connectors.asyncio`) and aiosqlite 0.22, which the lock file pins.
"""

from __future__ import annotations

import asyncio
import collections
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import aiosqlite
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
    AsyncAdapt_aiosqlite_ss_cursor,
)

BEGIN = "BEGIN"


@dataclass(slots=True)
class _Outcome:
    """What is left of a sqlite3 cursor after its statement. The names are those of the Python database API."""

    description: Any = None
    rowcount: int = -1
    lastrowid: int | None = None
    arraysize: int = 1

    def close(self) -> None:
        """Was closed in the thread."""


Finished = tuple[_Outcome, Sequence[Any]]


class _Cursor(AsyncAdapt_aiosqlite_cursor):
    __slots__ = ()

    _awaitable_cursor_close = False

    def _make_new_cursor(self, connection: Any) -> Any:
        return _Outcome()

    def _aenter_cursor(self, cursor: Any) -> Any:
        return cursor

    async def _execute_async(self, operation: Any, parameters: Any) -> Any:
        return await self._run(_execute, operation, () if parameters is None else parameters)

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> Any:
        return await self._run(_execute_many, operation, seq_of_parameters)

    async def _run(self, work: Any, operation: Any, parameters: Any) -> Any:
        adapted: Any = self._adapt_connection
        connection: Any = self._connection
        if operation == BEGIN:
            adapted.begins = True
            return self._cursor
        async with adapted._execute_mutex:
            begins, adapted.begins = adapted.begins, False
            outcome, rows = await connection._execute(work, connection._conn, begins, operation, parameters)
        self._cursor, self._rows = outcome, collections.deque(rows)
        return outcome


class _StreamingCursor(AsyncAdapt_aiosqlite_ss_cursor):
    """Gives its rows piece by piece. It is the library's, and may be what a transaction begins with, too."""

    __slots__ = ()

    async def _execute_async(self, operation: Any, parameters: Any) -> Any:
        adapted: Any = self._adapt_connection
        connection: Any = self._connection
        begins, adapted.begins = adapted.begins, False
        if begins:
            await connection._execute(_begin, connection._conn)
        return await super()._execute_async(operation, parameters)


class _Threaded(aiosqlite.Connection):
    """A thread is told to end once: whoever told it again would wait for ever for its answer."""

    def stop(self) -> asyncio.Future[Any] | None:
        return super().stop() if self._running else None


class _Connection(AsyncAdapt_aiosqlite_connection):
    """`begins`: a transaction was begun that no statement was executed in yet."""

    __slots__ = ("begins",)

    _cursor_cls = _Cursor
    _ss_cursor_cls = _StreamingCursor

    def __init__(self, dbapi: Any, connection: Any) -> None:
        super().__init__(dbapi, connection)
        self.begins = False

    def commit(self) -> None:
        self._end(super().commit)

    def rollback(self) -> None:
        self._end(super().rollback)

    def _end(self, end: Callable[[], None]) -> None:
        if self.begins:
            self.begins = False
        else:
            end()


class Driver(AsyncAdapt_aiosqlite_dbapi):
    """For one engine: `create_async_engine(module=Driver())`."""

    def __init__(self) -> None:
        super().__init__(aiosqlite, sqlite3)
        self._opened: WeakSet[aiosqlite.Connection] = WeakSet()

    def connect(self, *arg: Any, **kw: Any) -> AsyncAdapt_aiosqlite_connection:
        return _Connection(self, super().connect(*arg, async_creator_fn=self._create, **kw)._connection)

    def _create(self, *arg: Any, **kw: Any) -> aiosqlite.Connection:
        connection = aiosqlite.connect(*arg, **kw)
        connection.__class__ = _Threaded
        connection._thread.daemon = True  # as SQLAlchemy does it
        self._opened.add(connection)
        return connection

    async def aclose(self) -> None:
        """Closes what the pool has lost sight of, as it does when it is cancelled while it makes a connection."""
        for connection in list(self._opened):
            if (closed := connection.stop()) is not None:
                await closed


def prepare(adapted: Any, work: Callable[[sqlite3.Connection], None]) -> None:
    """Does something with a new connection, in its thread and in one hand-over."""
    adapted.run_async(lambda connection: connection._execute(work, connection._conn))


def _begin(connection: sqlite3.Connection) -> None:
    connection.execute(BEGIN).close()


def _execute(connection: sqlite3.Connection, begins: bool, statement: str, parameters: Any) -> Finished:
    if begins:
        _begin(connection)
    return _finish(connection.execute(statement, parameters))


def _execute_many(connection: sqlite3.Connection, begins: bool, statement: str, parameters: Any) -> Finished:
    if begins:
        _begin(connection)
    return _finish(connection.executemany(statement, parameters))


def _finish(cursor: sqlite3.Cursor) -> Finished:
    try:
        rows = cursor.fetchall() if cursor.description else ()
        return _Outcome(cursor.description, cursor.rowcount, cursor.lastrowid, cursor.arraysize), rows
    finally:
        cursor.close()
