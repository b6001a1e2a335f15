"""Changes of rows, written by triggers"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from launchpad.store.changes import trigger_statements

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Numbers are given in the order of commits: the lock (store/changes.py, WRITE_LOCK) is held until the end.
NOTE_CHANGE = """
CREATE FUNCTION launchpad_note_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    old_key text := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) ->> TG_ARGV[0] END;
    new_key text := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) ->> TG_ARGV[0] END;
BEGIN
    PERFORM pg_advisory_xact_lock(111872378);
    INSERT INTO changes (table_name, key) VALUES (TG_TABLE_NAME, coalesce(old_key, new_key));
    IF new_key <> old_key THEN
        INSERT INTO changes (table_name, key) VALUES (TG_TABLE_NAME, new_key);
    END IF;
    PERFORM pg_notify('launchpad_changes', '');
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "changes",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("table_name", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_changes")),
    )
    dialect = op.get_bind().dialect.name
    if dialect == "postgresql":
        op.execute(NOTE_CHANGE)
    for table, key in (
        ("instances", "id"),
        ("users", "id"),
        ("logins", "id"),
        ("grants", "secret_digest"),
        ("tokens", "id"),
        ("kv", "key"),
    ):
        for statement in trigger_statements(dialect, table, key):
            op.execute(statement)
