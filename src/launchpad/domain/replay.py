"""What an idle rule would have done to instances of the past: recorded activity, decided by `policy.decide`. Pure.

What was seen comes as stretches: of samples one after the other, or of steps of a series. Of a step it is known that a
person or work was in it, not when; so it counts as if it had been at the step's end, and a watch that begins in a step
begins at its end. A replay of steps therefore ends an instance no earlier than the rule would have, and at most two
steps later; an idle time that the steps swallow ends nothing.

An instance that would have ended is followed further, up to what shows that it was missed: a person, who would have had
to launch it again, or work that nobody had begun anew, which would have been lost. There the gain ends, and from there
on it counts as running again, so a rule can end it once more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from .activity import cores_in_words
from .policy import IdleAction, IdleRule, decide, watched
from .sizes import describe_bytes, describe_cpus
from .times import span_in_words

SHORTLY = timedelta(hours=1)
GIB = 1024**3
_EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time without a gap in which the same was seen of an instance.

    Attributes:
        since, until: the beginning of its first step and the end of its last; both are the moment of a single sample.
        step_seconds: how long its steps are; 0 for samples.
        was_working, was_used: in each of its steps, there was work, or a person did something.
        cpu_cores, memory_bytes: of its last step; memory with the page cache.
    """

    since: datetime
    until: datetime
    step_seconds: int
    was_working: bool
    was_used: bool
    cpu_cores: float = 0.0
    memory_bytes: int = 0

    @property
    def is_idle(self) -> bool:
        return not self.was_working and not self.was_used


@dataclass(frozen=True, slots=True)
class PastInstance:
    """An instance that ran within the time that is replayed.

    Attributes:
        owner_email, lab: of its owner as it ended, or as things are.
        ended_at: None: it runs.
    """

    id: str
    owner_email: str
    lab: str | None
    environment: str
    memory_bytes: int
    cpus: float
    started_at: datetime
    ended_at: datetime | None


class Afterwards(StrEnum):
    """What was seen first in an instance after the rule would have ended it: nothing more, a person, or work."""

    NOTHING = "nothing"
    PERSON = "person"
    WORK = "work"


@dataclass(frozen=True, slots=True)
class ReplayedEnd:
    """One end, or freeze, that a rule would have brought.

    Attributes:
        at: when.
        idle_since: since when neither a person nor work was seen.
        step_seconds: the resolution of what was recorded there; `at` may be up to two steps too late.
        cpu_cores, memory_bytes: what it used and held then.
        until: up to when it stood there for nothing: somebody returned, it worked again, its end, or now.
        afterwards: what came then.
    """

    instance: PastInstance
    action: IdleAction
    at: datetime
    idle_since: datetime
    step_seconds: int
    cpu_cores: float
    memory_bytes: int
    until: datetime
    afterwards: Afterwards = Afterwards.NOTHING
    freed_memory_bytes: int = 0

    @property
    def hours(self) -> float:
        return max(0.0, (self.until - self.at).total_seconds() / 3600)

    @property
    def gb_hours(self) -> float:
        """Of reserved memory, in GB of 1024³ bytes."""
        return self.freed_memory_bytes / GIB * self.hours

    @property
    def core_hours(self) -> float:
        return self.instance.cpus * self.hours

    @property
    def was_working(self) -> bool:
        """Whether it was at work then after all: it worked again within an hour, with nobody there."""
        return self.afterwards is Afterwards.WORK and self.until - self.at <= SHORTLY

    @property
    def evidence(self) -> str:
        """In an administrator's words, times left out."""
        idle = span_in_words(self.at - self.idle_since)
        used = f"{cores_in_words(self.cpu_cores)} of {describe_cpus(self.instance.cpus)}"
        held = f"{describe_bytes(self.memory_bytes)} of {describe_bytes(self.instance.memory_bytes)}"
        return f"no person and no work for {idle}; {used}, {held}; {self.after_in_words}"

    @property
    def after_in_words(self) -> str:
        after = span_in_words(self.until - self.at)
        if self.afterwards is Afterwards.PERSON:
            return f"used again after {after}"
        if self.afterwards is Afterwards.WORK:
            return f"worked again after {after}, with nobody there"
        return f"not used again in the {after} after that"


@dataclass
class _Run:
    """What is known of an instance as far as it has been replayed."""

    last_person_at: datetime
    last_work_at: datetime | None = None
    watched_since: datetime | None = None
    seen_until: datetime | None = None
    is_working: bool = False
    end: ReplayedEnd | None = None  # since when it would be gone, or frozen


