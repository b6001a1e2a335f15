"""Who may start now: decided from capacity, quotas, the queue, and how many start at the same time. Pure.

The queue is served in its order, which `fair_share.py` says. Where the first does not fit, room is reserved for it from
the instant at which known ends make it fit, and others start before it only where that takes nothing from it. So the
server is used, and a large instance is not kept out by small ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from heapq import heapify, heappop, heappush
from itertools import count

from .ends import OWNER_SUSPENDED
from .instances import Instance, Stage, State, next_transition
from .limits import Limits, Quota, Use, quota_problems
from .room import KnownEnd, Reservation, Room

NEVER_ENOUGH = "this server can no longer provide this size; launch a smaller one"

# A start counts among those at the same time for so long: one that hangs keeps nobody out for longer.
START_COUNTS_FOR = timedelta(seconds=60)
ESTIMATES_TO = timedelta(minutes=5)  # nobody can tell to the minute
ESTIMATED_MOST = 500  # of the queue; who stands farther back is told the position alone


@dataclass(frozen=True)
class OwnerRoom:
    """What an owner may use now, and what of theirs is live and does not queue."""

    quota: Quota
    default_instances: int
    reserved: Use
    is_active: bool = True
    lab: str | None = None


class Verdict(StrEnum):
    START = "start"
    WAIT = "wait"
    END = "end"


@dataclass(frozen=True)
class Decision:
    """What becomes of one that queues.

    Attributes:
        stage: what one waits for.
        reason: why it ends, in its owner's words; as what, says `ends_as`.
        passed_until: it starts before others that wait for longer, and has to end by then.
    """

    instance: Instance
    verdict: Verdict
    stage: Stage = Stage.WAITING
    reason: str = ""
    ends_as: State = State.FAILED
    passed_until: datetime | None = None


def on_launch(limits: Limits, room: Room, queue: Sequence[Instance], lab: str | None = None) -> Stage | None:
    """What a new launch waits for; None: it starts at once.

    Where others wait it queues, too, and is given its place among them a moment later.
    """
    stage = room.why_wait(limits, lab)
    others = [one.stage for one in queue if one.stage is not Stage.LAB]  # these hold up nobody
    return others[0] if others and stage is not Stage.LAB else stage


def decide(queue: Sequence[Instance], room: Room, owners: Mapping[str, OwnerRoom], now: datetime) -> list[Decision]:
    """A decision for each that queues, in their order.

    Args:
        queue: in its order.
        owners: by their ids, each owner of one that queues.
    """
    decisions: list[Decision] = []
    given = dict(owners)
    waits: Stage | None = None
    first: Reservation | None = None
    for instance in queue:
        owner, limits = given[instance.owner_id], instance.limits
        if due := next_transition(instance, now):
            decisions.append(Decision(instance, Verdict.END, reason=due[1], ends_as=due[0]))
            continue
        if reason := _why_never(instance, room, owner):
            decisions.append(Decision(instance, Verdict.END, reason=reason))
            continue
        stage = room.why_wait(limits, owner.lab)
        passed_until = None
        if stage is None and waits is not None:
            if first is not None and first.lets_past(limits, owner.lab):
                passed_until = first.starts_at if first.is_over_by_then(limits) else None
            else:
                stage = waits
        if stage is not None:
            if stage is not Stage.LAB:  # who waits for their own lab holds up nobody else
                if waits is None and stage is Stage.WAITING:
                    first = Reservation(room, limits, owner.lab, now)
                waits = waits or stage
                stage = waits
            decisions.append(Decision(instance, Verdict.WAIT, stage))
            continue
        room = room.with_start(limits, owner.lab, now + timedelta(days=limits.days))
        given[instance.owner_id] = replace(owner, reserved=owner.reserved.plus(limits))
        decisions.append(Decision(instance, Verdict.START, passed_until=passed_until))
    return decisions


def _why_never(instance: Instance, room: Room, owner: OwnerRoom) -> str | None:
    """Why waiting has no end, in its owner's words."""
    if not owner.is_active:
        return OWNER_SUSPENDED
    if not room.can_ever_hold(instance.limits, owner.lab):  # the server can provide less than when it was asked for
        return NEVER_ENOUGH
    # Launches are held to the quota as they are asked for, with what queues. It may have been lowered since.
    over = quota_problems(owner.quota, owner.default_instances, owner.reserved, instance.limits)
    return f"it is more than you may use now: {'; '.join(over.values())}" if over else None


def estimated_starts(
    decisions: Sequence[Decision], room: Room, owners: Mapping[str, OwnerRoom], now: datetime
) -> dict[str, datetime]:
    """When those that wait start, by their ids, if everything ends when it is known to, and nobody else comes.

    To five minutes, later rather than earlier. Who waits for a moment only, or for what no known end brings, is left
    out.

    Args:
        room: as the decisions were made from.
    """
    for one in decisions:
        if one.verdict is Verdict.START:
            until = now + timedelta(days=one.instance.limits.days)
            room = room.with_start(one.instance.limits, owners[one.instance.owner_id].lab, until)
    waiting = [one.instance for one in decisions if one.verdict is Verdict.WAIT][:ESTIMATED_MOST]
    ends = [(end.at, number, end) for number, end in enumerate(room.ends)]
    heapify(ends)
    ordinal = count(len(ends))  # no two entries of the heap are alike
    found: dict[str, datetime] = {}
    at, moment = now, True
    while waiting:
        for instance in _start_now(waiting, room, owners):
            limits, lab = instance.limits, owners[instance.owner_id].lab
            room = room.with_start(limits, lab)
            until = at + timedelta(days=limits.days)
            heappush(ends, (until, next(ordinal), KnownEnd(until, limits, lab)))
            waiting.remove(instance)
            if not moment:
                found[instance.id] = _rounded_up(at)
        if not ends:
            break
        at, moment = max(ends[0][0], now), False
        while ends and ends[0][0] <= at:  # what ends at the same time is free together
            room = room.without(heappop(ends)[2])
    return found


def _start_now(waiting: Sequence[Instance], room: Room, owners: Mapping[str, OwnerRoom]) -> list[Instance]:
    """Those that start in strict order; only who waits for their own lab is passed over."""
    starting = []
    for instance in waiting:
        lab = owners[instance.owner_id].lab
        if not room.lab_allows(instance.limits, lab):
            continue
        if not room.has_room(instance.limits, lab):
            break
        room = room.with_start(instance.limits, lab)
        starting.append(instance)
    return starting


def _rounded_up(at: datetime) -> datetime:
    over = timedelta(seconds=at.timestamp() % ESTIMATES_TO.total_seconds())
    return at - over + ESTIMATES_TO if over else at


def queue_in_words(position: int, stage: Stage) -> str:
    """How long the way is, for whoever waits.

    Args:
        position: 1 for the next to start.
        stage: what the queue waits for.
    """
    before = "You are next" if position <= 1 else f"{position - 1} before you"
    if stage is Stage.TURN:
        return f"Others are starting right now. {before}; it starts automatically in a moment."
    if stage is Stage.LAB:
        return "Your lab uses all it may use. It starts automatically as soon as instances of your lab end."
    return f"The server is full. {before}; it starts automatically as soon as memory and cores are free."
