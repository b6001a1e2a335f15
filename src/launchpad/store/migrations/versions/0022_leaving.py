"""People who leave: what is due for their homes, archives of homes, and work on homes in the background"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from launchpad.store.schema import Instant

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "leaving",
        sa.Column("user_id", sa.String(length=16), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("since_at", Instant(), nullable=False),
        sa.Column("archive_at", Instant(), nullable=True),
        sa.Column("warned_before_seconds", sa.Integer(), nullable=True),
        sa.Column("warned_at", Instant(), nullable=True),
        sa.Column("archive_id", sa.String(length=16), nullable=True),
        sa.Column("archived_at", Instant(), nullable=True),
        sa.Column("remove_home_at", Instant(), nullable=True),
        sa.Column("home_removed_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_leaving")),
    )
    op.create_index("ix_leaving_archive_at", "leaving", ["archive_at"], unique=False)
    op.create_index("ix_leaving_remove_home_at", "leaving", ["remove_home_at"], unique=False)
    op.create_table(
        "home_archives",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("user_id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("username", sa.String(length=32), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False),
        sa.Column("made_at", Instant(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("changed", sa.Integer(), nullable=False),
        sa.Column("left_out", sa.Text(), nullable=False),
        sa.Column("verified_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_home_archives")),
    )
    op.create_index("ix_home_archives_user_id", "home_archives", ["user_id", "made_at"], unique=False)
    op.create_table(
        "home_work",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("user_id", sa.String(length=16), nullable=False),
        sa.Column("asked_at", Instant(), nullable=False),
        sa.Column("actor", sa.String(length=254), nullable=False),
        sa.Column("client", sa.String(length=64), nullable=False),
        sa.Column("actor_id", sa.String(length=16), nullable=True),
        sa.Column("is_automatic", sa.Boolean(), nullable=False),
        sa.Column("archive_id", sa.String(length=16), nullable=True),
        sa.Column("to_user_id", sa.String(length=16), nullable=True),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("began_at", Instant(), nullable=True),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.String(length=1000), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_home_work")),
    )
    op.create_index("ix_home_work_state", "home_work", ["state", "asked_at"], unique=False)
    op.create_index("ix_home_work_user_id", "home_work", ["user_id", "asked_at"], unique=False)
