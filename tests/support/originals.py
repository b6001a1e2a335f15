"""Databases as the platform's predecessor left them, one for each shape that it had."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

_INSTANCES = """
CREATE TABLE {table} (
    id INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER NOT NULL, container_name TEXT NOT NULL, container_id TEXT,
    port INTEGER NOT NULL DEFAULT 9002, password TEXT NOT NULL DEFAULT 'p', created_at DATETIME, expires_at DATETIME,
    status TEXT DEFAULT 'requested', stopped_at DATETIME {more}
);
"""
_BY_USERNAME = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT, username TEXT UNIQUE NOT NULL, password_hash TEXT NOT NULL DEFAULT 'hash',
    is_admin BOOLEAN DEFAULT FALSE, created_at DATETIME DEFAULT CURRENT_TIMESTAMP, lab_name TEXT NOT NULL
);
"""
_BY_EMAIL = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT UNIQUE NOT NULL, is_admin BOOLEAN DEFAULT FALSE,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP, last_login DATETIME, lab_name TEXT {null}
);
CREATE TABLE otp_tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT NOT NULL, token TEXT NOT NULL, expires_at DATETIME NOT NULL,
    attempts INTEGER DEFAULT 0, used BOOLEAN DEFAULT FALSE, created_at DATETIME DEFAULT CURRENT_TIMESTAMP
);
"""
_KINDS = ", instance_type TEXT DEFAULT 'rstudio'"
_SIZES = ", memory_limit TEXT, cpu_limit TEXT, storage_limit TEXT, session_days INTEGER DEFAULT 2"

# The table's definition, the column of names, the table of instances.
SHAPES = {
    "first": (_BY_USERNAME + _INSTANCES.format(table="rstudio_instances", more=""), "username", "rstudio_instances"),
    "with JupyterLab": (
        _BY_USERNAME + _INSTANCES.format(table="user_instances", more=_KINDS),
        "username",
        "user_instances",
    ),
    "with codes by mail": (
        _BY_EMAIL.format(null="NOT NULL") + _INSTANCES.format(table="user_instances", more=_KINDS),
        "email",
        "user_instances",
    ),
    "with sizes": (
        _BY_EMAIL.format(null="") + _INSTANCES.format(table="user_instances", more=_KINDS + _SIZES),
        "email",
        "user_instances",
    ),
}


def original_database(
    path: Path,
    users: Sequence[dict[str, Any]],
    *,
    shape: str = "with JupyterLab",
    running: Sequence[tuple[int, str]] = (),
) -> Path:
    """A database of that shape.

    Args:
        users: `name`, and where they matter `is_admin`, `created_at`, `lab_name`.
        running: pairs of a user's number, from 1 on, and a container's name.
    """
    script, column, instances = SHAPES[shape]
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(script)
        for user in users:
            values = {"lab_name": "Lab", "created_at": "2025-05-20 08:00:00.5", "is_admin": False} | user
            db.execute(
                f"INSERT INTO users ({column}, is_admin, created_at, lab_name) VALUES (?, ?, ?, ?)",
                (values["name"], values["is_admin"], values["created_at"], values["lab_name"]),
            )
        for user_id, name in running:
            db.execute(
                f"INSERT INTO {instances} (user_id, container_name, status) VALUES (?, ?, 'running')", (user_id, name)
            )
        db.execute(f"INSERT INTO {instances} (user_id, container_name, status) VALUES (1, 'long-gone', 'stopped')")
    return path
