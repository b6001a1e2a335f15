"""The idle policy: until when owners keep instances, since when these are watched, and what was decided"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from launchpad.store.schema import Instant

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("instances", sa.Column("kept_until", Instant(), nullable=True))
    op.create_table(
        "idle_watches",
        sa.Column("instance_id", sa.String(length=16), nullable=False),
        sa.Column("watched_since", Instant(), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("idle_minutes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_idle_watches")),
    )
    op.create_table(
        "idle_decisions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("instance_id", sa.String(length=16), nullable=False),
        sa.Column("owner_id", sa.String(length=16), nullable=False),
        sa.Column("environment", sa.String(length=31), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("why", sa.String(length=32), nullable=False),
        sa.Column("rule", sa.String(length=500), nullable=False),
        sa.Column("evidence", sa.String(length=500), nullable=False),
        sa.Column("idle_since", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idle_decisions")),
    )
    op.create_index("ix_idle_decisions_at", "idle_decisions", ["at"], unique=False)
    op.create_index("ix_idle_decisions_instance_id_id", "idle_decisions", ["instance_id", "id"], unique=False)
