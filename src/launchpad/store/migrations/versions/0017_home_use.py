"""What homes take up: as measured last, and a point a day; and what instances write outside of them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from launchpad.store.changes import trigger_statements
from launchpad.store.schema import Instant

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("instances", sa.Column("written_bytes", sa.BigInteger(), nullable=True))
    op.create_table(
        "home_use",
        sa.Column("user_id", sa.String(length=16), nullable=False),
        sa.Column("used_bytes", sa.BigInteger(), nullable=True),
        sa.Column("limit_bytes", sa.BigInteger(), nullable=True),
        sa.Column("free_bytes", sa.BigInteger(), nullable=True),
        sa.Column("is_floor", sa.Boolean(), nullable=False),
        sa.Column("walked_seconds", sa.Float(), nullable=True),
        sa.Column("measured_at", Instant(), nullable=False),
        sa.Column("looked_at", Instant(), nullable=False),
        sa.Column("grown_week_bytes", sa.BigInteger(), nullable=True),
        sa.Column("grown_month_bytes", sa.BigInteger(), nullable=True),
        sa.Column("warned", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_home_use")),
    )
    op.create_index("ix_home_use_looked_at", "home_use", ["looked_at", "user_id"])
    op.create_index("ix_home_use_measured_at", "home_use", ["measured_at", "user_id"])
    for statement in trigger_statements(op.get_bind().dialect.name, "home_use", "user_id"):
        op.execute(statement)
    op.create_table(
        "home_history",
        sa.Column("user_id", sa.String(length=16), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("used_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "day", name=op.f("pk_home_history")),
    )
    op.create_index("ix_home_history_day", "home_history", ["day"])
