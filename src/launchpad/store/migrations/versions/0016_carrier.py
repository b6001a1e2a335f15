"""Instances name no process: the one that holds the lease carries out everything"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("instances", "carrier")
