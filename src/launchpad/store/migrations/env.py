"""Alembic's entry. It works on the connection that `Database.migrate` hands in, inside its transaction."""

from __future__ import annotations

from alembic import context

from launchpad.store import tables  # noqa: F401 - importing it fills the metadata
from launchpad.store.database import metadata

context.configure(
    connection=context.config.attributes["connection"],
    user_module_prefix="",
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,  # Database.transaction() holds the transaction
)
context.run_migrations()
