"""What the server can give, what is given out, and when it becomes free. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby

from .instances import Stage
from .lab_capacity import LabCapacity, largest_for
from .limits import Capacity, Limits, Use


@dataclass(frozen=True)
class KnownEnd:
    """When something that is live ends at the latest, unless it is extended, and what is free then."""

    at: datetime
    limits: Limits
    lab: str | None = None


@dataclass(frozen=True)
class Room:
    """What the server can give, what is given out, and how many start now.

    Attributes:
        reserved: of everything live that does not queue.
        starts_at_once: how many may start at the same time; at least 1.
        labs: the capacity of the labs that have one of their own.
        reserved_by_lab: what these have reserved.
        ends: of what is reserved, as far as they are known.
    """

    capacity: Capacity
    reserved: Use
    starting: int
    starts_at_once: int
    labs: Mapping[str, LabCapacity] = field(default_factory=dict)
    reserved_by_lab: Mapping[str, Use] = field(default_factory=dict)
    ends: Sequence[KnownEnd] = ()

    def why_wait(self, limits: Limits, lab: str | None = None) -> Stage | None:
        """What a launch waits for; None: it may start now."""
        if not self.lab_allows(limits, lab):
            return Stage.LAB
        if not self.has_room(limits, lab):
            return Stage.WAITING
        return Stage.TURN if self.starting >= self.starts_at_once else None

    def lab_allows(self, limits: Limits, lab: str | None) -> bool:
        own = self.labs.get(lab) if lab else None
        return own is None or own.allows(self.used_by(lab), limits)

    def has_room(self, limits: Limits, lab: str | None = None) -> bool:
        """Whether it fits besides what is reserved, and what other labs are guaranteed."""
        if not self.labs:
            return self.capacity.has_room(self.reserved, limits)
        memory_bytes, cpus = self.capacity.memory_bytes, self.capacity.cpus
        for name, one in self.labs.items():
            if name != lab:
                kept_bytes, kept_cpus = one.kept_free(self.used_by(name))
                memory_bytes, cpus = memory_bytes - kept_bytes, cpus - kept_cpus
        return Capacity(memory_bytes, cpus, self.capacity.instances).has_room(self.reserved, limits)

    def fits(self, limits: Limits, lab: str | None) -> bool:
        return self.lab_allows(limits, lab) and self.has_room(limits, lab)

    def used_by(self, lab: str | None) -> Use:
        return self.reserved_by_lab.get(lab, Use()) if lab else Use()

    def with_start(self, limits: Limits, lab: str | None = None, until: datetime | None = None) -> Room:
        """With one more that starts, and ends at `until` where that is known."""
        return replace(
            self,
            reserved=self.reserved.plus(limits),
            starting=self.starting + 1,
            reserved_by_lab=self._with_lab(lab, self.used_by(lab).plus(limits)),
            ends=(*self.ends, KnownEnd(until, limits, lab)) if until is not None else self.ends,
        )

    def without(self, end: KnownEnd) -> Room:
        """After an end."""
        return replace(
            self,
            reserved=self.reserved.minus(end.limits),
            reserved_by_lab=self._with_lab(end.lab, self.used_by(end.lab).minus(end.limits)),
        )

    def without_one(self, end: KnownEnd) -> Room:
        """Without something that is live, as if it had never been; its end is none any more, either."""
        ends = list(self.ends)
        if end in ends:
            ends.remove(end)
        return replace(self.without(end), ends=tuple(ends))

    def _with_lab(self, lab: str | None, use: Use) -> Mapping[str, Use]:
        return {**self.reserved_by_lab, lab: use} if lab and lab in self.labs else self.reserved_by_lab

    def can_ever_hold(self, limits: Limits, lab: str | None = None) -> bool:
        return largest_for(self.capacity, self.labs, lab).has_room(Use(), limits)


class Reservation:
    """Room for the first of the queue that does not fit now, from the instant at which known ends make it fit.

    Others are let past it only while it loses nothing by them: they end by then, or it fits beside them then.
    """

    def __init__(self, room: Room, limits: Limits, lab: str | None, now: datetime) -> None:
        self._limits, self._lab, self._now = limits, lab, now
        self.starts_at: datetime | None = None  # None: no known ends make it fit
        self._then = room
        for at, ends in groupby(sorted(room.ends, key=lambda end: end.at), key=lambda end: max(end.at, now)):
            for end in ends:
                self._then = self._then.without(end)
            if self._then.fits(limits, lab):
                self.starts_at = at
                break

    def lets_past(self, limits: Limits, lab: str | None) -> bool:
        """Whether another one may start now, and be over or beside it then. What is let past is taken into account."""
        if self.starts_at is None:
            return False
        if self.is_over_by_then(limits):
            return True
        beside = self._then.with_start(limits, lab)
        if not beside.fits(self._limits, self._lab):
            return False
        self._then = beside
        return True

    def is_over_by_then(self, limits: Limits) -> bool:
        return self.starts_at is not None and self._now + timedelta(days=limits.days) <= self.starts_at
