"""Records what the kernel ends in instances for lack of memory: how often, when, which program, and what it held.

The engine tells at once that something was ended; what it was says the kernel's log a moment later. Both are notes of
the same kill where they are close together, so either may come first, or alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from time import monotonic

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.instances import Instance, State
from ..domain.memory import LONGEST_NAME, MemoryDeath, victim_in_words
from ..runtime.base import Runtime
from ..store import audit, instances
from ..store.database import Database
from .audit import SYSTEM
from .end_recorder import names

log = structlog.get_logger(__name__)

ONE_KILL = timedelta(seconds=2)  # within it, the kernel's events tell of the same one
CONCERNED = (State.STARTING, State.RUNNING)
REMEMBERED = 1000
ACTION = "instance.out_of_memory"  # in the audit


@dataclass(frozen=True)
class _Kill:
    """One kill as it is told: `death` None: that it happened, and nothing else."""

    at: datetime
    death: MemoryDeath | None


class OutOfMemory:
    """`since` is when this process began to listen: what the log says of earlier times may have been told already."""

    def __init__(self, database: Database, runtime: Runtime, now: Callable[[], datetime]) -> None:
        self._database = database
        self._runtime = runtime
        self._now = now
        self._since = now()
        self._looking = asyncio.Lock()
        self._looks = 0  # that have begun, and did not fail
        self._looked_at = -inf  # of the monotonic clock
        self._of_server: dict[tuple[str, datetime], None] = {}  # that were logged, the oldest first
        self._nameless: dict[tuple[str, datetime], None] = {}  # that were noted, likewise

    async def note(self, instance_id: str) -> bool:
        """The engine has told that something in it was ended; true where a live one of that id was noted."""
        now = self._now()
        async with self._database.transaction() as db:
            return await self._record(db, instance_id, [_Kill(now, None)])

    async def look(self, apart_seconds: float = 0.0) -> None:
        """Asks what was ended in the last minutes, and notes what is news; sees to the order of ends as well.

        A look is at everybody's instances, and one program can be ended again and again: there is one at a time, and
        who asks while another has yet to begin has that one.

        Args:
            apart_seconds: it begins so long after the one before at the earliest.

        Raises:
            EngineUnavailable: nothing can be said.
        """
        wanted = self._looks + 1
        async with self._looking:
            if self._looks >= wanted:
                return
            await asyncio.sleep(max(0.0, self._looked_at + apart_seconds - monotonic()))
            self._looks, self._looked_at = self._looks + 1, monotonic()
            done = False
            try:
                await self._look()
                done = True
            finally:
                if not done:
                    self._looks -= 1  # whoever waits for it has to look themselves

    async def _look(self) -> None:
        found = {key: self._own(key, deaths) for key, deaths in (await self._runtime.tend_memory()).items()}
        if not any(found.values()):
            return
        async with self._database.reading() as db:
            known = {one.id: one for one in await instances.by_ids(db, tuple(found))}
        news = {key: [one for one in found[key] if self._is_news(there, one)] for key, there in known.items()}
        if not any(news.values()):
            return
        async with self._database.transaction() as db:
            for instance_id, deaths in news.items():
                await self._record(db, instance_id, [_Kill(one.at, one) for one in deaths])
        # They leave nothing in the row that tells them from those that only the engine has told of.
        _remember(self._nameless, ((key, one.at) for key, deaths in news.items() for one in deaths if not one.program))

    def _own(self, instance_id: str, deaths: Sequence[MemoryDeath]) -> list[MemoryDeath]:
        """Without those that no instance is to blame for: the server itself had no more memory."""
        for death in deaths:
            if death.of_server and (instance_id, death.at) not in self._of_server:
                _remember(self._of_server, [(instance_id, death.at)])
                log.warning("memory.server_was_short", instance=instance_id, program=death.program)
        return [one for one in deaths if not one.of_server]

    def _is_news(self, there: Instance, death: MemoryDeath) -> bool:
        if there.state not in CONCERNED:
            return False
        if there.oom_at is None:
            return there.started_at is None or death.at >= there.created_at
        if abs(death.at - there.oom_at) <= ONE_KILL:
            return there.oom_program is None and (there.id, death.at) not in self._nameless
        return death.at > there.oom_at and death.at >= self._since

    async def _record(self, db: AsyncConnection, instance_id: str, kills: Sequence[_Kill]) -> bool:
        there = await instances.by_id(db, instance_id)
        if there is None or there.state not in CONCERNED:
            return False
        count, at, program, held = there.oom_count, there.oom_at, there.oom_program, there.oom_bytes
        size = there.oom_limit_bytes
        for kill in kills:
            is_same = at is not None and abs(kill.at - at) <= ONE_KILL
            if at is not None and not is_same and kill.at < at:
                continue
            if not is_same:
                count, program, held, size = count + 1, None, None, there.limits.memory_bytes
            at = kill.at if at is None else max(at, kill.at)
            if kill.death is not None and program is None:
                program, held = kill.death.program[:LONGEST_NAME] or None, kill.death.memory_bytes
                await self._audit(db, there, kill.death)
        await instances.note(
            db,
            instance_id,
            oom_count=count,
            oom_at=at,
            oom_program=program,
            oom_bytes=held,
            oom_limit_bytes=size,
        )
        return True

    async def _audit(self, db: AsyncConnection, there: Instance, death: MemoryDeath) -> None:
        program = victim_in_words(death.program, death.memory_bytes, there.limits.memory_bytes)
        await audit.add(
            db,
            at=self._now(),
            actor=SYSTEM.name,
            client=SYSTEM.client,
            action=ACTION,
            subject=there.id,
            details={**await names(db, there), **({"program": program} if program else {})},
        )


def _remember(table: dict[tuple[str, datetime], None], deaths: Iterable[tuple[str, datetime]]) -> None:
    table.update(dict.fromkeys(deaths))
    while len(table) > REMEMBERED:
        del table[next(iter(table))]
