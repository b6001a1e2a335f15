"""Who may start now: decided from capacity, quotas, the queue, and how many start at the same time. Pure.

The queue is served in its order, the longest waiting first. Nobody overtakes: where the first does not fit, everybody
behind waits too, so that a large instance is not kept out for ever by small ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from .ends import OWNER_SUSPENDED
from .instances import Instance, Stage
from .limits import Capacity, Limits, Quota, Use, quota_problems

NEVER_ENOUGH = "this server can no longer provide this size; launch a smaller one"

# A start counts among those at the same time for so long: one that hangs keeps nobody out for longer.
START_COUNTS_FOR = timedelta(seconds=60)


@dataclass(frozen=True)
class Room:
    """What the server can give, what is given out, and how many start now.

    Attributes:
        reserved: of everything live that does not queue.
        starts_at_once: how many may start at the same time; at least 1.
    """

    capacity: Capacity
    reserved: Use
    starting: int
    starts_at_once: int

    def why_wait(self, limits: Limits) -> Stage | None:
        """What a launch waits for; None: it may start now."""
        if not self.capacity.has_room(self.reserved, limits):
            return Stage.WAITING
        return Stage.TURN if self.starting >= self.starts_at_once else None

    def with_start(self, limits: Limits) -> Room:
        return replace(self, reserved=self.reserved.plus(limits), starting=self.starting + 1)

    def can_ever_hold(self, limits: Limits) -> bool:
        return self.capacity.has_room(Use(), limits)


@dataclass(frozen=True)
class OwnerRoom:
    """What an owner may use now, and what of theirs is live and does not queue."""

    quota: Quota
    default_instances: int
    reserved: Use
    is_active: bool = True


class Verdict(StrEnum):
    START = "start"
    WAIT = "wait"
    END = "end"


@dataclass(frozen=True)
class Decision:
    """`stage` is what one waits for, `reason` why it ends, in its owner's words."""

    instance: Instance
    verdict: Verdict
    stage: Stage = Stage.WAITING
    reason: str = ""


def on_launch(limits: Limits, room: Room, queue: Sequence[Instance]) -> Stage | None:
    """What a new launch waits for; None: it starts at once. Those who wait already go first."""
    return queue[0].stage if queue else room.why_wait(limits)


def decide(queue: Sequence[Instance], room: Room, owners: Mapping[str, OwnerRoom]) -> list[Decision]:
    """A decision for each that queues, the longest waiting first.

    Args:
        queue: in its order.
        owners: by their ids, each owner of one that queues.
    """
    decisions: list[Decision] = []
    given = dict(owners)
    waits: Stage | None = None
    for instance in queue:
        owner = given[instance.owner_id]
        if reason := _why_never(instance, room, owner):
            decisions.append(Decision(instance, Verdict.END, reason=reason))
            continue
        waits = waits or room.why_wait(instance.limits)
        if waits is not None:
            decisions.append(Decision(instance, Verdict.WAIT, waits))
            continue
        room = room.with_start(instance.limits)
        given[instance.owner_id] = replace(owner, reserved=owner.reserved.plus(instance.limits))
        decisions.append(Decision(instance, Verdict.START))
    return decisions


def _why_never(instance: Instance, room: Room, owner: OwnerRoom) -> str | None:
    """Why waiting has no end, in its owner's words."""
    if not owner.is_active:
        return OWNER_SUSPENDED
    if not room.can_ever_hold(instance.limits):  # the server can provide less than when it was asked for
        return NEVER_ENOUGH
    # Launches are held to the quota as they are asked for, with what queues. It may have been lowered since.
    over = quota_problems(owner.quota, owner.default_instances, owner.reserved, instance.limits)
    return f"it is more than you may use now: {'; '.join(over.values())}" if over else None


def queue_in_words(position: int, stage: Stage) -> str:
    """How long the way is, for whoever waits.

    Args:
        position: 1 for the next to start.
        stage: what the queue waits for.
    """
    before = "You are next" if position <= 1 else f"{position - 1} before you"
    if stage is Stage.TURN:
        return f"Others are starting right now. {before}; it starts automatically in a moment."
    return f"The server is full. {before}; it starts automatically as soon as memory and cores are free."
