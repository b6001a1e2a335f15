"""The fair queue: places and estimates of what queues, and what labs and people had lately"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from launchpad.store.schema import Instant

revision = "0013"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("instances", sa.Column("queue_rank", sa.Float(), nullable=True))
    op.add_column("instances", sa.Column("estimated_start_at", Instant(), nullable=True))
    op.add_column("instances", sa.Column("passed_until", Instant(), nullable=True))
    op.create_table(
        "recent_use",
        sa.Column("holder", sa.String(length=110), nullable=False),
        sa.Column("memory_bytes", sa.Float(), nullable=False),
        sa.Column("cpus", sa.Float(), nullable=False),
        sa.Column("counted_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("holder", name=op.f("pk_recent_use")),
    )
