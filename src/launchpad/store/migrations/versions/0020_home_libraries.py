"""The libraries of packages that were found in each home"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from launchpad.store.changes import trigger_statements
from launchpad.store.schema import Instant

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "home_libraries",
        sa.Column("user_id", sa.String(length=16), nullable=False),
        sa.Column("found", sa.Text(), nullable=False),
        sa.Column("dismissed", sa.Text(), nullable=False),
        sa.Column("looked_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_home_libraries")),
    )
    for statement in trigger_statements(op.get_bind().dialect.name, "home_libraries", "user_id"):
        op.execute(statement)
