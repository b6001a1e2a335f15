"""Files and folders that their owners share"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from launchpad.store.changes import trigger_statements
from launchpad.store.schema import Instant

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "shares",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("owner_id", sa.String(length=16), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("lab", sa.String(length=100), nullable=True),
        sa.Column("emails", sa.Text(), nullable=False),
        sa.Column("secret_digest", sa.String(length=64), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shares")),
    )
    op.create_index(op.f("ix_shares_expires_at"), "shares", ["expires_at"])
    op.create_index("ix_shares_owner_id", "shares", ["owner_id", "created_at"])
    op.create_index("ix_shares_lab", "shares", ["lab"])
    for statement in trigger_statements(op.get_bind().dialect.name, "shares", "id"):
        op.execute(statement)
    op.create_table(
        "share_people",
        sa.Column("share_id", sa.String(length=16), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("is_named", sa.Boolean(), nullable=False),
        sa.Column("opened_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("share_id", "email", name=op.f("pk_share_people")),
    )
    op.create_index("ix_share_people_email", "share_people", ["email", "share_id"])
