"""The versions of the tables that this version of the program knows, read without Alembic.

They are what the files below `migrations/versions` say of themselves, as Alembic reads them.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, inspect, text

MIGRATIONS = Path(__file__).parent / "migrations"
_ALEMBICS_TABLE = "alembic_version"
_REVISION = re.compile(r"^revision\b[^=\n]*= *[\"'](\w+)[\"']", re.MULTILINE)
_BEFORE = re.compile(r"^down_revision\b[^=\n]*= *(?:[\"'](\w+)[\"']|None)", re.MULTILINE)


@cache
def _revisions() -> dict[str, str | None]:
    """Each version, with the one before it."""
    found: dict[str, str | None] = {}
    for path in (MIGRATIONS / "versions").glob("*.py"):
        source = path.read_text(encoding="utf-8")
        revision, before = _REVISION.search(source), _BEFORE.search(source)
        if revision is None or before is None:
            raise ValueError(f"{path.name} does not say which revision it is")
        found[revision[1]] = before[1]
    return found


def known_revisions() -> set[str]:
    """Every version of the tables that this version of the program knows."""
    return set(_revisions())


def newest() -> str:
    """The version that `migrate` brings the tables to."""
    (head,) = set(_revisions()) - set(_revisions().values())
    return head


def is_newest(connection: Connection) -> bool:
    """Whether the tables are of that version."""
    if not inspect(connection).has_table(_ALEMBICS_TABLE):
        return False
    return list(connection.scalars(text(f"SELECT version_num FROM {_ALEMBICS_TABLE}"))) == [newest()]  # noqa: S608
