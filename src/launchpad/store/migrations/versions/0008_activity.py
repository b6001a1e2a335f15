"""What instances did: series of points, and what was seen last"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from launchpad.store.schema import Instant

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "activity_series",
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("begins_at", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("instance_id", sa.String(length=16), nullable=False),
        sa.Column("points", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("step", "begins_at", "instance_id", name=op.f("pk_activity_series")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "instance_activity",
        sa.Column("instance_id", sa.String(length=16), nullable=False),
        sa.Column("last_person_at", Instant(), nullable=True),
        sa.Column("last_work_at", Instant(), nullable=True),
        sa.Column("sampled_at", Instant(), nullable=True),
        sa.Column("sample", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_instance_activity")),
    )
