"""What becomes of the queue, from one look at the store: who has how much, whose turn it is, and when probably."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.admission import Decision, OwnerRoom, Verdict, decide, estimated_starts
from ..domain.fair_share import (
    FairShareRules,
    Holder,
    RecentUse,
    fair_order,
    lab_key,
    share_of,
    use_of,
    user_key,
)
from ..domain.instances import Instance, State
from ..domain.limits import Capacity, Use
from ..domain.ranks import ranks
from ..domain.room import KnownEnd, Room
from ..domain.users import User
from ..settings import QueueSettings
from ..store import held, instances, recent_use, users
from ..store.held import Held
from .lab_capacity import LabCapacityService

RENEWED_BY = timedelta(minutes=5)  # to spare a write a visit


@dataclass(frozen=True)
class Plan:
    """What was decided, and what those who wait are told.

    Attributes:
        decisions: in the order of the queue.
        owners: of all that queue, by their ids.
        estimates: when those that wait probably start, by their ids.
        kept_until: until when a request is kept that its owner has come back to, by its id.
    """

    decisions: Sequence[Decision]
    owners: Mapping[str, User]
    estimates: Mapping[str, datetime]
    kept_until: Mapping[str, datetime]

    @property
    def changes_anything(self) -> bool:
        ends_or_starts = any(one.verdict is not Verdict.WAIT for one in self.decisions)
        return ends_or_starts or bool(self.kept_until) or any(True for _ in self._to_note())

    def _to_note(self) -> Iterator[tuple[float, Decision]]:
        """Those that wait and are to be told something else, each with its rank."""
        waiting = [one for one in self.decisions if one.verdict is Verdict.WAIT]
        for rank, one in zip(ranks([one.instance.queue_rank for one in waiting]), waiting, strict=True):
            told = (one.instance.queue_rank, one.instance.stage, one.instance.estimated_start_at)
            if told != (rank, one.stage, self.estimates.get(one.instance.id)):
                yield rank, one

    async def note(self, db: AsyncConnection) -> None:
        """Writes down what those that wait are told."""
        for rank, one in self._to_note():
            await instances.set_queue(db, one.instance.id, rank, one.stage, self.estimates.get(one.instance.id))
        waiting = {one.instance.id for one in self.decisions if one.verdict is Verdict.WAIT}
        for instance_id in waiting & self.kept_until.keys():
            await instances.note(db, instance_id, expires_at=self.kept_until[instance_id])


class QueuePlanner:
    def __init__(self, settings: QueueSettings, lab_capacity: LabCapacityService) -> None:
        self._drop_after = settings.drop_after
        self._rules = FairShareRules(
            half_life=settings.half_life,
            waiting_counts_as_all=timedelta(hours=settings.waiting_counts_as_all_hours),
        )
        self._lab_capacity = lab_capacity

    def empty_room(self, capacity: Capacity, starting: int, starts_at_once: int) -> Room:
        return Room(capacity, Use(), starting, starts_at_once)

    async def room_now(self, db: AsyncConnection, empty: Room) -> Room:
        """What is given out now, without when it ends: enough for a launch that either starts or queues."""
        labs = await self._lab_capacity.labs_in(db)
        if labs:
            return _given_out(replace(empty, labs=labs), await held.everything(db), None)
        return replace(empty, reserved=await instances.reserved(db))

    async def room_and_ends(self, db: AsyncConnection, empty: Room, now: datetime) -> Room:
        """What is given out now, and when it ends."""
        labs = await self._lab_capacity.labs_in(db)
        return _given_out(replace(empty, labs=labs), await held.everything(db), now)

    async def plan(self, db: AsyncConnection, empty: Room, instances_per_user: int, now: datetime) -> Plan:
        """Decides over everything that queues.

        Args:
            empty: the server with nothing given out.
            instances_per_user: for who has no quota of their own.
        """
        queue = await instances.queue(db)
        owners = await users.by_ids(db, {one.owner_id for one in queue})
        everything = await held.everything(db)
        room = _given_out(replace(empty, labs=await self._lab_capacity.labs_in(db)), everything, now)
        kept_until = self._kept_until(queue, owners)
        queue = [replace(one, expires_at=kept_until.get(one.id, one.expires_at)) for one in queue]
        reserved = _by_owner(everything)
        rooms = {
            one.id: OwnerRoom(one.quota, instances_per_user, reserved.get(one.id, Use()), one.is_active, one.lab)
            for one in owners.values()
        }
        labs = {one.id: one.lab for one in owners.values()}
        holders = await self._holders(db, owners.values(), everything, room.capacity, now)
        order = fair_order(queue, labs, holders, room.capacity, self._rules, now)
        decisions = decide(order, room, rooms, now)
        return Plan(decisions, owners, estimated_starts(decisions, room, rooms, now), kept_until)

    def _kept_until(self, queue: Sequence[Instance], owners: Mapping[str, User]) -> dict[str, datetime]:
        """Of the requests whose owners have been there since it was noted last."""
        found = {}
        for one in queue:
            seen_at = owners[one.owner_id].last_seen_at
            until = max(seen_at or one.created_at, one.created_at) + self._drop_after
            if until > one.expires_at + RENEWED_BY:
                found[one.id] = until
        return found

    async def _holders(
        self,
        db: AsyncConnection,
        owners: Iterable[User],
        everything: Sequence[Held],
        capacity: Capacity,
        now: datetime,
    ) -> dict[str, Holder]:
        """What those who queue, and their labs, have in use and had lately."""
        half_life = self._rules.half_life
        wanted = {key for one in owners for key in (lab_key(one.lab, one.id), user_key(one.id))}
        lately = await recent_use.of(db, wanted, now, half_life)
        in_use: dict[str, RecentUse] = defaultdict(RecentUse)
        for one in everything:
            for key in {lab_key(one.lab, one.owner_id), user_key(one.owner_id)} & wanted:
                limits = one.counts
                in_use[key] = in_use[key].plus(RecentUse(limits.memory_bytes, limits.cpus))
                had = use_of(limits.memory_bytes, limits.cpus, one.since, now, now, half_life)
                lately[key] = lately.get(key, RecentUse()).plus(had)

        def share(use: RecentUse) -> float:
            return share_of(capacity, use.memory_bytes, use.cpus)

        return {key: Holder(share(in_use[key]), share(lately.get(key, RecentUse()))) for key in wanted}


def _given_out(empty: Room, everything: Sequence[Held], now: datetime | None) -> Room:
    """With what is held; and, as of `now`, when it ends. What is being stopped ends any moment."""
    reserved, by_lab, ends = Use(), dict.fromkeys(empty.labs, Use()), []
    for one in everything:
        reserved = reserved.plus(one.counts)
        if one.lab in by_lab:
            by_lab[one.lab] = by_lab[one.lab].plus(one.counts)
        if now is not None:
            ends.append(KnownEnd(now if one.state is State.STOPPING else one.ends_at, one.counts, one.lab))
    return replace(empty, reserved=reserved, reserved_by_lab=by_lab, ends=ends)


def _by_owner(everything: Sequence[Held]) -> dict[str, Use]:
    found: dict[str, Use] = {}
    for one in everything:
        found[one.owner_id] = found.get(one.owner_id, Use()).plus(one.limits)
    return found
