"""Gives a running instance more memory, without a restart, until it ends.

What is wanted stands in the row, which counts for quotas and admission from then on; the container follows. Whoever
dies in between leaves a row that says what is to be done, and the process that owns the work does it (`MemoryService`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from ..domain.instances import Instance, State
from ..domain.memory import larger_sizes
from ..domain.sizes import describe_bytes
from ..domain.users import User
from ..errors import Conflict, EngineRefused, EngineUnavailable, Forbidden, InvalidInput, LaunchpadError, NotFound
from ..runtime.base import Runtime
from ..store import activity_latest, audit, instances, users
from ..store.database import Database
from .admission import AdmissionService
from .audit import SYSTEM, Actor
from .end_recorder import names
from .offers import OfferService

log = structlog.get_logger(__name__)

RAISED, NOT_RAISED = "instance.memory_raised", "instance.memory_not_raised"  # in the audit
PAGES = 1024**2  # the kernel rounds to whole pages


class MemoryRescue:
    def __init__(self, database: Database, runtime: Runtime, offers: OfferService, admission: AdmissionService) -> None:
        self._database = database
        self._runtime = runtime
        self._offers = offers
        self._admission = admission
        self._following = asyncio.Lock()
        self._in_force: dict[str, int] = {}  # what containers have been seen to have, by the instances' ids

    async def give(
        self, instance_id: str, memory_bytes: int, actor: Actor, now: datetime, *, owner: User | None = None
    ) -> Instance:
        """Raises the memory of a running instance; it is in force when this returns.

        Args:
            memory_bytes: the new size, one of those offered.
            owner: whose it is to be; None: anybody's, for administrators.

        Raises:
            NotFound: there is none of that id, or it is somebody else's.
            InvalidInput: no such size is offered, or it is not larger.
            Conflict: it does not run or is frozen, or the memory is not there now.
            QuotaExceeded: it goes over the owner's quota, or their lab's maximum.
            EngineRefused: the engine does not do it; nothing was changed.
            EngineUnavailable: the engine does not answer; it is raised as soon as it does.
        """
        there = await self._look(instance_id, owner)
        offer = await self._offers.for_known(there.environment)
        _check_size(there, offer.memory_bytes if offer else (), memory_bytes)
        server = await self._admission.server()
        async with self._database.transaction() as db:
            before = await instances.by_id(db, instance_id)
            holder = await users.by_id(db, there.owner_id)
            if before is None or holder is None:
                raise NotFound("There is no such instance.")
            _check_runs(before)
            if owner is not None and not holder.is_active:
                raise Forbidden("Your account is suspended, so nothing can be changed. Ask your administrator.")
            if memory_bytes <= before.limits.memory_bytes:  # raised by somebody else meanwhile
                raise Conflict(f"It has {describe_bytes(before.limits.memory_bytes)} already.")
            if owner is not None:
                await activity_latest.note_persons(db, {instance_id: now})
            passed_until = await self._admission.on_more_memory(db, holder, before, memory_bytes, server, now)
            await instances.note(
                db,
                instance_id,
                memory_bytes=memory_bytes,
                launched_memory_bytes=before.launch_limits.memory_bytes,
                memory_warned_at=None,
                passed_until=passed_until,
            )
            await audit.add(
                db,
                at=now,
                actor=actor.name,
                client=actor.client,
                action=RAISED,
                subject=instance_id,
                details={**await names(db, before), "memory": _change(before.limits.memory_bytes, memory_bytes)},
                owner_id=actor.on(before.owner_id),
            )
        try:
            await self._follow(instance_id)
        except EngineUnavailable as error:
            raise EngineUnavailable(
                "The container engine does not answer. The memory is reserved, and is given as soon as it does."
            ) from error
        except EngineRefused as error:
            await self._take_back(before, memory_bytes, error.detail, now)
            raise
        return await self._look(instance_id, owner)

    async def follow(self, running: Sequence[Instance], now: datetime) -> None:
        """Gives those whose memory was raised what their rows say, where their containers have something else.

        Each is asked until it has it. Where the engine refuses, the row says again what the container has.
        """
        raised = {one.id: one for one in running if one.launched_memory_bytes is not None}
        self._in_force = {
            key: size
            for key, size in self._in_force.items()
            if key in raised and raised[key].limits.memory_bytes == size
        }
        for one in raised.values():
            if one.id in self._in_force or one.state is not State.RUNNING:
                continue
            caps = None
            try:
                caps = await self._runtime.caps(one.id)
                if caps is None or caps.memory_bytes is None:
                    continue
                if abs(caps.memory_bytes - one.limits.memory_bytes) < PAGES:
                    self._in_force[one.id] = one.limits.memory_bytes
                else:
                    await self._follow(one.id)
            except EngineUnavailable:
                raise
            except LaunchpadError as error:
                log.warning("memory.not_raised", instance=one.id, detail=error.detail)
                if isinstance(error, EngineRefused) and caps is not None and caps.memory_bytes is not None:
                    await self._take_back(_as_it_is(one, caps.memory_bytes), one.limits.memory_bytes, error.detail, now)

    async def _follow(self, instance_id: str) -> None:
        async with self._following:  # of two sizes in quick succession, the engine is told the latter last
            async with self._database.reading() as db:
                there = await instances.by_id(db, instance_id)
            if there is not None and there.state is State.RUNNING:
                await self._runtime.update(instance_id, memory_bytes=there.limits.memory_bytes)

    async def _take_back(self, before: Instance, memory_bytes: int, reason: str, now: datetime) -> None:
        async with self._database.transaction() as db:
            there = await instances.by_id(db, before.id)
            if there is None or there.limits.memory_bytes != memory_bytes:
                return
            await instances.note(
                db,
                before.id,
                memory_bytes=before.limits.memory_bytes,
                launched_memory_bytes=before.launched_memory_bytes,
                memory_warned_at=before.memory_warned_at,
                passed_until=before.passed_until,
            )
            await audit.add(
                db,
                at=now,
                actor=SYSTEM.name,
                client=SYSTEM.client,
                action=NOT_RAISED,
                subject=before.id,
                details={**await names(db, before), "reason": reason},
            )

    async def _look(self, instance_id: str, owner: User | None) -> Instance:
        async with self._database.reading() as db:
            there = await (
                instances.by_id(db, instance_id) if owner is None else instances.owned(db, instance_id, owner.id)
            )
        if there is None:
            raise NotFound("There is no such instance.")
        return there


def _change(before: int, after: int) -> str:
    return f"{describe_bytes(before)} → {describe_bytes(after)}"


def _as_it_is(instance: Instance, memory_bytes: int) -> Instance:
    """As its container is held to so much."""
    launched = instance.launch_limits.memory_bytes
    if abs(memory_bytes - launched) < PAGES:
        return replace(instance, limits=instance.launch_limits, launched_memory_bytes=None)
    return replace(instance, limits=replace(instance.limits, memory_bytes=memory_bytes))


def _check_runs(instance: Instance) -> None:
    if instance.state is not State.RUNNING:
        raise Conflict("Only an instance that runs can be given more memory.")
    if instance.is_to_be_frozen:
        raise Conflict("It is frozen; thaw it first.")


def _check_size(instance: Instance, offered: Sequence[int], memory_bytes: int) -> None:
    _check_runs(instance)
    larger = larger_sizes(offered, instance.limits.memory_bytes)
    if memory_bytes in larger:
        return
    has = describe_bytes(instance.limits.memory_bytes)
    if not larger:
        raise Conflict(f"It has {has}, the largest size that is offered.")
    choices = ", ".join(describe_bytes(size) for size in larger)
    problem = f"it has {has} and can be given {choices}; less, with the next launch"
    raise InvalidInput("That size is not offered.", fields={"memory": problem})
