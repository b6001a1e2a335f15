"""Every live instance as the store has it, and what follows from all of them: the queue, what is reserved, counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from ...domain.instances import LIVE, Instance, State
from ...domain.limits import Use
from ...domain.paging import Place
from ...errors import NotFound
from ...store import instance_history, instances
from ...store.changes import EVERYTHING, Change, ChangeFeed
from ...store.database import Database
from .ended_counts import EndedCounts

MOST_IN_A_PAGE = 100
IDS_A_QUERY = 500


class LiveInstances:
    """Answers from memory while the feed is current, else from the store.

    Of a change only the changed rows are read again, by whoever asks first. Ended instances are always read from the
    store: nobody asks for many of them at once.

    Every method raises StoreUnavailable when the database is needed for the answer and does not answer.
    """

    def __init__(self, database: Database, feed: ChangeFeed) -> None:
        self._database = database
        self._feed = feed
        self._by_id: dict[str, Instance] = {}
        self._of_owner: dict[str, dict[str, Instance]] = {}
        self._newest_first: list[Instance] | None = None
        self._positions: dict[str, int] | None = None
        self._reserved: Use | None = None
        self._ended = EndedCounts()
        self._changed: set[str] = set()
        self._unknown = True  # everything has to be read
        self._reading = asyncio.Lock()
        feed.subscribe(self._heard)

    # -- what is asked -------------------------------------------------------------------------------------------------

    async def get(self, instance_id: str, owner_id: str) -> Instance:
        """An owner's own instance, live or ended. Raises NotFound for somebody else's as for one that never was, or was
        taken off their list.
        """
        instance = self._by_id.get(instance_id) if await self._is_known() else None
        if instance is None:
            async with self._database.reading() as db:
                instance = await instances.owned(db, instance_id, owner_id)
                instance = instance or await instance_history.owned(db, instance_id, owner_id)
        if instance is None or instance.owner_id != owner_id:
            raise NotFound("There is no such instance.")
        return instance

    async def find(self, instance_id: str) -> Instance | None:
        """Anybody's, live or ended."""
        if await self._is_known() and (instance := self._by_id.get(instance_id)) is not None:
            return instance
        async with self._database.reading() as db:
            return await instances.by_id(db, instance_id)

    async def of_owner(self, owner_id: str) -> list[Instance]:
        """Newest first."""
        if await self._is_known():
            theirs = self._of_owner.get(owner_id, {}).values()
            return sorted(theirs, key=_place, reverse=True)
        async with self._database.reading() as db:
            return await instances.of_owner(db, owner_id, limit=MOST_IN_A_PAGE)

    async def of_everyone(self, *, limit: int = MOST_IN_A_PAGE, before: Place | None = None) -> list[Instance]:
        """Newest first; the next page begins behind the place of the last one."""
        if await self._is_known():
            if self._newest_first is None:
                self._newest_first = sorted(self._by_id.values(), key=_place, reverse=True)
            begin = 0 if before is None else _index_behind(self._newest_first, before)
            return self._newest_first[begin : begin + limit]
        async with self._database.reading() as db:
            return await instances.page(db, limit=limit, before=before)

    async def queue_position(self, instance: Instance) -> int | None:
        """1 for the next to start; None when it does not queue."""
        if instance.state is not State.QUEUED:
            return None
        if await self._is_known():
            return self.position(instance.id)
        async with self._database.reading() as db:
            return await instances.queue_position(db, instance)

    async def reserved(self, owner_id: str | None = None) -> Use:
        """What live instances have reserved: one owner's with those that queue, everyone's without them."""
        if await self._is_known():
            if owner_id is not None:
                return _sum(list(self._of_owner.get(owner_id, {}).values()))
            if self._reserved is None:
                self._reserved = _held([one for one in self._by_id.values() if one.state is not State.QUEUED])
            return self._reserved
        async with self._database.reading() as db:
            return await instances.reserved(db, owner_id)

    async def count_frozen(self) -> int:
        """How many stand still."""
        if await self._is_known():
            return sum(one.is_frozen for one in self._by_id.values())
        async with self._database.reading() as db:
            return sum(one.is_frozen for one in await instances.to_be_frozen(db))

    async def queued_since(self) -> datetime | None:
        """When the one that waits for longest was asked for; None: nobody waits."""
        if await self._is_known():
            queued = [one for one in self._by_id.values() if one.state is State.QUEUED]
        else:
            async with self._database.reading() as db:
                queued = await instances.in_states(db, State.QUEUED)
        return min((one.created_at for one in queued), default=None)

    async def count_live(self) -> dict[State, int]:
        """How many there are in each live state."""
        if await self._is_known():
            counted = Counter(one.state for one in self._by_id.values())
            return {state: counted[state] for state in LIVE}
        counts = await self._count_in_store()
        return {state: counts.get(state, 0) for state in LIVE}

    async def count_by_state(self) -> dict[State, int]:
        """How many there are in each state, of ended ones those that are still on record."""
        if not await self._is_known():
            return await self._count_in_store()
        ended = self._ended.known
        if ended is None:
            async with self._reading:  # what is read of changes meanwhile would be older than the count
                position = self._feed.position
                async with self._database.reading() as db:
                    ended, live_ids = await instances.ended_and_live(db)
                if self._feed.position == position:
                    self._ended.keep(ended, live_ids)
        return {state: number for state, number in (await self.count_live() | ended).items() if number}

    async def _count_in_store(self) -> dict[State, int]:
        async with self._database.reading() as db:
            return await instances.count_by_state(db)

    # -- for those who are told of changes -----------------------------------------------------------------------------

    async def catch_up(self) -> None:
        """Reads what has changed; afterwards `known` and `position` say what was so when this was called.

        While the feed is not current, everything is read.
        """
        if not self._feed.is_current:
            self._unknown = True
        await self._read_changed()

    @property
    def is_behind(self) -> bool:
        """Whether something has changed that was not read yet."""
        return self._unknown or bool(self._changed)

    def known(self, instance_id: str) -> Instance | None:
        """A live instance as it was at the last `catch_up`."""
        return self._by_id.get(instance_id)

    def position(self, instance_id: str) -> int | None:
        """As of the last `catch_up`: 1 for the next to start; None when it does not queue."""
        if self._positions is None:
            queued = [one for one in self._by_id.values() if one.state is State.QUEUED]
            queued.sort(key=lambda one: one.queue_place)
            self._positions = {one.id: number for number, one in enumerate(queued, start=1)}
        return self._positions.get(instance_id)

    async def ended_among(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """Those that have ended and are still on record, from the store."""
        async with self._database.reading() as db:
            return {one.id: one for one in await instances.by_ids(db, instance_ids) if not one.is_live}

    # -- how it is known -----------------------------------------------------------------------------------------------

    def _heard(self, changes: Sequence[Change]) -> None:
        if EVERYTHING in changes:
            self._unknown = True
            self._ended.forget()
            return
        self._changed.update(change.key for change in changes if change.table == "instances")

    async def _is_known(self) -> bool:
        """Whether what is in memory is what the store has; reads what has changed where that is all that is missing."""
        if not self._feed.is_current:
            return False
        if self.is_behind or self._reading.locked():
            await self._read_changed()
        return True

    async def _read_changed(self) -> None:
        async with self._reading:
            if not self.is_behind:
                return
            everything, self._unknown = self._unknown, False
            changed, self._changed = self._changed, set()
            was_read = False
            try:
                found = await self._read(None if everything else sorted(changed))
                was_read = True
            finally:
                if not was_read:
                    self._unknown |= everything
                    self._changed |= changed
            self._take(found, gone=set(self._by_id) if everything else changed)
            if everything:
                self._ended.forget()
            else:
                by_id = {one.id: one for one in found}
                for instance_id in changed:
                    self._ended.changed(instance_id, by_id.get(instance_id))

    async def _read(self, ids: Sequence[str] | None) -> list[Instance]:
        """Those of `ids`, live or not; without, every live one."""
        async with self._database.reading() as db:
            if ids is None:
                return await instances.in_states(db, *LIVE)
            parts = [ids[at : at + IDS_A_QUERY] for at in range(0, len(ids), IDS_A_QUERY)]
            return [one for part in parts for one in await instances.by_ids(db, part)]

    def _take(self, found: Sequence[Instance], gone: set[str]) -> None:
        """`gone` are the ids that are forgotten unless they are found, alive."""
        live = {one.id: one for one in found if one.is_live}
        for instance_id in gone:
            if (before := self._by_id.pop(instance_id, None)) is not None:
                theirs = self._of_owner[before.owner_id]
                del theirs[instance_id]
                if not theirs:
                    del self._of_owner[before.owner_id]
        for instance in live.values():
            self._by_id[instance.id] = instance
            self._of_owner.setdefault(instance.owner_id, {})[instance.id] = instance
        self._newest_first = self._positions = self._reserved = None


def _place(instance: Instance) -> tuple[object, str]:
    return instance.created_at, instance.id


def _index_behind(newest_first: Sequence[Instance], place: Place) -> int:
    low, high = 0, len(newest_first)
    while low < high:
        middle = (low + high) // 2
        if _place(newest_first[middle]) < (place.at, place.key):
            high = middle
        else:
            low = middle + 1
    return low


def _sum(live: Sequence[Instance]) -> Use:
    return Use(sum(one.limits.memory_bytes for one in live), float(sum(one.limits.cpus for one in live)), len(live))


def _held(live: Sequence[Instance]) -> Use:
    """What counts of them for the server's capacity."""
    return Use(sum(one.held_memory_bytes for one in live), float(sum(one.held_cpus for one in live)), len(live))
