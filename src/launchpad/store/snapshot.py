"""A copy of the SQLite database while it is written to, and what has to end when such a copy comes back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from ..errors import StoreUnavailable

BUSY_SECONDS = 30.0
# What lets somebody in without showing anew who they are. A copy knows nothing of what ended since it was made.
WAYS_IN = ("logins", "challenges", "tickets", "grants", "tokens", "passkey_challenges", "outgoing_mails")


def take(source: Path, target: Path) -> None:
    """Copies the database as it is at one instant. Writers go on meanwhile.

    Raises:
        StoreUnavailable: it is missing or broken, or the copy has no room.
    """
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as db,
            closing(sqlite3.connect(target)) as copy,
        ):
            db.backup(copy)  # in one step: with write-ahead logging, a reader holds nobody up
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without others beside it
    except sqlite3.Error as error:
        raise StoreUnavailable(f"The database {source} cannot be copied: {error}.") from error


def revision_of(path: Path) -> str:
    """The version of the tables, for a copy that is whole.

    Raises:
        StoreUnavailable: it is damaged.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            problems = [str(row[0]) for row in db.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
            problems += [f"a row of {row[0]} without its {row[2]}" for row in db.execute("PRAGMA foreign_key_check")]
            if problems:
                raise StoreUnavailable(f"The copy of the database is damaged: {'; '.join(problems[:5])}.")
            return str(db.execute("SELECT version_num FROM alembic_version").fetchone()[0])
    except (sqlite3.Error, TypeError) as error:
        raise StoreUnavailable(f"The copy of the database is damaged: {error}.") from error


def revision_in_use(path: Path) -> str | None:
    """The version of the tables of a database that is in use; None: there is none yet.

    Raises:
        StoreUnavailable: it cannot be read.
    """
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as db:
            row = db.execute("SELECT version_num FROM alembic_version").fetchone()
            return None if row is None else str(row[0])
    except sqlite3.Error as error:
        raise StoreUnavailable(f"The database {path} cannot be read: {error}.") from error


def end_logins_and_codes(path: Path) -> int:
    """Ends every login, code, ticket, cookie of an instance and API token of a copy; returns how many.

    Raises:
        StoreUnavailable: the copy cannot be changed, since the disk is full.
    """
    try:
        with closing(sqlite3.connect(path)) as db, db:
            there = {str(row[0]) for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return sum(db.execute(f"DELETE FROM {name}").rowcount for name in WAYS_IN if name in there)  # noqa: S608
    except sqlite3.Error as error:
        raise StoreUnavailable(f"The copy of the database cannot be changed: {error}.") from error


def counts(path: Path) -> dict[str, int]:
    """How many users and instances a copy has."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
        return {
            name: int(db.execute(f"SELECT count(*) FROM {name}").fetchone()[0])  # noqa: S608
            for name in ("users", "instances")
        }
