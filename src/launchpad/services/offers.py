"""What is offered and what the server can promise: settings, the console's changes, and the host's own size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.audit_words import changes_in_words
from ..domain.instances import State
from ..domain.limits import Capacity, Limits, Offer, OfferedLimits, Use
from ..domain.sizes import describe_bytes
from ..domain.sizes_codec import offered_of, offered_table
from ..errors import EngineUnavailable, InvalidInput
from ..runtime.base import HostFacts
from ..settings import EnvironmentSettings, Settings
from ..store import audit, kv
from ..store.changes import Change
from ..store.database import Database
from .audit import Actor
from .live.engine import LiveHost
from .live.instances import LiveInstances
from .live.remembered import Answer, Remembered

GB = 1024**3
_KEY = "limits"


@dataclass(frozen=True)
class CapacityUse:
    """The server's capacity, what is reserved of it, and how many instances wait."""

    capacity: Capacity
    reserved: Use
    queued: int
    host: HostFacts


@dataclass(frozen=True)
class _Latest:
    """The limits that follow from what the console says and the server's capacity, and each environment's offer."""

    made_of: tuple[dict[str, Any] | None, Capacity | None]
    limits: OfferedLimits
    narrowed: dict[str, Offer] = field(default_factory=dict)


class OfferService:
    """Answers what may be asked for, from what is known in the process."""

    def __init__(self, database: Database, settings: Settings, host: LiveHost, live: LiveInstances) -> None:
        self._database = database
        self._settings = settings
        self._host = host
        self._live = live
        self._latest: _Latest | None = None
        self._changed: Remembered[str, tuple[dict[str, Any] | None]] = Remembered(database.changes, 1)

    async def host(self, *, patience_seconds: float = 0) -> HostFacts:
        """Raises EngineUnavailable when the engine has not answered once yet, nor does within what is said."""
        return await self._host.facts(patience_seconds=patience_seconds)

    async def capacity(self, *, patience_seconds: float = 0) -> Capacity:
        """Raises EngineUnavailable, as `host`."""
        return capacity_of(self._settings, await self.host(patience_seconds=patience_seconds))

    async def starts_at_once(self) -> int:
        """How many instances may start at the same time. Raises EngineUnavailable, as `host`."""
        wanted = self._settings.capacity.starts_at_once
        return wanted if wanted != "auto" else max((await self.host()).cpus, 1)

    async def limits(self) -> OfferedLimits:
        """What the console says, else what the settings say."""

        async def read() -> Answer[tuple[dict[str, Any] | None]]:
            async with self._database.reading() as db:
                return Answer((await kv.get(db, _KEY),), (Change("kv", _KEY),))

        changed = await self._changed.get(_KEY, read)
        made_of = (changed[0] if changed is not None else None, await self._capacity_or_none())
        if self._latest is None or self._latest.made_of != made_of:
            self._latest = _Latest(made_of, self._limits(*made_of))
        return self._latest.limits

    async def limits_in(self, db: AsyncConnection, capacity: Capacity | None) -> OfferedLimits:
        """As `limits`, inside a transaction (which must not wait for the engine, so the capacity comes along)."""
        return self._limits(await kv.get(db, _KEY), capacity)

    def _limits(self, changed: dict[str, Any] | None, capacity: Capacity | None) -> OfferedLimits:
        return offered_of(changed) if changed else offered_by_settings(self._settings, capacity)

    async def for_environment(self, environment: str) -> Offer:
        """The choices for one environment: its own where its settings name them, else everybody's."""
        limits = await self.limits()
        latest = self._latest
        offer = latest.narrowed.get(environment) if latest is not None and latest.limits is limits else None
        if offer is None:
            own = next(entry for entry in self._settings.environments if entry.name == environment)
            offer = narrowed(limits.offer, own)
            if latest is not None and latest.limits is limits:
                latest.narrowed[environment] = offer
        return offer

    async def for_known(self, environment: str) -> Offer | None:
        """As `for_environment`; None of one that the catalogue no longer has."""
        if all(entry.name != environment for entry in self._settings.environments):
            return None
        return await self.for_environment(environment)

    async def set_limits(self, limits: OfferedLimits, actor: Actor, now: datetime) -> None:
        """Replaces the choices and defaults for everybody.

        Raises:
            InvalidInput: with the offending fields.
        """
        problems = limits.offer.problems()
        capacity = await self._capacity_or_none()
        if capacity and limits.offer.memory_bytes and max(limits.offer.memory_bytes) > capacity.memory_bytes:
            problems.setdefault("memory", f"this server can provide at most {describe_bytes(capacity.memory_bytes)}")
        if limits.instances_per_user < 0:
            problems["instances_per_user"] = "must be 0 or more"
        if problems:
            raise InvalidInput("These choices cannot be offered.", fields=problems)
        async with self._database.transaction() as db:
            before = await self.limits_in(db, capacity)
            await kv.put(db, _KEY, offered_table(limits), now)
            await audit.add(
                db,
                at=now,
                actor=actor.name,
                client=actor.client,
                action="limits.changed",
                subject="limits",
                details=changes_in_words(offered_table(before), offered_table(limits)),
            )

    async def use(self) -> CapacityUse:
        """Raises EngineUnavailable."""
        host = await self.host()
        queued = (await self._live.count_live())[State.QUEUED]
        return CapacityUse(capacity_of(self._settings, host), await self._live.reserved(), queued, host)

    async def _capacity_or_none(self) -> Capacity | None:
        try:
            return await self.capacity()
        except EngineUnavailable:
            return None


