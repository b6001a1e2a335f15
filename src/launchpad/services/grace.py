"""Time to finish for an instance that is visibly working as its time runs out, at a low share of the processors."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

import structlog

from ..domain.instances import Instance, State
from ..errors import EngineRefused, EngineUnavailable
from ..runtime.base import NORMAL_CPU_WEIGHT, Runtime
from ..settings.ends import EndSettings
from ..store import audit, instances
from ..store.database import Database
from .audit import SWEEP
from .end_recorder import names

log = structlog.get_logger(__name__)

RESTS = timedelta(minutes=5)  # without work for so long, it has finished
BUSY_CORES = 0.1


class SeenWork(Protocol):
    """Whether an instance works, and the evidence in its user's words."""

    @property
    def is_working(self) -> bool: ...

    @property
    def evidence(self) -> str: ...


class SeenActivity(Protocol):
    """What is known of a running instance; `last_work_at`: when it was last seen working."""

    @property
    def work(self) -> SeenWork: ...

    @property
    def last_work_at(self) -> datetime | None: ...


class KnowsActivity(Protocol):
    """What is asked of the service that samples activity."""

    def latest(self, instance_id: str) -> SeenActivity | None:
        """None: it was not sampled yet, or does not run."""
        ...


class GraceService:
    """The sweep asks it at each end of a time, and lets it look after those that go on.

    Args:
        activity: what goes on in instances.
    """

    def __init__(self, database: Database, runtime: Runtime, activity: KnowsActivity, settings: EndSettings) -> None:
        self._database = database
        self._runtime = runtime
        self._activity = activity
        self._lasts = timedelta(minutes=settings.grace_minutes)
        self._weight = settings.grace_cpu_weight

    async def goes_on(self, instance: Instance, now: datetime) -> bool:
        """Whether an instance whose time has run out may go on for now; the first time, that is recorded."""
        if instance.state is not State.RUNNING or now >= instance.expires_at + self._lasts:
            return False
        seen = self._activity.latest(instance.id)
        if seen is None:
            return instance.has_grace and now < instance.ends_at
        if instance.has_grace:
            last = seen.last_work_at
            rests = not seen.work.is_working and last is not None and now - last >= RESTS
            return now < instance.ends_at and not rests
        return seen.work.is_working and await self._begin(instance, seen.work.evidence, now)

    async def _begin(self, instance: Instance, evidence: str, now: datetime) -> bool:
        """False: it was extended, or ends, since it was looked at."""
        until = instance.expires_at + self._lasts
        async with self._database.transaction() as db:
            there = await instances.by_id(db, instance.id)
            if there is None or there.state is not State.RUNNING or there.expires_at != instance.expires_at:
                return False
            await instances.note(db, instance.id, grace_until=until)
            await audit.add(
                db,
                at=now,
                actor=SWEEP.name,
                client=SWEEP.client,
                action="instance.given_time",
                subject=instance.id,
                details={**await names(db, instance), "until": until.isoformat(), "because": evidence},
            )
        await self._weigh(instance.id, self._weight)
        return True

    async def look_after(self, running: list[Instance]) -> None:
        """Holds those that go on to their low share, and gives those that were extended their whole share back."""
        for instance in running:
            if instance.grace_until is None:
                continue
            if instance.has_grace:
                await self._weigh(instance.id, self._weight)
            elif await self._weigh(instance.id, NORMAL_CPU_WEIGHT):
                async with self._database.transaction() as db:
                    await instances.note(db, instance.id, grace_until=None)

    async def _weigh(self, instance_id: str, weight: int) -> bool:
        try:
            await self._runtime.update(instance_id, cpu_weight=weight)
        except (EngineRefused, EngineUnavailable) as error:  # the next sweep tries again
            log.warning("grace.not_weighed", instance=instance_id, detail=error.detail)
            return False
        return True
