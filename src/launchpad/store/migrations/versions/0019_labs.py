"""Labs as rows: those that users had by name, with these users as their members; and requests to join"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from launchpad.domain.labs import clean_title, name_candidates
from launchpad.domain.naming import new_id
from launchpad.store.schema import Instant

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    labs = op.create_table(
        "labs",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=30), nullable=False),
        sa.Column("key", sa.String(length=100), nullable=False),
        sa.Column("title", sa.String(length=100), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_labs")),
        sa.UniqueConstraint("key", name=op.f("uq_labs_key")),
        sa.UniqueConstraint("name", name=op.f("uq_labs_name")),
    )
    members = op.create_table(
        "lab_members",
        sa.Column("lab_id", sa.String(length=16), nullable=False),
        sa.Column("user_id", sa.String(length=16), nullable=False),
        sa.Column("is_lead", sa.Boolean(), nullable=False),
        sa.Column("joined_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["lab_id"], ["labs.id"], name=op.f("fk_lab_members_lab_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_lab_members_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("lab_id", "user_id", name=op.f("pk_lab_members")),
    )
    op.create_index("ix_lab_members_user_id", "lab_members", ["user_id"], unique=False)
    op.create_table(
        "lab_requests",
        sa.Column("lab_id", sa.String(length=16), nullable=False),
        sa.Column("user_id", sa.String(length=16), nullable=False),
        sa.Column("asked_at", Instant(), nullable=False),
        sa.Column("mailed_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["lab_id"], ["labs.id"], name=op.f("fk_lab_requests_lab_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_lab_requests_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("lab_id", "user_id", name=op.f("pk_lab_requests")),
    )
    op.create_index("ix_lab_requests_user_id", "lab_requests", ["user_id"], unique=False)
    _bring_over(labs, members)


def _bring_over(labs: sa.Table, members: sa.Table) -> None:
    """What users have as their lab becomes one, begun when the first of them came; nobody leads it yet."""
    users = sa.table("users", sa.column("id"), sa.column("lab"), sa.column("created_at", Instant()))
    bind = op.get_bind()
    query = sa.select(users).where(users.c.lab != "").order_by(users.c.created_at, users.c.id)
    people = bind.execute(query).all()
    keys = list(dict.fromkeys(one.lab for one in people))
    names: set[str] = set()
    ids: dict[str, str] = {}
    for key in keys:
        # A name is no other lab's key: whoever is put into a lab by its name gets that one.
        name = next(one for one in name_candidates(key) if one not in names and (one == key or one not in keys))
        names.add(name)
        ids[key] = new_id()
        began = next(one.created_at for one in people if one.lab == key)
        title = clean_title(key) or name
        bind.execute(labs.insert().values(id=ids[key], name=name, key=key, title=title, created_at=began))
    for one in people:
        bind.execute(
            members.insert().values(lab_id=ids[one.lab], user_id=one.id, is_lead=False, joined_at=one.created_at)
        )