def capacity_of(settings: Settings, host: HostFacts) -> Capacity:
    """What may be reserved on such a host. Memory is never reserved twice; cores may be (`cpu_overcommit`)."""
    wanted = settings.capacity
    reserve = wanted.reserve if wanted.reserve != "auto" else min(max(host.memory_bytes // 10, GB), 16 * GB)
    memory = wanted.memory if wanted.memory != "auto" else max(host.memory_bytes - reserve, 0)
    cpus = wanted.cpus if wanted.cpus != "auto" else host.cpus * wanted.cpu_overcommit
    most = wanted.max_instances if wanted.max_instances != "auto" else 10_000
    return Capacity(memory_bytes=memory, cpus=float(cpus), instances=most)


def offered_by_settings(settings: Settings, capacity: Capacity | None) -> OfferedLimits:
    """The choices of the settings, with `auto` filled in for a server of that capacity (or a small one if unknown)."""
    wanted = settings.limits
    memory_bytes = capacity.memory_bytes if capacity else 4 * GB
    cores = capacity.cpus / settings.capacity.cpu_overcommit if capacity else 1.0
    memory = wanted.memory if wanted.memory != "auto" else _ladder(GB, memory_bytes, 128 * GB)
    cpus = wanted.cpus if wanted.cpus != "auto" else tuple(float(step) for step in _ladder(1, int(cores), 16))
    default_memory: float = (
        wanted.default_memory
        if wanted.default_memory != "auto"
        else _largest_within(memory, min(memory_bytes // 8, 8 * GB))
    )
    default_cpus = (
        wanted.default_cpus if wanted.default_cpus != "auto" else _largest_within(cpus, min(max(cores / 16, 1), 2))
    )
    offer = Offer(
        memory_bytes=tuple(memory),
        cpus=tuple(cpus),
        storage_bytes=wanted.storage,
        days=wanted.days,
        defaults=Limits(int(default_memory), float(default_cpus), wanted.default_storage, wanted.default_days),
    )
    return OfferedLimits(_with_possible_defaults(offer), wanted.instances_per_user)


def narrowed(offer: Offer, own: EnvironmentSettings) -> Offer:
    """`offer` with an environment's own choices put in place of everybody's."""
    given = own.offer
    merged = Offer(
        memory_bytes=given.memory or offer.memory_bytes,
        cpus=given.cpus or offer.cpus,
        storage_bytes=given.storage or offer.storage_bytes,
        days=given.days or offer.days,
        defaults=Limits(
            memory_bytes=given.default_memory or offer.defaults.memory_bytes,
            cpus=given.default_cpus or offer.defaults.cpus,
            storage_bytes=given.default_storage or offer.defaults.storage_bytes,
            days=given.default_days or offer.defaults.days,
        ),
    )
    return _with_possible_defaults(merged)


def _ladder(step: int, most: int, ceiling: int) -> tuple[int, ...]:
    """Doublings of `step` up to `most` and `ceiling`; at least one."""
    rungs: list[int] = []
    while step <= min(most, ceiling) or not rungs:
        rungs.append(step)
        step *= 2
    return tuple(rungs)


def _largest_within(choices: Sequence[float], most: float) -> float:
    return max((choice for choice in choices if choice <= most), default=min(choices))


def _with_possible_defaults(offer: Offer) -> Offer:
    """A default that is not (or no longer) among the choices becomes the nearest smaller choice."""
    wrong = offer.problems()
    defaults = offer.defaults
    if "memory" in wrong:
        defaults = replace(defaults, memory_bytes=int(_largest_within(offer.memory_bytes, defaults.memory_bytes)))
    if "cpus" in wrong:
        defaults = replace(defaults, cpus=_largest_within(offer.cpus, defaults.cpus))
    if "storage" in wrong:
        defaults = replace(defaults, storage_bytes=int(_largest_within(offer.storage_bytes, defaults.storage_bytes)))
    if "days" in wrong:
        defaults = replace(defaults, days=int(_largest_within(offer.days, defaults.days)))
    return replace(offer, defaults=defaults)
