"""An owner keeps an idle instance running, for as long as the settings allow; and what was decided of instances."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from ..domain.ends import moment_of_day
from ..domain.idle_decisions import IdleDecision
from ..domain.instances import Instance, State
from ..domain.policy import Verdict, Why
from ..errors import Conflict, InvalidInput
from ..settings.idle import IdleSettings
from ..store import audit, idle_decisions, instances
from ..store.database import Database
from .activity import KnowsActivity
from .audit import Actor
from .end_recorder import names
from .freezing import BY_OWNER, FreezingService
from .idle import IdleService


class KeepService:
    def __init__(
        self,
        database: Database,
        settings: IdleSettings,
        idle: IdleService,
        activity: KnowsActivity,
        freezing: FreezingService,
    ) -> None:
        self._database = database
        self._most_hours = settings.keep_hours
        self._idle = idle
        self._activity = activity
        self._freezing = freezing

    async def keep(self, instance: Instance, hours: float, actor: Actor, now: datetime) -> Instance:
        """Keeps a running instance of idle ends for some hours from now on, at the longest until its own end.

        A frozen one is thawed to be kept. That somebody asked is a person's act, too.

        Args:
            hours: 0 takes it back.

        Raises:
            InvalidInput: more hours than allowed.
            Conflict: it does not run, its time is up, or nothing can be kept here.
        """
        if not self._most_hours:
            raise Conflict("Idle instances cannot be kept running on this server.")
        if not 0 <= hours <= self._most_hours:
            text = f"between 0 and {self._most_hours} hours"
            raise InvalidInput("An instance cannot be kept running for so long.", fields={"hours": text})
        async with self._database.transaction() as db:
            there = await instances.by_id(db, instance.id)
            if there is None or there.state is not State.RUNNING:
                raise Conflict("Only an instance that runs can be kept running.")
            until = min(now + timedelta(hours=hours), there.expires_at) if hours else None
            if until is not None and until <= now:
                raise Conflict("Its time is up, so it cannot be kept running. Extend it instead.")
            await instances.note(db, there.id, kept_until=until)
            said = moment_of_day(until) if until is not None else None
            await idle_decisions.add(
                db,
                IdleDecision(
                    instance_id=there.id,
                    owner_id=there.owner_id,
                    environment=there.environment,
                    at=now,
                    verdict=Verdict.KEEP,
                    why=Why.KEPT,
                    rule=self._idle.rule_in_words(there.id),
                    evidence=f"to be kept running until {said}" if said else "no longer to be kept running",
                ),
            )
            await audit.add(
                db,
                at=now,
                actor=actor.name,
                client=actor.client,
                action="instance.kept",
                subject=there.id,
                details={**await names(db, there), "until": until.isoformat() if until is not None else "no longer"},
                owner_id=actor.on(there.owner_id),
            )
        self._activity.note_person(there.id, now)
        if until is not None and there.is_to_be_frozen:
            await self._freezing.thaw(there.id, now, actor=actor, reason=BY_OWNER)
            async with self._database.reading() as db:
                there = await instances.by_id(db, there.id) or there
        kept = replace(there, kept_until=until)
        self._idle.took(kept)
        return kept

    async def decisions_of(
        self, instance: Instance, *, limit: int = 100, before_id: int | None = None
    ) -> list[IdleDecision]:
        """What was decided of an instance and why, also of one that has ended; the newest first."""
        async with self._database.reading() as db:
            return await idle_decisions.of_instance(
                db, instance.id, instance.owner_id, limit=limit, before_id=before_id
            )

    async def decisions(self, *, limit: int = 100, before_id: int | None = None) -> list[IdleDecision]:
        """Everyone's, the newest first."""
        async with self._database.reading() as db:
            return await idle_decisions.page(db, limit=limit, before_id=before_id)