@dataclass
class Replay:
    """Follows instances through what was recorded of them, in the order of time, and gathers what a rule would end.

    Args:
        now: until when the time goes that is replayed.
        gap: as of the portal's own decisions (`policy.watched`).
        settle: nothing ends before an instance has been watched for so long, as in the portal.
        frees_memory: a freeze leaves to others what the instance does not hold.
    """

    rule: IdleRule
    now: datetime
    gap: timedelta
    settle: timedelta = timedelta(0)
    frees_memory: bool = True
    ends: list[ReplayedEnd] = field(default_factory=list)
    _runs: dict[str, tuple[PastInstance, _Run]] = field(default_factory=dict)

    def add(self, instance: PastInstance, stretch: Stretch) -> None:
        """The next stretch of an instance."""
        known = self._runs.get(instance.id)
        if known is None:
            known = self._runs[instance.id] = instance, _Run(instance.started_at)
        run = known[1]
        if run.end is not None:
            if stretch.is_idle:
                return
            person = Afterwards.PERSON if stretch.was_used else Afterwards.WORK
            self._close(run, run.end, stretch.since, person)
            run.watched_since = run.seen_until = None
        _look(run, stretch, self.gap)
        if not stretch.is_idle:
            return
        # In its last step it was seen at the beginning at least, and perhaps not after that.
        looked_at = stretch.until - timedelta(seconds=stretch.step_seconds)
        decision = decide(
            self.rule,
            last_person_at=run.last_person_at,
            last_work_at=run.last_work_at,
            is_working=run.is_working,
            watched_since=run.watched_since,
            not_before=run.watched_since + self.settle if run.watched_since is not None else None,
            now=max(looked_at, run.watched_since or looked_at),
        )
        ended_at = instance.ended_at or self.now
        if decision.is_due(looked_at) and decision.at is not None and decision.idle_since is not None:
            if decision.at >= ended_at:
                return
            freed = instance.memory_bytes
            if self.rule.action is IdleAction.FREEZE:
                freed = max(0, freed - stretch.memory_bytes) if self.frees_memory else 0
            run.end = ReplayedEnd(
                instance,
                self.rule.action,
                decision.at,
                decision.idle_since,
                stretch.step_seconds,
                stretch.cpu_cores,
                stretch.memory_bytes,
                ended_at,
                freed_memory_bytes=freed,
            )

    def finish(self) -> list[ReplayedEnd]:
        """All ends, what was at work or missed first, then by what they would have freed."""
        for instance, run in self._runs.values():
            if run.end is not None:
                self._close(run, run.end, instance.ended_at or self.now, Afterwards.NOTHING)
        self._runs.clear()
        return sorted(self.ends, key=_badness)

    def _close(self, run: _Run, end: ReplayedEnd, until: datetime, afterwards: Afterwards) -> None:
        ended_at = end.instance.ended_at or self.now
        until = min(max(until, end.at), ended_at)
        self.ends.append(replace(end, until=until, afterwards=afterwards))
        run.end = None


def _look(run: _Run, stretch: Stretch, gap: timedelta) -> None:
    """Notes what a stretch shows."""
    step = timedelta(seconds=stretch.step_seconds)
    before = run.seen_until
    if before is not None and step and stretch.since > before and stretch.since - before + 2 * step > gap:
        before = None  # a step is missing, so up to two steps more may be
    if run.watched_since is None or watched(_EVER, before, stretch.since, gap) != _EVER:
        run.watched_since = min(stretch.since + step, stretch.until)
    run.seen_until = stretch.until
    run.is_working = stretch.was_working
    if stretch.was_used:
        run.last_person_at = max(run.last_person_at, stretch.until)
    if stretch.was_working:
        run.last_work_at = stretch.until


def _badness(end: ReplayedEnd) -> tuple[int, float, str, datetime]:
    order = (Afterwards.WORK, Afterwards.PERSON, Afterwards.NOTHING)
    first = 0 if end.was_working else 1 + order.index(end.afterwards)
    return first, -end.gb_hours, end.instance.id, end.at


@dataclass(frozen=True)
class Totals:
    """What all ends of a replay come to.

    Attributes:
        ends, instances, people: how many ends, of how many instances, of how many owners.
        working: ends of what worked again within an hour, with nobody there.
        worked_later: ends of what worked again after more than that, with nobody there.
        came_back: ends after which a person returned, and would have had to launch or thaw it.
        people_back: how many people those are.
    """

    ends: int
    instances: int
    people: int
    gb_hours: float
    core_hours: float
    working: int
    worked_later: int
    came_back: int
    people_back: int

    @classmethod
    def of(cls, ends: Sequence[ReplayedEnd]) -> Totals:
        back = [one for one in ends if one.afterwards is Afterwards.PERSON]
        worked = [one for one in ends if one.afterwards is Afterwards.WORK]
        working = sum(one.was_working for one in worked)
        return cls(
            len(ends),
            len({one.instance.id for one in ends}),
            len({one.instance.owner_email for one in ends}),
            math.fsum(one.gb_hours for one in ends),
            math.fsum(one.core_hours for one in ends),
            working,
            len(worked) - working,
            len(back),
            len({one.instance.owner_email for one in back}),
        )
