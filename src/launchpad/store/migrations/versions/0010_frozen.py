"""What is to be frozen, what is, why, and how much memory it still holds"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from launchpad.store.schema import Instant

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("instances", sa.Column("freeze_asked_at", Instant(), nullable=True))
    op.add_column("instances", sa.Column("frozen_at", Instant(), nullable=True))
    op.add_column("instances", sa.Column("frozen_reason", sa.String(length=300), nullable=True))
    op.add_column("instances", sa.Column("frozen_memory_bytes", sa.BigInteger(), nullable=True))
