"""The history of instances, which nothing changes or removes; when each was admitted to start"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from launchpad.store.changes import trigger_statements
from launchpad.store.schema import Instant

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEPT = "an entry of instance_history is never changed or removed"
FACTS = (
    "instance_id, owner_id, owner_email, lab, environment, memory_bytes, cpus, storage_bytes, days, created_at, "
    "expires_at, admitted_at, started_at, ended_at, state, reason, ended_by, cause, oom_count, oom_at, image, "
    "stand_in, safe_mode, cpu_seconds, peak_memory_bytes"
)


def upgrade() -> None:
    op.add_column("instances", sa.Column("admitted_at", Instant(), nullable=True))
    op.create_table(
        "instance_history",
        sa.Column("instance_id", sa.String(length=16), nullable=False),
        sa.Column("owner_id", sa.String(length=16), nullable=False),
        sa.Column("owner_email", sa.String(length=254), nullable=False),
        sa.Column("lab", sa.String(length=100), nullable=True),
        sa.Column("environment", sa.String(length=31), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("cpus", sa.Float(), nullable=False),
        sa.Column("storage_bytes", sa.BigInteger(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.Column("admitted_at", Instant(), nullable=True),
        sa.Column("started_at", Instant(), nullable=True),
        sa.Column("ended_at", Instant(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("ended_by", sa.String(length=254), nullable=True),
        sa.Column("cause", sa.String(length=16), nullable=True),
        sa.Column("oom_count", sa.Integer(), nullable=False),
        sa.Column("oom_at", Instant(), nullable=True),
        sa.Column("image", sa.String(length=300), nullable=True),
        sa.Column("stand_in", sa.Boolean(), nullable=False),
        sa.Column("safe_mode", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("cpu_seconds", sa.Float(), nullable=True),
        sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("removed_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_instance_history")),
    )
    for name, columns in (
        ("ix_instance_history_ended_at", ["ended_at", "instance_id"]),
        ("ix_instance_history_state_ended_at", ["state", "ended_at", "instance_id"]),
        ("ix_instance_history_environment_state_ended_at", ["environment", "state", "ended_at", "instance_id"]),
        ("ix_instance_history_created_at", ["created_at", "instance_id"]),
        ("ix_instance_history_owner_id_ended_at", ["owner_id", "ended_at", "instance_id"]),
        ("ix_instance_history_owner_id_created_at", ["owner_id", "created_at", "instance_id"]),
    ):
        op.create_index(name, "instance_history", columns, unique=False)
    _copy_what_has_ended()
    dialect = op.get_bind().dialect.name
    for statement in (*_guards(dialect), *trigger_statements(dialect, "instance_history", "instance_id")):
        op.execute(statement)


def _copy_what_has_ended() -> None:
    op.execute(
        """
        INSERT INTO instance_history (
            instance_id, owner_id, owner_email, lab, environment, memory_bytes, cpus, storage_bytes, days, created_at,
            expires_at, admitted_at, started_at, ended_at, state, reason, ended_by, cause, oom_count, oom_at, image,
            stand_in, safe_mode
        )
        SELECT
            one.id, one.owner_id, owner.email, owner.lab, one.environment, one.memory_bytes, one.cpus,
            one.storage_bytes, one.days, one.created_at, one.expires_at, NULL, one.started_at,
            coalesce(one.ended_at, one.created_at), one.state, coalesce(one.reason, 'its reason was not recorded'),
            one.ended_by, one.cause, one.oom_count, one.oom_at, one.image, one.stand_in, one.safe_mode
        FROM instances AS one JOIN users AS owner ON owner.id = one.owner_id
        WHERE one.state IN ('stopped', 'expired', 'failed')
        """
    )


def _guards(dialect: str) -> tuple[str, ...]:
    if dialect == "sqlite":
        refuse = f"BEGIN SELECT RAISE(ABORT, '{KEPT}'); END"
        return (
            f"CREATE TRIGGER instance_history_unchanged BEFORE UPDATE OF {FACTS} ON instance_history {refuse}",
            "CREATE TRIGGER instance_history_removed_once BEFORE UPDATE OF removed_at ON instance_history "
            f"WHEN OLD.removed_at IS NOT NULL {refuse}",
            f"CREATE TRIGGER instance_history_kept BEFORE DELETE ON instance_history {refuse}",
        )
    function = f"""
        CREATE FUNCTION launchpad_keep_history() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION '{KEPT}'; END $$
    """
    each = "FOR EACH ROW EXECUTE FUNCTION launchpad_keep_history()"
    return (
        function,
        f"CREATE TRIGGER instance_history_unchanged BEFORE UPDATE OF {FACTS} ON instance_history {each}",
        "CREATE TRIGGER instance_history_removed_once BEFORE UPDATE OF removed_at ON instance_history "
        "FOR EACH ROW WHEN (OLD.removed_at IS NOT NULL) EXECUTE FUNCTION launchpad_keep_history()",
        f"CREATE TRIGGER instance_history_kept BEFORE DELETE ON instance_history {each}",
    )
