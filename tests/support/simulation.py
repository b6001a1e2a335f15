"""A queue in simulated time, over the pure decisions: who starts when, and what is fair. Nothing here waits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count

from launchpad.domain.admission import OwnerRoom, Verdict, decide
from launchpad.domain.fair_share import (
    FairShareRules,
    Holder,
    RecentUse,
    fair_order,
    lab_key,
    share_of,
    use_of,
    user_key,
)
from launchpad.domain.instances import Instance, Stage, State
from launchpad.domain.limits import Capacity, Limits, Quota, Use
from launchpad.domain.room import KnownEnd, Room

GB = 1024**3
BEGIN = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ONE_PLACE = Limits(GB, 1, GB, 1)


@dataclass(frozen=True)
class Request:
    """What somebody asks for, and for how long they really use it (at most what they asked for)."""

    at: timedelta
    lab: str
    person: str
    takes: timedelta
    limits: Limits = ONE_PLACE


@dataclass
class Record:
    """What happened, by the numbers of the requests."""

    waited: dict[int, timedelta] = field(default_factory=dict)
    most_at_once: int = 0
    idle_while_wanted: timedelta = timedelta()  # of one place of GB


def simulate(
    requests: Sequence[Request], capacity: Capacity, rules: FairShareRules | None = None, *, first_come: bool = False
) -> Record:
    """Everything that is asked for, from the first request to the last end.

    Args:
        first_come: in the order of arrival instead of the fair one, for comparison.
    """
    rules = rules or FairShareRules()
    record = Record()
    labs: dict[str, str | None] = {one.person: one.lab for one in requests}
    owners = {person: OwnerRoom(Quota(), 10_000, Use(), lab=lab) for person, lab in labs.items()}
    ordinal = count()
    events: list[tuple[datetime, int, str, int]] = []
    for number, one in enumerate(requests):
        heappush(events, (BEGIN + one.at, next(ordinal), "asks", number))
    queue: dict[int, Instance] = {}
    running: dict[int, tuple[Instance, datetime]] = {}
    had: list[tuple[Request, datetime, datetime]] = []
    now = BEGIN
    while events:
        before, (now, _, kind, number) = now, heappop(events)
        if queue:
            free = capacity.memory_bytes - sum(one.limits.memory_bytes for one, _ in running.values())
            record.idle_while_wanted += (now - before) * (free // GB)
        if kind == "asks":
            queue[number] = _queued(number, requests[number], now)
        else:
            began = running.pop(number)[1]
            had.append((requests[number], began, now))
        if events and events[0][0] == now:
            continue
        room = _room(capacity, running, labs)
        holders = _holders(requests, running, had, capacity, rules, now)
        if first_come:
            order = sorted(queue.values(), key=lambda one: one.place.at)
        else:
            order = fair_order(list(queue.values()), labs, holders, capacity, rules, now)
        for decision in decide(order, room, owners, now):
            if decision.verdict is Verdict.START:
                which = int(decision.instance.id)
                del queue[which]
                until = now + timedelta(days=decision.instance.limits.days)
                running[which] = replace(decision.instance, expires_at=until), now
                record.waited[which] = now - decision.instance.created_at
                heappush(events, (now + requests[which].takes, next(ordinal), "ends", which))
        record.most_at_once = max(record.most_at_once, len(running))
    return record


def _queued(number: int, request: Request, now: datetime) -> Instance:
    return Instance(
        id=f"{number:016}",
        owner_id=request.person,
        environment="jupyterlab",
        state=State.QUEUED,
        stage=Stage.WAITING,
        reason=None,
        limits=request.limits,
        created_at=now,
        expires_at=datetime.max.replace(tzinfo=UTC),  # nobody gives up here
    )


def _room(capacity: Capacity, running: Mapping[int, tuple[Instance, datetime]], labs: Mapping[str, str | None]) -> Room:
    reserved = Use()
    for one, _ in running.values():
        reserved = reserved.plus(one.limits)
    ends = [KnownEnd(one.expires_at, one.limits, labs[one.owner_id]) for one, _ in running.values()]
    return Room(capacity, reserved, 0, 10_000, ends=ends)


def _holders(
    requests: Sequence[Request],
    running: Mapping[int, tuple[Instance, datetime]],
    had: Sequence[tuple[Request, datetime, datetime]],
    capacity: Capacity,
    rules: FairShareRules,
    now: datetime,
) -> dict[str, Holder]:
    in_use: dict[str, RecentUse] = defaultdict(RecentUse)
    lately: dict[str, RecentUse] = defaultdict(RecentUse)
    held = [(requests[number], began, now) for number, (_, began) in running.items()]
    for one, began, ended in (*held, *had):
        memory_bytes, cpus = one.limits.memory_bytes, one.limits.cpus
        for key in {lab_key(one.lab, one.person), user_key(one.person)}:
            lately[key] = lately[key].plus(use_of(memory_bytes, cpus, began, ended, now, rules.half_life))
            if ended == now and (one, began, ended) in held:
                in_use[key] = in_use[key].plus(RecentUse(memory_bytes, cpus))

    def share(use: RecentUse) -> float:
        return share_of(capacity, use.memory_bytes, use.cpus)

    return {key: Holder(share(in_use[key]), share(use)) for key, use in lately.items()}


def fair_waits(
    requests: Sequence[Request], places: int, *, step: timedelta = timedelta(minutes=1)
) -> dict[int, timedelta]:
    """How long each would wait if places could be divided at will: the reference that nobody can reach.

    At every instant the places are shared equally among the labs that want any (what a lab cannot use goes to the
    others), and within a lab they go to its requests as they came. A request waits until as much has been done for its
    lab as all its requests before it need, of one place each.
    """
    left = {number: one.takes for number, one in enumerate(requests)}
    waited: dict[int, timedelta] = {}
    of_labs: dict[str, list[int]] = defaultdict(list)
    for number in sorted(left, key=lambda number: (requests[number].at, number)):
        of_labs[requests[number].lab].append(number)
    at = timedelta()
    while any(of_labs.values()):
        wanting = {
            lab: sum(1 for number in numbers if requests[number].at <= at)
            for lab, numbers in of_labs.items()
            if numbers
        }
        for lab, share in _shared(wanting, float(places)).items():
            for number in [number for number in of_labs[lab] if requests[number].at <= at]:
                if share <= 0:
                    break
                waited.setdefault(number, at - requests[number].at)
                left[number] -= step * min(share, 1.0)
                share -= 1.0
                if left[number] <= timedelta():
                    of_labs[lab].remove(number)
        at += step
    return waited


def _shared(wanting: Mapping[str, int], places: float) -> dict[str, float]:
    """Equal shares, and none larger than what is wanted."""
    shares: dict[str, float] = {}
    open_labs = sorted((lab for lab in wanting if wanting[lab]), key=lambda lab: wanting[lab])
    while open_labs:
        equal = places / len(open_labs)
        lab = open_labs.pop(0)
        shares[lab] = min(equal, float(wanting[lab]))
        places -= shares[lab]
    return shares
