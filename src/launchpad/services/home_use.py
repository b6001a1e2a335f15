"""Measures what homes take up, keeps it, and warns: the work of the process that owns it. Pages read what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from time import monotonic

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.home_lists import After, Counts, LabHomes, Sort, UserHome
from ..domain.home_use import (
    MONTH,
    MONTH_SLACK,
    WEEK,
    MeasuredUse,
    Warned,
    growth_of,
    warning_due,
)
from ..domain.users import User
from ..errors import HomeUnavailable
from ..settings import HomesSettings
from ..storage.base import Homes, HomeUse
from ..store import home_history, home_listings, home_use, users
from ..store.database import Database
from .background import Loop, periodic
from .home_mails import HomeMails
from .live.homes import LiveHomes
from .live.instances import LiveInstances

log = structlog.get_logger(__name__)

Points = Mapping[str, Mapping[date, int]]

COUNT_SECONDS, WALK_PAUSE_SECONDS = 5.0, 5.0
COUNTED_LATE_SECONDS = 300.0
WALKED_LATE_SECONDS = 3600.0  # a walk may take a quarter of an hour
ALL = 1_000_000  # live instances are never so many
LIVE_EVERY, OTHERS_EVERY = timedelta(seconds=15), timedelta(hours=1)
OTHERS_A_PASS = 20
FAILED_ENOUGH = 3  # in a row: it is not the homes
DISK_EVERY = timedelta(minutes=1)
REST_FACTOR = 20  # a home is not walked again before so many times what its last walk took
WALKS_CONSIDERED = 50
WRITTEN_EVERY = timedelta(minutes=5)  # what has hardly changed; sooner what has
HARDLY = 0.001  # of the limit
HARDLY_BYTES = 4 * 1024**2
KEPT = timedelta(days=396)  # thirteen months of a point a day


class HomeUseService:
    """What is kept: the latest of each home, and a point a day.

    Args:
        settings: how often walks are made, where nobody counts.
        looked_at: what this process knows of homes, which every look renews.
    """

    def __init__(
        self,
        database: Database,
        settings: HomesSettings,
        homes: Homes,
        looked_at: LiveHomes,
        instances: LiveInstances,
        mails: HomeMails,
    ) -> None:
        self._database = database
        self._homes = homes
        self._looked_at = looked_at
        self._instances = instances
        self._mails = mails
        self._walk_live = timedelta(minutes=settings.walk_minutes)
        self._walk_others = timedelta(hours=settings.walk_hours)
        self._asked: dict[str, datetime] = {}  # of homes in use: when they were looked at last
        self._in_use: set[str] = set()
        self._walk_failed: dict[str, datetime] = {}
        self._disk_at: datetime | None = None

    def loops(self, now: Callable[[], datetime]) -> list[Loop]:
        return [
            periodic(
                "home-use",
                lambda: self.count(now()),
                every_seconds=COUNT_SECONDS,
                late_after_seconds=COUNTED_LATE_SECONDS,
            ),
            periodic(
                "home-walks",
                lambda: self.walk(now),
                every_seconds=WALK_PAUSE_SECONDS,
                late_after_seconds=WALKED_LATE_SECONDS,
                first_after_seconds=COUNT_SECONDS,
            ),
        ]

    # -- measuring -----------------------------------------------------------------------------------------------------

    async def count(self, now: datetime) -> None:
        """Asks for homes that are due, what the file system knows of them: often of those in use, seldom of others.

        Raises:
            HomeUnavailable: several in a row cannot be told, such as while the helper is away.
        """
        in_use = {one.owner_id for one in await self._instances.of_everyone(limit=ALL)}
        just_ended, self._in_use = self._in_use - in_use, in_use
        wanted = {one for one in in_use if now - self._asked.get(one, now - LIVE_EVERY) >= LIVE_EVERY} | just_ended
        self._asked = {one: at for one, at in self._asked.items() if one in in_use}
        async with self._database.reading() as db:
            others = await home_listings.due(db, now - OTHERS_EVERY, OTHERS_A_PASS)
            found = {**await users.by_ids(db, wanted), **{one.id: one for one in others}}
        seen: dict[str, HomeUse | None] = {}
        failed: list[HomeUnavailable] = []  # in a row
        for user in found.values():
            try:
                seen[user.id] = await self._looked_at.look_now(user.username)
                failed.clear()
            except HomeUnavailable as error:
                seen[user.id] = None
                failed.append(error)
            if user.id in in_use:
                self._asked[user.id] = now
            if len(failed) == FAILED_ENOUGH:
                break
        await self.keep(seen, now)
        if len(failed) == FAILED_ENOUGH:
            raise failed[-1]
        if self._disk_at is None or now - self._disk_at >= DISK_EVERY:
            await self._keep_disk(now)

    async def walk(self, now: Callable[[], datetime]) -> User | None:
        """Walks one home that is due, where its file system does not count; returns whose, or None: none is due."""
        began_at = now()
        user = await self._next_to_walk(began_at)
        if user is None:
            return None
        began = monotonic()
        try:
            found = await self._homes.measure(user.username)
        except HomeUnavailable as error:
            log.warning("home.not_measured", username=user.username, detail=error.detail)
            self._walk_failed[user.id] = began_at
            return user
        self._walk_failed.pop(user.id, None)
        await self.keep({user.id: found}, now(), walked_seconds=monotonic() - began)
        return user

    async def _next_to_walk(self, now: datetime) -> User | None:
        """Of somebody who uses theirs first, of all of these; and then the one that has waited longest."""
        self._walk_failed = {one: at for one, at in self._walk_failed.items() if now - at < self._walk_live}
        considered = WALKS_CONSIDERED + len(self._walk_failed)  # so that those that fail keep no other from its turn
        in_use = sorted(self._in_use)
        async with self._database.reading() as db:
            for at in range(0, len(in_use), home_use.IDS_A_QUERY):
                among = in_use[at : at + home_use.IDS_A_QUERY]
                soon = await home_use.to_walk(db, now - self._walk_live, len(among), among=among)
                if found := await self._first_due(db, soon, now):
                    return found
            soon = await home_use.to_walk(db, now - self._walk_others, considered)
            return await self._first_due(db, soon, now)

    async def _first_due(self, db: AsyncConnection, ids: Sequence[str], now: datetime) -> User | None:
        known = await home_use.of_all(db, ids)
        due = next((one for one in ids if self._is_to_walk(one, known[one], now)), None)
        return await users.by_id(db, due) if due is not None else None

    def _is_to_walk(self, user_id: str, use: MeasuredUse, now: datetime) -> bool:
        if user_id in self._walk_failed:
            return False
        if use.used_bytes is None:
            return True
        every = self._walk_live if user_id in self._in_use else self._walk_others
        every = max(every, timedelta(seconds=(use.walked_seconds or 0.0) * REST_FACTOR))
        return now - use.measured_at >= every

    # -- keeping -------------------------------------------------------------------------------------------------------

    async def keep(
        self, seen: Mapping[str, HomeUse | None], now: datetime, *, walked_seconds: float | None = None
    ) -> None:
        """Writes down what was found, by the ids of users, and queues the mails that are due by it.

        Args:
            seen: None: it could not be told, and what was known stands.
            walked_seconds: how long the walk took that found it; None: it was asked for, and may not be counted.
        """
        if not seen:
            return
        async with self._database.reading() as db:
            before = await home_use.of_all(db, list(seen))
        changed = {
            one: use
            for one, found in seen.items()
            if _is_worth_it(before.get(one), use := _merged(before.get(one), found, walked_seconds, now), now)
        }
        if not changed:
            return
        told = False
        async with self._database.transaction() as db:
            before = await home_use.of_all(db, list(changed))
            owners = await users.by_ids(db, set(changed))
            points = await self._points(db, list(changed), now)
            kept: dict[str, MeasuredUse] = {}
            for one, use in changed.items():
                told_before = before[one].warned if one in before else Warned.NOTHING
                owner = owners.get(one)
                warned = warning_due(use.share, told_before) if owner is not None and owner.is_active else told_before
                growth = growth_of(use.used_bytes, points.get(one, {}), now.date())
                kept[one] = replace(use, warned=warned, growth=growth)
                if owner is not None and warned not in (told_before, Warned.NOTHING):
                    await self._mails.tell_owner(db, owner, kept[one], now)
                    told = True
            await self._put(db, kept, now)
        if told:
            self._mails.wake()

    async def _keep_disk(self, now: datetime) -> None:
        """As of homes; the mails go to administrators, and what is told of is what ordinary users have left."""
        try:
            disk = await self._homes.disk()
        except HomeUnavailable as error:
            log.warning("homes.disk_not_known", detail=error.detail)
            return
        self._disk_at = now
        told = False
        async with self._database.transaction() as db:
            before = await home_use.of(db, home_use.DISK)
            points = await self._points(db, [home_use.DISK], now)
            use = MeasuredUse(disk.used_bytes, disk.bytes, disk.free_bytes, now)
            told_before = before.warned if before is not None else Warned.NOTHING
            warned = warning_due(use.share, told_before)
            use = replace(
                use, warned=warned, growth=growth_of(use.used_bytes, points.get(home_use.DISK, {}), now.date())
            )
            if warned not in (told_before, Warned.NOTHING):
                for admin in await users.active_admins(db):
                    await self._mails.tell_administrator(db, admin, use, now)
                    told = True
            await self._put(db, {home_use.DISK: use}, now)
            await home_history.prune(db, (now - KEPT).date())
        if told:
            self._mails.wake()

    async def _points(self, db: AsyncConnection, ids: Sequence[str], now: datetime) -> Points:
        return await home_history.between(db, ids, (now - MONTH - MONTH_SLACK).date(), (now - WEEK).date())

    async def _put(self, db: AsyncConnection, kept: Mapping[str, MeasuredUse], now: datetime) -> None:
        await home_use.put(db, kept)
        used = {one: use.used_bytes for one, use in kept.items() if use.used_bytes is not None}
        await home_history.put(db, now.date(), used)

    # -- for administrators --------------------------------------------------------------------------------------------

    async def page(self, sort: Sort, *, search: str, limit: int, after: After | None) -> list[UserHome]:
        """Users with their homes, in an order."""
        async with self._database.reading() as db:
            return await home_listings.page(db, sort, search=search, limit=limit, after=after)

    async def by_lab(self) -> list[LabHomes]:
        """Every lab's together, the one that takes up most first."""
        async with self._database.reading() as db:
            return await home_listings.by_lab(db)

    async def counts(self) -> Counts:
        async with self._database.reading() as db:
            return await home_listings.counts(db)

    async def disk(self) -> MeasuredUse | None:
        """The disk of all homes, as it was measured last."""
        async with self._database.reading() as db:
            return await home_use.of(db, home_use.DISK)


