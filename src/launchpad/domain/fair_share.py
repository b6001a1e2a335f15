"""The order of the queue: by what labs and people have in use and had lately, then first come. Pure.

A share is a part of the server, from 0 to 1: the larger one of the parts of its memory and of its cores. What was used
counts half after each half-life, so that a lab that had the whole server for long stands behind one that had nothing,
and nothing is held against anybody for ever.

Nobody waits for ever either. Each `waiting_counts_as_all` of waiting weighs as much as the whole server in use, and
nobody can use more than that; so whoever has waited long enough goes before everybody who comes later, whatever they
use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from math import exp2

from .instances import Instance
from .limits import Capacity


@dataclass(frozen=True)
class FairShareRules:
    """How the past counts.

    Attributes:
        half_life: after so long, what was used counts half.
        waiting_counts_as_all: waiting for so long weighs as much as the whole server in use.
    """

    half_life: timedelta = timedelta(days=3)
    waiting_counts_as_all: timedelta = timedelta(days=1)


@dataclass(frozen=True)
class RecentUse:
    """An average over the past, in which what is older weighs less: memory in bytes, and cores.

    Whoever had 8 GB all the time has an average of 8 GB; half a half-life without anything leaves 71 % of it.
    """

    memory_bytes: float = 0.0
    cpus: float = 0.0

    def plus(self, other: RecentUse) -> RecentUse:
        return RecentUse(self.memory_bytes + other.memory_bytes, self.cpus + other.cpus)

    def times(self, factor: float) -> RecentUse:
        return RecentUse(self.memory_bytes * factor, self.cpus * factor)


def left_after(elapsed: timedelta, half_life: timedelta) -> float:
    """What is left of an average after a time without use; a clock that was set back takes nothing off."""
    return exp2(-max(elapsed / half_life, 0.0))


def use_of(
    memory_bytes: int, cpus: float, began_at: datetime, ended_at: datetime, now: datetime, half_life: timedelta
) -> RecentUse:
    """What having had so much from `began_at` to `ended_at` adds to an average as of `now`."""
    ended_at = min(max(ended_at, began_at), max(now, began_at))
    weight = left_after(now - ended_at, half_life) - left_after(now - began_at, half_life)
    return RecentUse(memory_bytes * weight, cpus * weight)


def share_of(capacity: Capacity, memory_bytes: float, cpus: float) -> float:
    """The part of the server. What is without a limit takes no part of it."""
    of_memory = memory_bytes / capacity.memory_bytes if capacity.memory_bytes else 0.0
    return max(of_memory, cpus / capacity.cpus if capacity.cpus else 0.0)


@dataclass(frozen=True)
class Holder:
    """A lab, or a person: what is theirs now, and what was lately, each as a share of the server."""

    now: float = 0.0
    lately: float = 0.0

    @property
    def score(self) -> float:
        """The lower, the sooner it is their turn."""
        return self.now + self.lately


def lab_key(lab: str | None, owner_id: str) -> str:
    """Whose share a person's use is counted for: their lab's, or where they have none, their own."""
    return f"lab:{lab}" if lab else user_key(owner_id)


def user_key(owner_id: str) -> str:
    return f"user:{owner_id}"


@dataclass
class _Person:
    score: float
    requests: list[Instance]  # the longest waiting last


@dataclass
class _Lab:
    score: float
    people: dict[str, _Person] = field(default_factory=dict)
    heap: list[tuple[float, datetime, str, str]] = field(default_factory=list)


class _Order:
    """Takes one request after the other; each that was taken counts as in use for those that are still there."""

    def __init__(
        self,
        queue: Sequence[Instance],
        labs: Mapping[str, str | None],
        holders: Mapping[str, Holder],
        capacity: Capacity,
        rules: FairShareRules,
        now: datetime,
    ) -> None:
        self._capacity, self._rules, self._now = capacity, rules, now
        self._labs: dict[str, _Lab] = {}
        for one in sorted(queue, key=lambda one: (one.created_at, one.id), reverse=True):
            key = lab_key(labs.get(one.owner_id), one.owner_id)
            lab = self._labs.setdefault(key, _Lab(holders.get(key, Holder()).score))
            score = holders.get(user_key(one.owner_id), Holder()).score
            lab.people.setdefault(one.owner_id, _Person(score, [])).requests.append(one)
        for lab in self._labs.values():
            lab.heap = [self._entry(owner_id, person) for owner_id, person in lab.people.items()]
            heapify(lab.heap)
        self._heap = [self._entry_of_lab(key, lab) for key, lab in self._labs.items()]
        heapify(self._heap)

    def _waited(self, instance: Instance) -> float:
        return max((self._now - instance.created_at) / self._rules.waiting_counts_as_all, 0.0)

    def _entry(self, owner_id: str, person: _Person) -> tuple[float, datetime, str, str]:
        first = person.requests[-1]
        return person.score - self._waited(first), first.created_at, first.id, owner_id

    def _entry_of_lab(self, key: str, lab: _Lab) -> tuple[float, datetime, str, str]:
        first = lab.people[lab.heap[0][3]].requests[-1]
        return lab.score - self._waited(first), first.created_at, first.id, key

    def taken(self) -> list[Instance]:
        order = []
        while self._heap:
            key = heappop(self._heap)[3]
            lab = self._labs[key]
            owner_id = heappop(lab.heap)[3]
            person = lab.people[owner_id]
            instance = person.requests.pop()
            order.append(instance)
            share = share_of(self._capacity, instance.limits.memory_bytes, instance.limits.cpus)
            lab.score += share
            person.score += share
            if person.requests:
                heappush(lab.heap, self._entry(owner_id, person))
            if lab.heap:
                heappush(self._heap, self._entry_of_lab(key, lab))
        return order


def fair_order(
    queue: Sequence[Instance],
    labs: Mapping[str, str | None],
    holders: Mapping[str, Holder],
    capacity: Capacity,
    rules: FairShareRules,
    now: datetime,
) -> list[Instance]:
    """The queue in the order in which its turn comes.

    The lab that has least goes first, and in it the person who has least; of one person what was asked for first. What
    has been given its place counts as in use for all places behind.

    Args:
        labs: the labs of the owners, by the owners' ids.
        holders: by `lab_key` and `user_key`; who is missing has and had nothing.
    """
    return _Order(queue, labs, holders, capacity, rules, now).taken()
