"""Administrators' view of users: role, status, lab, quota."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from ..domain.audit_words import changes_in_words, quota_in_words
from ..domain.ends import OWNER_SUSPENDED
from ..domain.limits import Quota
from ..domain.times import is_time_zone
from ..domain.users import Role, User, UserStatus
from ..errors import Conflict, InvalidInput, NotFound
from ..store import audit, logins, users
from ..store.database import Database
from . import lab_membership
from .audit import Actor
from .departures import Departures
from .runner import InstanceRunner
from .snapshots import SnapshotService


class Unchanged:
    """Stands for a field that a change leaves alone (None is a value of its own: no lab, no cap)."""


UNCHANGED = Unchanged()


@dataclass(frozen=True)
class UserChange:
    """What an administrator changes; fields left out stay."""

    role: Role | Unchanged = UNCHANGED
    status: UserStatus | Unchanged = UNCHANGED
    lab: str | Unchanged | None = UNCHANGED
    quota: Quota | Unchanged = UNCHANGED


class UserService:
    def __init__(
        self, database: Database, runner: InstanceRunner, snapshots: SnapshotService, departures: Departures
    ) -> None:
        self._database = database
        self._departures = departures
        self._runner = runner
        self._snapshots = snapshots

    async def page(self, *, search: str = "", limit: int = 50, after: str | None = None) -> list[User]:
        """Users by e-mail address; `after` is the last address of the page before."""
        async with self._database.reading() as db:
            return await users.page(db, search=search, limit=limit, after=after)

    async def count(self) -> int:
        async with self._database.reading() as db:
            return await users.count(db)

    async def get(self, user_id: str) -> User:
        async with self._database.reading() as db:
            user = await users.by_id(db, user_id)
        if user is None:
            raise NotFound("There is no such user.")
        return user

    async def by_email(self, email: str) -> User:
        async with self._database.reading() as db:
            user = await users.by_email(db, email.strip().lower())
        if user is None:
            raise NotFound(f"Nobody with the address {email} has signed in yet.")
        return user

    async def by_emails(self, emails: set[str]) -> dict[str, User]:
        """Those of the addresses that have signed in."""
        async with self._database.reading() as db:
            return await users.by_emails(db, emails)

    async def by_ids(self, user_ids: set[str]) -> dict[str, User]:
        async with self._database.reading() as db:
            return await users.by_ids(db, user_ids)

    async def set_time_zone(self, user: User, time_zone: str, *, only_if_unknown: bool = False) -> User:
        """In which zone somebody is told times.

        Args:
            time_zone: an IANA name.
            only_if_unknown: one that is set already stays.

        Raises:
            InvalidInput: this server knows no such zone.
        """
        if not is_time_zone(time_zone):
            problem = "choose a place, such as Europe/Berlin"
            raise InvalidInput("This server knows no such time zone.", fields={"time_zone": problem})
        async with self._database.transaction() as db:
            await users.set_time_zone(db, user.id, time_zone, only_if_unknown=only_if_unknown)
        return await self.get(user.id)

    async def change(self, user_id: str, change: UserChange, actor: Actor, now: datetime) -> User:
        """Applies a change; suspending somebody ends their logins at once and stops their instances.

        Both are committed together with the suspension: whatever dies afterwards, nothing of theirs runs on. Before
        another limit of the home a snapshot of it is taken. Another lab moves them: see `lab_membership.move`.

        Raises:
            NotFound: no such user.
            Conflict: it would leave the platform without an active administrator.
        """
        ending: list[str] = []
        await self._keep_home(user_id, change)
        async with self._database.transaction() as db:
            before = await users.by_id(db, user_id)
            if before is None:
                raise NotFound("There is no such user.")
            after = before
            if not isinstance(change.role, Unchanged):
                after = replace(after, role=change.role)
            if not isinstance(change.status, Unchanged):
                after = replace(after, status=change.status)
            if not isinstance(change.lab, Unchanged):
                after = replace(after, lab=await lab_membership.move(db, before, change.lab, actor, now))
            if not isinstance(change.quota, Unchanged):
                after = replace(after, quota=change.quota)
            was_admin = before.is_admin and before.is_active
            if was_admin and not (after.is_admin and after.is_active) and await users.count_active_admins(db) == 1:
                raise Conflict("This is the last active administrator. Make somebody else administrator first.")
            await users.save(db, after)
            if after.is_active and not before.is_active:
                await self._departures.returned(db, after, actor, now)
            if not after.is_active:
                await self._departures.suspended(db, after, now)
                await logins.end_all(db, user_id)
                ending = await self._runner.end_all_of(db, user_id, OWNER_SUSPENDED, actor, now)
            await audit.add(
                db,
                at=now,
                actor=actor.name,
                client=actor.client,
                action="user.changed",
                subject=after.email,
                details=_differences(before, after),
                owner_id=actor.on(after.id),
            )
        self._runner.ends_committed(ending)
        return after

    async def _keep_home(self, user_id: str, change: UserChange) -> None:
        if isinstance(change.quota, Unchanged):
            return
        user = await self.get(user_id)
        if user.quota.storage_bytes != change.quota.storage_bytes:
            await self._snapshots.before_change(user)


def _differences(before: User, after: User) -> dict[str, str]:
    return changes_in_words(_described(before), _described(after))


def _described(user: User) -> dict[str, str | None]:
    return {"role": user.role, "status": user.status, "lab": user.lab, "quota": quota_in_words(user.quota)}
