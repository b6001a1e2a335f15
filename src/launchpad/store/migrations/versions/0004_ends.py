"""How instances end: who ended them, the likely cause, lack of memory, the last lines of their log; safe mode"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from launchpad.store.database import Instant

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("instances", sa.Column("safe_mode", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("instances", sa.Column("ended_by", sa.String(length=254), nullable=True))
    op.add_column("instances", sa.Column("cause", sa.String(length=16), nullable=True))
    op.add_column("instances", sa.Column("oom_count", sa.Integer(), server_default="0", nullable=False))
    op.add_column("instances", sa.Column("oom_at", Instant(), nullable=True))
    op.create_table(
        "instance_logs",
        sa.Column("instance_id", sa.String(length=16), nullable=False),
        sa.Column("kept_at", Instant(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instances.id"], name=op.f("fk_instance_logs_instance_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_instance_logs")),
    )
    with op.batch_alter_table("instance_logs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_instance_logs_kept_at"), ["kept_at"], unique=False)
