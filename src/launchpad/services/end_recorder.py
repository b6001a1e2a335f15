"""The only one that ends rows: an end, its record in the history and its audit entry are one transaction."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.ends import reason_for_others, with_first_cause
from ..domain.fair_share import lab_key, use_of, user_key
from ..domain.history import HistoryRecord, UsedInAll
from ..domain.instances import Instance, Stage, State
from ..domain.users import User
from ..store import audit, instance_history, instances, recent_use, users
from .audit import SWEEP, SYSTEM, Actor


class UsageSource(Protocol):
    """What instances have used, as far as it was sampled in this process."""

    def used_in_all(self, instance_id: str) -> UsedInAll | None:
        """From its start until it was sampled last; None: it was not sampled."""
        ...


class EndRecorder:
    """Works inside the transactions of its callers, and waits for nothing but the database."""

    def __init__(self, usage: UsageSource, half_life: timedelta) -> None:
        """`half_life`: after so long, what somebody had counts half in the order of the queue."""
        self._usage = usage
        self._half_life = half_life

    async def ask(
        self,
        db: AsyncConnection,
        instance: Instance,
        as_state: State,
        reason: str,
        now: datetime,
        *,
        actor: Actor,
    ) -> bool:
        """Decides the end of a live instance; one that runs has to be stopped by whoever carries it out then.

        Returns:
            False: it was ending already, or had ended.
        """
        ended_by = None if actor in (SYSTEM, SWEEP) else actor.name
        if instance.state is State.QUEUED:
            if not await self.finish(db, instance, as_state, reason, now, ended_by=ended_by):
                return False
        elif instance.state in (State.STARTING, State.RUNNING):
            if not await instances.move(
                db,
                instance.id,
                instance.state,
                State.STOPPING,
                ending_as=as_state,
                reason=with_first_cause(reason, instance),
                ended_by=ended_by,
                stage=Stage.SAVING,
            ):
                return False
        else:
            return False
        await self._add(db, instance, f"instance.{as_state}", reason_for_others(reason, actor.name), now, actor)
        return True

    async def finish(
        self, db: AsyncConnection, instance: Instance, as_state: State, reason: str, at: datetime, **values: Any
    ) -> bool:
        """Ends a row for good, into the history; False when another process was quicker.

        Args:
            values: more columns of the end, such as its `cause`.
        """
        if not await instances.end(db, instance.id, instance.state, as_state, reason=reason, ended_at=at, **values):
            return False
        ended = await instances.by_id(db, instance.id)
        owner = await users.by_id(db, instance.owner_id)
        if ended is None or owner is None:  # neither can be: the row was changed in this transaction, and names a user
            raise ValueError(f"the row of instance {instance.id} vanished within its transaction")
        used = self._usage.used_in_all(instance.id)
        await instance_history.add(db, HistoryRecord(ended, owner.email, owner.lab, used))
        await self._count(db, ended, owner, at)
        return True

    async def _count(self, db: AsyncConnection, ended: Instance, owner: User, at: datetime) -> None:
        """What it had reserved counts for a while, for its owner and their lab."""
        if ended.admitted_at is None:
            return  # it never started
        limits = ended.limits
        use = use_of(limits.memory_bytes, limits.cpus, ended.admitted_at, at, at, self._half_life)
        for holder in {lab_key(owner.lab, owner.id), user_key(owner.id)}:
            await recent_use.add(db, holder, use, at, self._half_life)

    async def by_itself(
        self, db: AsyncConnection, instance: Instance, state: State, reason: str, now: datetime
    ) -> None:
        """In the audit: an instance ended, and nobody here asked for it."""
        action = "instance.failed" if state is State.FAILED else "instance.ended"
        await self._add(db, instance, action, reason_for_others(reason, None), now, SYSTEM)

    async def _add(
        self,
        db: AsyncConnection,
        instance: Instance,
        action: str,
        reason: str | None,
        now: datetime,
        actor: Actor,
    ) -> None:
        await audit.add(
            db,
            at=now,
            actor=actor.name,
            client=actor.client,
            action=action,
            subject=instance.id,
            details={**await names(db, instance), "reason": reason},
            owner_id=actor.on(instance.owner_id),
        )


async def names(db: AsyncConnection, instance: Instance) -> dict[str, str]:
    """What an instance is called in the audit, where its id alone says nothing."""
    owner = await users.by_id(db, instance.owner_id)
    return {"environment": instance.environment, "owner": owner.email if owner else ""}
