"""Brings the tables from an older version to this one, with Alembic."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from ..errors import StoreUnavailable
from .revisions import MIGRATIONS, known_revisions


def upgrade(connection: Connection) -> None:
    """Raises StoreUnavailable where a newer version of the program has written them."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    present = MigrationContext.configure(connection).get_current_revision()
    if present is not None and present not in known_revisions():
        raise StoreUnavailable(
            "The database was written by a newer version of this program. Install that version, or restore a backup."
        )
    command.upgrade(config, "head")
