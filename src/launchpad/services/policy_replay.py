"""What an idle rule would have ended in the last days, of recorded activity: nobody turns a rule on blind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.activity import Step, step_of
from ..domain.activity_codec import KEPT, stretches
from ..domain.instances import State
from ..domain.policy import EVERYONE, LONGEST_MINUTES, IdleRule, Scope
from ..domain.policy_codec import rule_problems
from ..domain.replay import PastInstance, Replay, ReplayedEnd, Totals
from ..errors import InvalidInput
from ..store import activity, instance_history, instances, users
from ..store.database import Database

MOST_DAYS = KEPT[Step.HOUR].days


@dataclass(frozen=True)
class ReplayRequest:
    """
    Attributes:
        rule: what would have been in force.
        days: for how many days up to now.
        scope: for whose instances, and of which environment.
    """

    rule: IdleRule
    days: int
    scope: Scope = EVERYONE


@dataclass(frozen=True)
class Resolution:
    """How finely activity is known of a part of the time: in steps of so many seconds."""

    step: Step
    since: datetime
    until: datetime


@dataclass(frozen=True)
class ReplayReport:
    """What a rule would have done.

    Attributes:
        instances: how many of those that the rule is about were recorded in this time, ended by it or not.
        recorded_since: of when the first record is; None: there is none.
        resolutions: in the order of time, without those of which nothing is asked.
        ends: what was at work or missed first.
    """

    request: ReplayRequest
    since: datetime
    until: datetime
    instances: int
    recorded_since: datetime | None
    resolutions: tuple[Resolution, ...]
    ends: list[ReplayedEnd]
    totals: Totals

    @property
    def owners(self) -> set[str]:
        """The addresses of those whose instances are among the ends."""
        return {end.instance.owner_email for end in self.ends}


class PolicyReplayService:
    """
    Args:
        gap, settle: as of the decisions about what runs.
        frees_memory: others may use what a frozen instance does not hold.
    """

    def __init__(self, database: Database, gap: timedelta, settle: timedelta, *, frees_memory: bool) -> None:
        self._database = database
        self._gap = gap
        self._settle = settle
        self._frees_memory = frees_memory
        self._one_at_a_time = asyncio.Lock()

    async def replay(self, request: ReplayRequest, now: datetime) -> ReplayReport:
        """Reads what was recorded, a piece at a time, and decides of it.

        Raises:
            InvalidInput: the rule does nothing or cannot be set, or the time is longer than activity is kept.
        """
        if not request.rule.is_on:
            raise InvalidInput("This rule does nothing.", fields={"action": "choose stop or freeze"})
        if rule_problems(request.rule):
            text = f"choose from 1 minute to {LONGEST_MINUTES // 1440} days"
            raise InvalidInput("No rule may have this idle time.", fields={"idle": text})
        if not 1 <= request.days <= MOST_DAYS:
            raise InvalidInput(
                "Activity is not known of so long a time.", fields={"days": f"choose from 1 to {MOST_DAYS} days"}
            )
        since = now - timedelta(days=request.days)
        replay = Replay(request.rule, now, self._gap, self._settle, self._frees_memory)
        parts = tuple(_resolutions(since, now))
        recorded: set[str] = set()
        first: datetime | None = None
        async with self._one_at_a_time, self._database.reading() as db:
            wanted = await _past(db, since, request.scope)
            for part in parts:
                async for instance_id, begins_at, points in activity.chunks(db, part.step, part.since, part.until):
                    instance = wanted.get(instance_id)
                    if instance is None:
                        continue
                    for stretch in stretches(points, begins_at, part.step, part.since, part.until):
                        first = stretch.since if first is None or stretch.since < first else first
                        recorded.add(instance_id)
                        replay.add(instance, stretch)
        ends = await asyncio.to_thread(replay.finish)  # thousands are put in order: nobody waits for that
        totals = await asyncio.to_thread(Totals.of, ends)
        return ReplayReport(request, since, now, len(recorded), first, parts, ends, totals)


def _resolutions(since: datetime, now: datetime) -> Iterator[Resolution]:
    """The finest steps that are kept of each part; a part begins where a step of the coarser one does."""
    quarters = _begun(now - KEPT[Step.QUARTER], Step.HOUR)
    minutes = _begun(now - KEPT[Step.MINUTE], Step.QUARTER)
    begins = {Step.HOUR: since, Step.QUARTER: max(since, quarters), Step.MINUTE: max(since, minutes)}
    ends = {Step.HOUR: quarters, Step.QUARTER: minutes, Step.MINUTE: now}
    for step in (Step.HOUR, Step.QUARTER, Step.MINUTE):
        if begins[step] < ends[step]:
            yield Resolution(step, begins[step], ends[step])


def _begun(at: datetime, step: Step) -> datetime:
    """The first beginning of a step that is not before `at`."""
    begin = step_of(at, step)
    return begin if begin == at else begin + timedelta(seconds=step)


async def _past(db: AsyncConnection, since: datetime, scope: Scope) -> dict[str, PastInstance]:
    """What ran within the time, and is the rule's; by the id."""
    found: dict[str, PastInstance] = {}
    async for past in instance_history.past(db, since):
        if scope.fits(past.environment, past.lab, past.owner_email):
            found[past.id] = past
    live = [one for one in await instances.in_states(db, State.RUNNING, State.STOPPING) if one.started_at is not None]
    owners = await users.by_ids(db, {one.owner_id for one in live})
    for one in live:
        owner = owners.get(one.owner_id)
        if owner is None or one.started_at is None or not scope.fits(one.environment, owner.lab, owner.email):
            continue
        limits = one.limits
        found[one.id] = PastInstance(
            one.id, owner.email, owner.lab, one.environment, limits.memory_bytes, limits.cpus, one.started_at, None
        )
    return found