def _merged(
    before: MeasuredUse | None, found: HomeUse | None, walked_seconds: float | None, now: datetime
) -> MeasuredUse:
    """What was found; where only a walk finds what is used, the last one's word stands until the next."""
    if found is None:
        return replace(before, looked_at=now) if before is not None else MeasuredUse(None, None, None, now)
    if found.used_bytes is None and found.free_bytes is not None and before is not None:
        return replace(before, limit_bytes=found.limit_bytes, free_bytes=found.free_bytes, looked_at=now)
    return MeasuredUse(
        used_bytes=found.used_bytes,
        limit_bytes=found.limit_bytes,
        free_bytes=found.free_bytes,
        measured_at=now,
        looked_at=now,
        is_floor=found.is_floor,
        walked_seconds=walked_seconds,
    )


def _is_worth_it(before: MeasuredUse | None, use: MeasuredUse, now: datetime) -> bool:
    """Whether it differs enough, or what is kept is old."""
    if before is None or now - (before.looked_at or before.measured_at) >= WRITTEN_EVERY:
        return True
    if (use.used_bytes is None) is not (before.used_bytes is None) or use.limit_bytes != before.limit_bytes:
        return True
    if (use.free_bytes is None) is not (before.free_bytes is None) or use.walked_seconds != before.walked_seconds:
        return True
    if warning_due(use.share, before.warned) is not before.warned:
        return True
    by = abs((use.used_bytes or 0) - (before.used_bytes or 0))
    return by >= max(HARDLY_BYTES, HARDLY * (use.limit_bytes or 0))
