"""Reads the database of the platform's predecessor (datascience-launchpad), in any of the shapes it had.

Its users are `users(id, username, password_hash, is_admin, created_at, lab_name)`, later with `email` (and no password)
in place of the user name; its instances `rstudio_instances`, later `user_instances`. Sites may have added columns.
Passwords and codes are not even read.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from ..domain.original import ALIVE, OriginalUser
from ..errors import InvalidInput

BUSY_SECONDS = 10.0
USERS = {"id", "is_admin", "created_at", "lab_name"}
NAMES = ("username", "email")  # one of them, or both
INSTANCES = {"user_id", "container_name", "status"}
INSTANCE_TABLES = ("user_instances", "rstudio_instances")  # a server that was updated can have both


def read(path: Path) -> list[OriginalUser]:
    """Its users, by id. Nothing is written, and nothing made.

    Raises:
        InvalidInput: there is no such file, it is no database, or not that platform's; the text says what is missing.
    """
    if not path.is_file():
        raise InvalidInput(f"There is no file {path}.")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as db:
            db.text_factory = lambda raw: raw.decode("utf-8", "replace")
            db.row_factory = sqlite3.Row
            return _users(db, path)
    except sqlite3.Error as error:
        raise InvalidInput(f"{path} cannot be read as an SQLite database: {error}.") from error


def _users(db: sqlite3.Connection, path: Path) -> list[OriginalUser]:
    tables = {str(row[0]) for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "users" not in tables:
        raise _unknown(path, "the table users")
    columns = _columns(db, "users")
    names = [name for name in NAMES if name in columns]
    missing = sorted(USERS - columns)
    if not names:
        missing.append("username or email")
    if missing:
        raise _unknown(path, f"in the table users: {', '.join(missing)}")
    running = _running(db, path, [table for table in INSTANCE_TABLES if table in tables])
    found = []
    for row in db.execute("SELECT * FROM users ORDER BY id"):
        name, *more = [str(row[column]) for column in names if row[column]] or [""]
        found.append(
            OriginalUser(
                name=name.strip(),
                email=more[0].strip() if more else None,
                is_admin=str(row["is_admin"]).lower() in ("1", "true"),
                lab=None if row["lab_name"] is None else str(row["lab_name"]),
                created_at=_instant(row["created_at"]),
                running=tuple(running.get(str(row["id"]), ())),
            )
        )
    return found


def _running(db: sqlite3.Connection, path: Path, tables: list[str]) -> dict[str, list[str]]:
    """Names of running containers, by the user's id."""
    if not tables:
        raise _unknown(path, f"the table {' or '.join(INSTANCE_TABLES)}")
    found: dict[str, list[str]] = {}
    for table in tables:
        if missing := sorted(INSTANCES - _columns(db, table)):
            raise _unknown(path, f"in the table {table}: {', '.join(missing)}")
        query = f"SELECT user_id, container_name, status FROM {table}"  # noqa: S608 - one of two names
        for row in db.execute(query):
            if row["status"] in ALIVE:
                found.setdefault(str(row["user_id"]), []).append(str(row["container_name"]))
    return found


def _columns(db: sqlite3.Connection, table: str) -> set[str]:
    return {str(row["name"]) for row in db.execute(f"PRAGMA table_info({table})")}


def _instant(value: object) -> datetime | None:
    """Its clock is UTC, said or not; None for what is no instant."""
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _unknown(path: Path, missing: str) -> InvalidInput:
    text = f"{path} is not the original platform's database, or its version is not known."
    return InvalidInput(f"{text} Missing: {missing}.")
