"""Memory: what was ended for lack of it, what it was raised from, and who was warned"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from launchpad.store.schema import Instant

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

KEPT = "an entry of instance_history is never changed or removed"
FACTS = (
    "instance_id, owner_id, owner_email, lab, environment, memory_bytes, cpus, storage_bytes, days, created_at, "
    "expires_at, admitted_at, started_at, ended_at, state, reason, ended_by, cause, oom_count, oom_at, image, "
    "stand_in, safe_mode, cpu_seconds, peak_memory_bytes, oom_program, oom_bytes, oom_limit_bytes, "
    "launched_memory_bytes"
)


def upgrade() -> None:
    for table in ("instances", "instance_history"):
        op.add_column(table, sa.Column("oom_program", sa.String(length=60), nullable=True))
        op.add_column(table, sa.Column("oom_bytes", sa.BigInteger(), nullable=True))
        op.add_column(table, sa.Column("oom_limit_bytes", sa.BigInteger(), nullable=True))
        op.add_column(table, sa.Column("launched_memory_bytes", sa.BigInteger(), nullable=True))
    op.add_column("instances", sa.Column("memory_warned_at", Instant(), nullable=True))
    for statement in _guards(op.get_bind().dialect.name):  # the new columns of a record never change, either
        op.execute(statement)


def _guards(dialect: str) -> tuple[str, str]:
    made = f"CREATE TRIGGER instance_history_unchanged BEFORE UPDATE OF {FACTS} ON instance_history"
    if dialect == "sqlite":
        return "DROP TRIGGER instance_history_unchanged", f"{made} BEGIN SELECT RAISE(ABORT, '{KEPT}'); END"
    return (
        "DROP TRIGGER instance_history_unchanged ON instance_history",
        f"{made} FOR EACH ROW EXECUTE FUNCTION launchpad_keep_history()",
    )
