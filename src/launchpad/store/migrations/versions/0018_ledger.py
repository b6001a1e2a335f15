"""The audit: whose things an entry is about, the chain of its entries, and looks that are counted"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from launchpad.store.schema import Instant

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audit", sa.Column("owner_id", sa.String(length=16), nullable=True))
    op.add_column("audit", sa.Column("continues_id", sa.Integer(), nullable=True))
    # Entries that are there are chained by `Database.migrate`, which has the key, in the same transaction.
    op.add_column("audit", sa.Column("mac", sa.String(length=64), server_default=sa.text("''"), nullable=False))
    op.create_index("ix_audit_owner_id_id", "audit", ["owner_id", "id"], unique=False)
    op.create_index("ix_audit_continues_id", "audit", ["continues_id"], unique=False)
    op.create_table(
        "audit_looks",
        sa.Column("actor", sa.String(length=254), nullable=False),
        sa.Column("client", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=60), nullable=False),
        sa.Column("subject", sa.String(length=254), nullable=False),
        sa.Column("owner_id", sa.String(length=16), nullable=False),
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("first_at", Instant(), nullable=False),
        sa.Column("last_at", Instant(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("actor", "client", "action", "subject", "owner_id", name=op.f("pk_audit_looks")),
    )
