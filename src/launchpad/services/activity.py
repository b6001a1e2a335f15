"""What goes on in instances: sampled by the owner of the work, kept as series, known to every process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.activity import (
    Activity,
    ActivitySample,
    Point,
    Step,
    WorkThresholds,
    merged,
    step_of,
    work_of,
)
from ..domain.activity_codec import KEPT
from ..domain.environments import Environment
from ..domain.instances import Instance, State
from ..domain.usage import ContainerActivity
from ..errors import StoreUnavailable
from ..store import activity, activity_latest, kv
from ..store.activity_latest import SeenLast
from ..store.database import Database
from .activity_looks import Look, Minutes, sampled, signals_of
from .activity_text import sample_as_text, sample_of_text
from .background import Loop, periodic
from .ide_signals import JupyterSignals, Kernels
from .live.instances import LiveInstances
from .live.usage import LooksCloser, UsageSampler
from .person_notes import PersonNotes

ROLLED_UP = "activity.rolled_up"  # until when quarters and hours have been made of finer steps
POINTS_WANTED = 400
ALL = 1_000_000  # live instances are never so many
PRUNE_EVERY = timedelta(hours=1)
LATE_AFTER_SECONDS = 180.0
ROLL_UP_AT_MOST = timedelta(days=2)  # as long as minutes are kept


class KnowsActivity(Protocol):
    """What other services ask of `ActivityService`. None of it asks the engine or the store but `points`."""

    def latest(self, instance_id: str) -> Activity | None:
        """What is known of a running instance; None: it was not sampled yet, or it no longer runs."""
        ...

    def all(self) -> Mapping[str, Activity]:
        """The latest of every running instance, by its id."""
        ...

    def note_person(self, instance_id: str, now: datetime) -> None:
        """A person did something in it. The gate says so; cheap, and written down soon."""
        ...

    async def points(
        self, instance_id: str, since: datetime, until: datetime, step: Step | None = None
    ) -> tuple[Step, Sequence[Point]]:
        """What was recorded, also of one that has ended, in the order of time.

        Args:
            step: the resolution; None: the finest that is kept for so long and gives at most a few hundred points.
        """
        ...


class ActivityService:
    """Implements `KnowsActivity`.

    Args:
        runtime: what looks into containers.
        usage: the sampler of what they use, which every look of ours feeds.
        is_owner: whether this process samples; the others read what the one that does has written.
        sample_seconds: between two looks.
    """

    def __init__(
        self,
        database: Database,
        runtime: LooksCloser,
        usage: UsageSampler,
        instances: LiveInstances,
        jupyter: JupyterSignals,
        catalogue: Mapping[str, Environment],
        thresholds: WorkThresholds,
        is_owner: Callable[[], bool],
        sample_seconds: float,
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._usage = usage
        self._instances = instances
        self._jupyter = jupyter
        self._catalogue = catalogue
        self._thresholds = thresholds
        self._is_owner = is_owner
        self._sample_seconds = sample_seconds
        self._persons = PersonNotes(database)
        self._known: dict[str, Activity] = {}
        self._before: dict[str, Look] = {}
        self._minutes = Minutes()
        self._has_read = False  # what this or another process knew before
        self._pruned_at: datetime | None = None
        self.sampled_at: datetime | None = None

    # -- what is known -------------------------------------------------------------------------------------------------

    def latest(self, instance_id: str) -> Activity | None:
        found = self._known.get(instance_id)
        return None if found is None else self._with_persons(found)

    def all(self) -> Mapping[str, Activity]:
        return {instance_id: self._with_persons(one) for instance_id, one in self._known.items()}

    def note_person(self, instance_id: str, now: datetime) -> None:
        self._persons.note(instance_id, now)

    async def settle(self) -> None:
        """Returns when everything that persons did is written."""
        await self._persons.settle()

    async def aclose(self) -> None:
        await self._persons.settle()
        await self._jupyter.aclose()

    async def points(
        self, instance_id: str, since: datetime, until: datetime, step: Step | None = None
    ) -> tuple[Step, Sequence[Point]]:
        step = step or step_for(since, until)
        async with self._database.reading() as db:
            found = await activity.of(db, instance_id, step, step_of(since, step), until)
            if step is not Step.MINUTE and (not found or found[-1].at + timedelta(seconds=step) < until):
                begin = found[-1].at + timedelta(seconds=step) if found else step_of(since, step)
                begin = max(begin, until - ROLL_UP_AT_MOST)
                fine = await activity.of(db, instance_id, Step.MINUTE, step_of(begin, step), until)
                found += _coarser(fine, step)  # what has not been made of minutes yet
        return step, found

    def _with_persons(self, known: Activity) -> Activity:
        seen = self._persons.last(known.sample.instance_id)
        return replace(known, last_person_at=seen) if seen is not None and seen > known.last_person_at else known

    # -- sampling ------------------------------------------------------------------------------------------------------

    def loop(self, now: Callable[[], datetime]) -> Loop:
        """Samples in the process that owns the work, and reads in the others."""

        async def work() -> None:
            await (self.sample(now()) if self._is_owner() else self.read())

        return periodic(
            "activity",
            work,
            every_seconds=self._sample_seconds,
            late_after_seconds=max(LATE_AFTER_SECONDS, 4 * self._sample_seconds),
            longest_retry_seconds=self._sample_seconds,
            owner_only=False,
        )

    async def read(self) -> None:
        """Takes over what the process that samples knows."""
        async with self._database.reading() as db:
            seen = await activity_latest.all_of(db)
        self._has_read = False
        self._before.clear()
        running = await self._running()
        self._known = {
            one: known for one, instance in running.items() if (known := self._of_record(instance, seen.get(one)))
        }
        self._persons.forget_all_but(set(running))
        self.sampled_at = max((one.sample.sampled_at for one in self._known.values()), default=None)

    def _of_record(self, instance: Instance, seen: SeenLast | None) -> Activity | None:
        sample = sample_of_text(seen.sample) if seen is not None else None
        if seen is None or sample is None:
            return None
        at = _latest(seen.last_person_at, instance.started_at, sample.signals.terminal_input_at)
        return Activity(sample, at or sample.sampled_at, seen.last_work_at, work_of((sample,), self._thresholds))

    async def sample(self, now: datetime) -> None:
        """One pass over all that run; what was noted, and minutes that are over, are written.

        Raises:
            EngineUnavailable: nothing can be said.
            StoreUnavailable: it is known to this process, and not written yet.
        """
        if not self._has_read:
            await self.read()
            self._has_read = True
        looked = await self._usage.look_closer(self._runtime)
        running = await self._running()
        kernels = await self._kernels(looked, running)
        async with self._database.reading() as db:
            persons = await activity_latest.persons(db)
        before, self._before, known = self._before, {}, {}
        for instance_id, container in looked.items():
            if (instance := running.get(instance_id)) is None:
                continue
            seen = self._known.get(instance_id)
            signals = signals_of(container, kernels.get(instance_id), seen.sample.signals if seen else None, now)
            sample = sampled(instance_id, now, container, before.get(instance_id), signals)
            self._before[instance_id] = Look(now, container)
            known[instance_id] = self._judged(instance, sample, persons.get(instance_id))
        gone = (self._known.keys() | persons.keys()) - running.keys()
        self._known, self.sampled_at = known, now
        self._persons.forget_all_but(set(running))
        await self._write(known, sorted(gone), now)

    def _judged(self, instance: Instance, sample: ActivitySample, person_at: datetime | None) -> Activity:
        """What a new sample says, with what was known before."""
        earlier = self._known.get(instance.id)
        typed = sample.signals.terminal_input_at
        at = _latest(person_at, self._persons.last(instance.id), instance.started_at, typed)
        last_person_at = at or sample.sampled_at
        work = work_of((sample,), self._thresholds)
        kernels_at = sample.signals.last_activity_at
        worked = _latest(
            earlier.last_work_at if earlier else None, sample.sampled_at if work.is_working else None, kernels_at
        )
        since = earlier.sample.sampled_at if earlier else sample.sampled_at
        # A cell that began and ended between two looks is recorded, too: a replay of the series decides as we do.
        was_working = work.is_working or (kernels_at is not None and kernels_at > since)
        # What another process has seen of a person may be known to us only looks later.
        was_used = earlier is not None and last_person_at > earlier.last_person_at
        self._minutes.add(sample, was_working=was_working, was_used=was_used)
        return Activity(sample, last_person_at, worked, work)

    async def _running(self) -> dict[str, Instance]:
        return {one.id: one for one in await self._instances.of_everyone(limit=ALL) if one.state is State.RUNNING}

    async def _kernels(
        self, looked: Mapping[str, ContainerActivity], running: Mapping[str, Instance]
    ) -> Mapping[str, Kernels]:
        """Only of those that have kernels and can answer."""
        asked = [
            (running[one], environment)
            for one, container in looked.items()
            if container.kernels and not container.is_paused and one in running
            if (environment := self._catalogue.get(running[one].environment)) is not None
        ]
        return await self._jupyter.of(asked) if asked else {}

    # -- what is written -----------------------------------------------------------------------------------------------

    async def _write(self, known: Mapping[str, Activity], gone: Sequence[str], now: datetime) -> None:
        done = self._minutes.take_until(step_of(now, Step.MINUTE))
        written = False
        try:
            async with self._database.transaction() as db:
                await activity_latest.note_samples(db, {one: _record(each) for one, each in known.items()})
                await activity_latest.forget(db, gone)
                await activity.add(db, Step.MINUTE, done)
                if done:
                    await self._roll_up(db, now)
                if self._pruned_at is None or now - self._pruned_at >= PRUNE_EVERY:
                    await activity.prune(db, now)
            written = True
        except StoreUnavailable:
            if any(now - at > ROLL_UP_AT_MOST for theirs in self._minutes.points.values() for at in theirs):
                self._minutes = Minutes()  # a disk that is full for days
            raise
        finally:
            if written:
                self._pruned_at = self._pruned_at if self._pruned_at and now - self._pruned_at < PRUNE_EVERY else now
            else:
                self._minutes.give_back(done)

    async def _roll_up(self, db: AsyncConnection, now: datetime) -> None:
        """Makes quarters of minutes, and hours of quarters, that are over since it was done last."""
        end = step_of(now, Step.QUARTER)
        noted = await kv.get(db, ROLLED_UP)
        since = datetime.fromisoformat(noted) if noted else end - timedelta(seconds=Step.QUARTER)
        since = min(max(since, end - ROLL_UP_AT_MOST), end)
        if since >= end and noted:
            return
        await activity.roll_up(db, Step.MINUTE, Step.QUARTER, since, end)
        await activity.roll_up(db, Step.QUARTER, Step.HOUR, step_of(since, Step.HOUR), step_of(now, Step.HOUR))
        await kv.put(db, ROLLED_UP, end.isoformat(), now)


def step_for(since: datetime, until: datetime) -> Step:
    """The finest step that is kept for so long and gives at most a few hundred points."""
    for step in Step:
        if (until - since).total_seconds() / step <= POINTS_WANTED and until - since <= KEPT[step]:
            return step
    return Step.HOUR


def _record(known: Activity) -> SeenLast:
    return SeenLast(known.last_person_at, known.last_work_at, known.sample.sampled_at, sample_as_text(known.sample))


def _coarser(points: Sequence[Point], step: Step) -> list[Point]:
    whole: dict[datetime, list[Point]] = {}
    for point in points:
        whole.setdefault(step_of(point.at, step), []).append(point)
    return [merged(theirs, at) for at, theirs in whole.items()]


def _latest(*instants: datetime | None) -> datetime | None:
    return max((at for at in instants if at is not None), default=None)
