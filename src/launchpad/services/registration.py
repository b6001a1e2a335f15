"""A new user: name, uid and role, chosen once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.naming import new_id, username_candidates
from ..domain.users import Role, User, UserStatus
from ..settings import Settings
from ..storage.base import Homes
from ..store import kv, users

UIDS_FROM = "users.uids_from"
UIDS_LEFT_OUT = 1000


@dataclass(frozen=True)
class OnDisk:
    """What `homes.root` leaves to a new user: names for the home that nothing has, the best first; and owners there."""

    free_names: tuple[str, ...]
    uids: frozenset[int]


async def on_disk(homes: Homes, address: str) -> OnDisk:
    """To be asked before the transaction, which must not wait for a disk.

    Raises:
        HomeUnavailable: it cannot be told.
    """
    names = [name for name in username_candidates(address) if not await homes.exists(name)]
    return OnDisk(tuple(names), frozenset(await homes.owners()))


async def add_user(
    db: AsyncConnection,
    settings: Settings,
    address: str,
    disk: OnDisk,
    *,
    created_at: datetime,
    as_admin: bool = False,
) -> User:
    """Adds somebody who is not there yet; administrator where `admin_emails` names them, or `as_admin` says so.

    A uid that owns something below `homes.root` is nobody's any more, also where the database knows nothing of its
    user, as after the restore of an older backup: files and quota would be inherited.
    """
    taken = await users.usernames_taken(db, list(disk.free_names))
    username = next((name for name in disk.free_names if name not in taken), f"u-{new_id()[:12]}")
    uid = max(await _next_uid(db, settings), await kv.get(db, UIDS_FROM) or 0)
    while uid in disk.uids:
        uid += 1
    user = User(
        id=new_id(),
        email=address,
        username=username,
        uid=uid,
        role=Role.ADMIN if as_admin or address in settings.admin_emails else Role.USER,
        status=UserStatus.ACTIVE,
        lab=None,
        created_at=created_at,
    )
    await users.add(db, user)
    return user


async def leave_uids_out(db: AsyncConnection, settings: Settings, now: datetime) -> None:
    """After a restore: who came since the backup is forgotten, and nobody else is to own their files.

    Beside what `OnDisk` tells, since their homes may come back later than the database.
    """
    await kv.put(db, UIDS_FROM, await _next_uid(db, settings) + UIDS_LEFT_OUT, now)


async def _next_uid(db: AsyncConnection, settings: Settings) -> int:
    return max((await users.highest_uid(db) or 0) + 1, settings.homes.uid_base)
