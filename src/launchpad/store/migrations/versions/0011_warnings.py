"""Warnings of ends, announcements, the users' time zones, and time to finish at the end of an instance"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from launchpad.store.changes import trigger_statements
from launchpad.store.schema import Instant

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("time_zone", sa.String(length=64), nullable=True))
    op.add_column("instances", sa.Column("extended_at", Instant(), nullable=True))
    op.add_column("instances", sa.Column("grace_until", Instant(), nullable=True))
    op.create_table(
        "warnings",
        sa.Column("instance_id", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("ends_at", Instant(), nullable=False),
        sa.Column("lead_seconds", sa.Integer(), nullable=False),
        sa.Column("sent_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", "kind", "ends_at", "lead_seconds", name=op.f("pk_warnings")),
    )
    op.create_table(
        "announcements",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("text", sa.String(length=500), nullable=False),
        sa.Column("shown_from", Instant(), nullable=False),
        sa.Column("shown_until", Instant(), nullable=True),
        sa.Column("stop_instances_at", Instant(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("created_by", sa.String(length=254), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_announcements")),
    )
    op.create_index("ix_announcements_shown_until", "announcements", ["shown_until"], unique=False)
    for statement in trigger_statements(op.get_bind().dialect.name, "announcements", "id"):
        op.execute(statement)
