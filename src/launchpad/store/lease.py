"""Who owns the work: exactly one process carries out launches and ends, sweeps and samples; the others record intents.

On SQLite the lease is a locked file in the state directory: the kernel lets go of the lock at the instant the process
dies, however it dies, so nobody waits for a lease to run out. On PostgreSQL, where the processes may be on several
machines, it is an advisory lock of a session of its own; a session that is lost is a lease that is lost.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from ..domain.naming import new_id
from ..errors import StoreUnavailable
from .statedir import StateDir

log = structlog.get_logger(__name__)

LOCK_FILE = "owner.lock"
IN_USE_FILE = "in-use.lock"
ASK_AGAIN_SECONDS = 0.1  # who waits for a file's lock has it so long after the owner's death, at the latest
ASK_AGAIN_POSTGRESQL_SECONDS = 0.25
CHECK_SECONDS = 2.0  # how often the session of the advisory lock is checked
ANSWER_SECONDS = 3.0  # a server that does not answer within it has to be taken for lost
ADVISORY_KEY = 0x6C61756E63687061  # “launchpa”; advisory locks are numbered per database
# The server ends the session of an owner that cannot be reached after 5 + 3 * 2 s, when the owner itself, by
# CHECK_SECONDS + ANSWER_SECONDS, has long stopped working.
_KEEP_ALIVE = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3"}


class OwnerLease:
    """This process's claim to the lease; while the object lives, the state directory counts as in use.

    Args:
        state: the state directory, whose file is locked on SQLite.
        database_url: of the database; one of PostgreSQL keeps the lease itself.
    """

    def __init__(self, state: StateDir, database_url: str = "sqlite://") -> None:
        self.id = new_id()
        self._in_use = (state.run / IN_USE_FILE).open("a")
        fcntl.flock(self._in_use, fcntl.LOCK_SH)
        self._lock: _Lock
        if database_url.startswith("sqlite"):
            self._lock, self.ask_again_seconds = _FileLock(state.run / LOCK_FILE), ASK_AGAIN_SECONDS
        else:
            self._lock, self.ask_again_seconds = _AdvisoryLock(database_url), ASK_AGAIN_POSTGRESQL_SECONDS

    @property
    def is_held(self) -> bool:
        """Whether this process owns the work now."""
        return self._lock.is_held

    async def acquire(self) -> None:
        """Waits until this process holds the lease; a database that does not answer is waited for, too."""
        while not await self._try():  # noqa: ASYNC110 - the kernel and the server tell nobody that a lock is free
            await asyncio.sleep(self.ask_again_seconds)

    async def try_acquire(self) -> bool:
        """Whether this process holds the lease now, without waiting for another one to give it back.

        Raises:
            StoreUnavailable: the lock cannot be asked for.
        """
        return await self._lock.take()

    async def lost(self) -> None:
        """Waits until the lease is not held any more: it was given back, or its session with PostgreSQL ended."""
        await self._lock.lost.wait()

    async def release(self) -> None:
        """Gives it back; nothing where it is not held."""
        await self._lock.give_back()

    async def aclose(self) -> None:
        """Gives it back for good."""
        await self._lock.give_back()
        self._in_use.close()

    async def _try(self) -> bool:
        try:
            return await self._lock.take()
        except StoreUnavailable as error:
            log.warning("lease.unavailable", detail=error.detail)
            await asyncio.sleep(1)
            return False


def is_in_use(state_dir: Path) -> bool:
    """Whether any process works with this state directory now, the owner or not."""
    try:
        with (state_dir / "run" / IN_USE_FILE).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


class _Lock(Protocol):
    lost: asyncio.Event  # set while it is not held

    @property
    def is_held(self) -> bool: ...

    async def take(self) -> bool: ...

    async def give_back(self) -> None: ...


class _FileLock:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self.lost = asyncio.Event()
        self.lost.set()

    @property
    def is_held(self) -> bool:
        return self._file is not None

    async def take(self) -> bool:
        if self._file is not None:
            return True
        try:
            file = self._path.open("a+")
        except OSError as error:
            raise StoreUnavailable(f"{self._path} cannot be opened: {error.strerror}.") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        if not _is_still_at(self._path, file):  # a restore has put another directory in its place
            file.close()
            return False
        # For people who look: the lock says who, and not the text.
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file
        self.lost.clear()
        return True

    async def give_back(self) -> None:
        if self._file is not None:
            self._file.close()  # with the last descriptor goes the lock
            self._file = None
        self.lost.set()


def _is_still_at(path: Path, file: IO[str]) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    return False


class _AdvisoryLock:
    """pg_try_advisory_lock on a connection that does nothing else."""

    def __init__(self, url: str) -> None:
        self._engine: AsyncEngine = create_async_engine(
            url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"server_settings": _KEEP_ALIVE, "timeout": ANSWER_SECONDS},
        )
        self._connection: AsyncConnection | None = None
        self._held = False
        self._watching: asyncio.Task[None] | None = None
        self.lost = asyncio.Event()
        self.lost.set()

    @property
    def is_held(self) -> bool:
        return self._held

    async def take(self) -> bool:
        if self._held:
            return True
        try:
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                if self._connection is None:
                    self._connection = await self._connect()
                got = await self._connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_KEY})
        except (DBAPIError, OSError, TimeoutError) as error:
            await self._disconnect()
            raise StoreUnavailable("The database does not answer.") from error
        if got and self._connection is not None:
            self._held = True
            self.lost.clear()
            self._watching = asyncio.create_task(self._watch(), name="lease")
        return self._held

    async def give_back(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
            self._watching = None
        self._lose()
        await self._disconnect()  # the server lets go of a session's locks at its end
        await self._engine.dispose()

    async def _connect(self) -> AsyncConnection:
        connection = await self._engine.connect()
        raw = (await connection.get_raw_connection()).driver_connection
        if raw is not None:  # at once, where the end of the session can be seen
            raw.add_termination_listener(lambda _: self._ended(connection))
        return connection

    def _ended(self, connection: AsyncConnection) -> None:
        if connection is self._connection:
            self._lose()

    async def _watch(self) -> None:
        """Until the session does not answer any more; the process must not work on without the lease."""
        try:
            while self._held and self._connection is not None:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._connection.execute(text("SELECT 1"))
                await asyncio.sleep(CHECK_SECONDS)
        except (DBAPIError, OSError, TimeoutError) as error:
            log.error("lease.lost", error=str(error))
        self._lose()
        await self._disconnect()

    def _lose(self) -> None:
        self._held = False
        self.lost.set()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(DBAPIError, OSError, TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await connection.invalidate()
                    await connection.close()
