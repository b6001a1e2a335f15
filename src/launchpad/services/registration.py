"""A new user: name, uid and role, chosen once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.naming import new_id
from ..domain.users import Role, User, UserStatus
from ..settings import Settings
from ..store import kv, users

UIDS_FROM = "users.uids_from"
UIDS_LEFT_OUT = 1000


async def add_user(
    db: AsyncConnection,
    settings: Settings,
    address: str,
    free_on_disk: Sequence[str],
    *,
    created_at: datetime,
    lab: str | None = None,
    as_admin: bool = False,
) -> User:
    """Adds somebody who is not there yet; administrator where `admin_emails` names them, or `as_admin` says so.

    Args:
        free_on_disk: names for the home that nothing has below `homes.root`, the best first.
    """
    taken = await users.usernames_taken(db, list(free_on_disk))
    username = next((name for name in free_on_disk if name not in taken), f"u-{new_id()[:12]}")
    user = User(
        id=new_id(),
        email=address,
        username=username,
        uid=max(await _next_uid(db, settings), await kv.get(db, UIDS_FROM) or 0),
        role=Role.ADMIN if as_admin or address in settings.admin_emails else Role.USER,
        status=UserStatus.ACTIVE,
        lab=lab,
        created_at=created_at,
    )
    await users.add(db, user)
    return user


async def leave_uids_out(db: AsyncConnection, settings: Settings, now: datetime) -> None:
    """After a restore: who came since the backup is forgotten, and nobody else is to own the files they have here."""
    await kv.put(db, UIDS_FROM, await _next_uid(db, settings) + UIDS_LEFT_OUT, now)


async def _next_uid(db: AsyncConnection, settings: Settings) -> int:
    return max((await users.highest_uid(db) or 0) + 1, settings.homes.uid_base)
