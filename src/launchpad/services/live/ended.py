"""The latest ended instances of each owner, as the dashboard lists them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from ...domain.instances import Instance
from ...store import instance_history
from ...store.changes import EVERYTHING, Change, ChangeFeed
from ...store.database import Database
from .instances import LiveInstances

OWNERS_KEPT = 2000
LATEST = 10


class EndedInstances:
    """Keeps an owner's list until one of their instances changes; what may be anybody's makes it forget all of them.

    Given from memory only while the feed is current. What was read while something changed is not kept.
    """

    def __init__(self, database: Database, feed: ChangeFeed, live: LiveInstances) -> None:
        self._database = database
        self._feed = feed
        self._live = live
        self._of_owner: OrderedDict[str, tuple[Instance, ...]] = OrderedDict()
        self._owner_of: dict[str, str] = {}  # of every instance in a list
        feed.subscribe(self._heard)

    async def latest_of(self, owner_id: str) -> tuple[Instance, ...]:
        """At most LATEST, the latest end first. Raises StoreUnavailable when the store has to be read and is away."""
        if self._feed.is_current and (known := self._of_owner.get(owner_id)) is not None:
            self._of_owner.move_to_end(owner_id)
            return known
        position, was_current = self._feed.position, self._feed.is_current
        async with self._database.reading() as db:
            found = tuple(await instance_history.latest(db, owner_id, limit=LATEST))
        if was_current and self._feed.position == position:
            self._keep(owner_id, found)
        return found

    def _keep(self, owner_id: str, found: tuple[Instance, ...]) -> None:
        self._forget(owner_id)
        self._of_owner[owner_id] = found
        self._owner_of.update((one.id, owner_id) for one in found)
        while len(self._of_owner) > OWNERS_KEPT:
            self._forget(next(iter(self._of_owner)))

    def _heard(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change == EVERYTHING:
                self._forget_all()
            elif change.table in ("instances", "instance_history"):
                self._forget_owner_of(change.key)

    def _forget_owner_of(self, instance_id: str) -> None:
        owner_id = self._owner_of.get(instance_id)
        if owner_id is None and (live := self._live.known(instance_id)) is not None:
            owner_id = live.owner_id
        if owner_id is None:
            self._forget_all()
        else:
            self._forget(owner_id)

    def _forget_all(self) -> None:
        self._of_owner.clear()
        self._owner_of.clear()

    def _forget(self, owner_id: str) -> None:
        for one in self._of_owner.pop(owner_id, ()):
            self._owner_of.pop(one.id, None)
