"""Databases for tests: copies of one that is migrated once, on SQLite and on a PostgreSQL server of the tests' own.

A test whose SQL or locks may behave otherwise on PostgreSQL says `@on_every_database` (a whole module of them:
`pytestmark = on_every_database`). It then runs twice, and `database`, `database_url` and `World` come with a database
of the kind whose turn it is.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

from launchpad.domain.naming import new_id
from launchpad.store.audit_chain import ChainKeeper
from launchpad.store.database import Database

T = TypeVar("T")
PATIENCE_SECONDS = 60
TEMPLATE = "launchpad_template"
# Nothing has to survive the machine's end; a test's few connections need no memory.
QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "16MB",
    "max_connections": "300",
    "listen_addresses": "",
}


class PostgresServer:
    """PostgreSQL with a cluster of its own, on a socket in a temporary folder; who works as root lends it a user."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="launchpad-postgresql-"))
        # Debian keeps the server's programs out of everybody's way, one folder a version.
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        self._programs = found[-1].parent if found else Path(str(shutil.which("initdb"))).parent
        self._as = ["setpriv", "--pdeathsig", "INT"]
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            groups = ["--clear-groups", "--regid", grp.getgrgid(user.pw_gid).gr_name]
            self._as = ["setpriv", "--reuid", user.pw_name, *groups, "--pdeathsig", "INT"]
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--auth=trust", "--username=launchpad", "--no-sync", "--encoding=UTF8"]
        # As servers often are, and other than SQLite: capitals and punctuation do not come before letters.
        options += ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]
        self.run("initdb", f"--pgdata={self.folder / 'data'}", *options, tool_of_server=True)
        self.serve()

    def serve(self) -> None:
        settings = [f"-c{name}={value}" for name, value in QUICK.items()]
        log = (self.folder / "log").open("ab")
        program = [*self._as, str(self._programs / "postgres"), "-D", str(self.folder / "data")]
        self._server = subprocess.Popen([*program, f"-k{self.folder}", *settings], stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.answers():
            assert self._server.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL does not start"
            time.sleep(0.05)

    def answers(self) -> bool:
        ready = [str(self._programs / "pg_isready"), f"--host={self.folder}", "--quiet"]
        return subprocess.run(ready, check=False).returncode == 0

    def run(self, program: str, *arguments: str, tool_of_server: bool = False) -> str:
        """What a program of PostgreSQL says; those of its clients know where the server is."""
        where = [] if tool_of_server else [f"--host={self.folder}", "--username=launchpad"]
        command = [*self._as, str(self._programs / program), *where, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder)
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout

    def create(self, name: str, template: str = "template0") -> str:
        """Makes a database; returns its URL."""
        # The default writes the whole template into the log, which takes the server three times as long.
        how = [f"--template={template}", "--strategy=file_copy", "--maintenance-db=postgres"]
        self.run("createdb", *how, name)
        return f"postgresql+asyncpg://launchpad@/{name}?host={self.folder}"

    def drop(self, name: str) -> None:
        self.run("dropdb", "--force", "--if-exists", "--maintenance-db=postgres", name)

    def halt(self) -> None:
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)  # without waiting for clients
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(PATIENCE_SECONDS)
            self._server.kill()
            self._server.wait()
            self._server = None

    def stop(self) -> None:
        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)


async def migrated(url: str) -> None:
    database = Database(url)
    await database.migrate()
    await database.aclose()


class Databases:
    """Gives out databases, one a folder; those of PostgreSQL are gone after the test that asked for them."""

    def __init__(self) -> None:
        self.kind = "sqlite"
        self._file: Path | None = None
        self._server: PostgresServer | None = None
        self._template_made = False
        self._given: dict[Path, str] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="launchpad-template-")

    @property
    def server(self) -> PostgresServer:
        if self._server is None:
            self._server = PostgresServer()
            self._server.start()
        return self._server

    def file(self) -> Path:
        """A migrated SQLite database, to be copied."""
        if self._file is None:
            file = Path(self._folder.name) / "launchpad.db"
            _in_a_thread(migrated(f"sqlite+aiosqlite:///{file}"))
            self._file = file
        return self._file

    def url(self, folder: Path) -> str:
        """A migrated database for what lives in `folder`; the same one whenever it is asked for again."""
        if self.kind == "sqlite":
            if not (folder / "launchpad.db").exists():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                shutil.copyfile(self.file(), folder / "launchpad.db")
            return f"sqlite+aiosqlite:///{folder / 'launchpad.db'}"
        if folder not in self._given:
            if not self._template_made:
                _in_a_thread(migrated(self.server.create(TEMPLATE)))
                self._template_made = True
            self._given[folder] = self.server.create(f"t{new_id()}", TEMPLATE)
        return self._given[folder]

    def empty_url(self, folder: Path) -> str:
        """A database without tables."""
        if self.kind == "sqlite":
            return f"sqlite+aiosqlite:///{folder / 'empty.db'}"
        name = f"e{new_id()}"
        return self._given.setdefault(folder / name, self.server.create(name))

    def rows(self, url: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Reads by a statement with `?` for its values, past the platform; returns its rows."""
        if url.startswith("sqlite"):
            with closing(_sqlite(url)) as db:
                db.execute("PRAGMA query_only = 1")
                return db.execute(sql, values).fetchall()
        return _in_a_thread(_rows(url, sql, values, readonly=True))

    async def change(self, url: str, sql: str, *values: object) -> None:
        """Changes something past the platform. The platform goes on meanwhile: it may have to finish a change first."""

        def change() -> None:
            with closing(_sqlite(url)) as db, db:
                db.execute(sql, values)

        if url.startswith("sqlite"):
            await asyncio.to_thread(change)
        else:
            await _rows(url, sql, values, readonly=False)

    def take_back(self) -> None:
        for url in self._given.values():
            self.server.drop(name_of(url))
        self._given.clear()

    def close(self) -> None:
        if self._server is not None:
            self._server.stop()
        self._folder.cleanup()


def name_of(url: str) -> str:
    return url.partition("@/")[2].partition("?")[0]


def _sqlite(url: str) -> sqlite3.Connection:
    return sqlite3.connect(url.partition(":///")[2], timeout=PATIENCE_SECONDS)


async def _rows(url: str, sql: str, values: Sequence[object], *, readonly: bool) -> list[tuple[Any, ...]]:
    parts = sql.split("?")
    numbered = parts[0] + "".join(f"${number}{part}" for number, part in enumerate(parts[1:], 1))
    db = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        async with db.transaction(readonly=readonly):
            return [tuple(row) for row in await db.fetch(numbered, *values)]
    finally:
        await db.close()


def _in_a_thread(work: Coroutine[Any, Any, T]) -> T:
    """A loop may run in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


databases = Databases()

KEEPER = ChainKeeper(b"k" * 32, None, lambda: datetime.now(UTC))  # of databases without a state directory


@pytest.fixture(scope="session", autouse=True)
def _databases() -> Iterator[None]:
    yield
    databases.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def every_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test on each kind of database; its name."""
    databases.kind = request.param
    yield databases.kind
    databases.take_back()
    databases.kind = "sqlite"


on_every_database = pytest.mark.usefixtures("every_database")


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """A migrated database of this test's own, which `database` opens; a second `Database` is like another process."""
    return databases.url(tmp_path)


@pytest.fixture
def empty_url(tmp_path: Path) -> str:
    """A database without tables."""
    return databases.empty_url(tmp_path)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A migrated database of its own. On SQLite its file is `tmp_path / "launchpad.db"`."""
    database = Database(database_url, chain=KEEPER)
    yield database
    await database.aclose()
