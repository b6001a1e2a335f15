"""The tasks of this process, at most one an instance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, TypeVar

import structlog

from ..errors import LaunchpadError

log = structlog.get_logger(__name__)

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, None]]


class Kind(StrEnum):
    START = "start"
    END = "end"


class TaskTable:
    """At most one task an instance: an end takes the place of a start, once that has let go of what it held.

    Args:
        after_fault: what is done for an instance whose task ended in a fault of the program, by its id.
    """

    def __init__(self, after_fault: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        self._after_fault = after_fault
        self._tasks: dict[str, tuple[Kind, asyncio.Task[None]]] = {}
        self._beside: set[asyncio.Task[Any]] = set()

    def __contains__(self, instance_id: object) -> bool:
        return instance_id in self._tasks

    def kind_of(self, instance_id: str) -> Kind | None:
        """What is being done for an instance now."""
        found = self._tasks.get(instance_id)
        return found[0] if found else None

    def run(self, instance_id: str, kind: Kind, work: Work) -> None:
        """Does it in the background, unless the same is under way; a start never takes the place of an end."""
        before: asyncio.Task[None] | None = None
        if instance_id in self._tasks:
            under_way, before = self._tasks[instance_id]
            if under_way is kind or kind is Kind.START:
                return
            before.cancel()

        async def run() -> None:
            if before is not None:
                await asyncio.wait({before})
            await work()

        task = asyncio.create_task(run(), name=f"{kind} {instance_id}")
        self._tasks[instance_id] = (kind, task)
        task.add_done_callback(lambda done: self._forget(instance_id, done))

    def _forget(self, instance_id: str, done: asyncio.Task[None]) -> None:
        last = instance_id in self._tasks and self._tasks[instance_id][1] is done
        if last:
            del self._tasks[instance_id]
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("runner.fault", instance=instance_id, exc_info=error)
            if last:
                self.run(instance_id, Kind.END, lambda: self._after_fault(instance_id))

    def beside(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Does something that no instance waits for, until it is done or this table is closed."""
        task = asyncio.create_task(work, name=name)
        self._beside.add(task)
        task.add_done_callback(self._beside_done)
        return task

    def _beside_done(self, done: asyncio.Task[Any]) -> None:
        self._beside.discard(done)
        if not done.cancelled() and (error := done.exception()) is not None and not isinstance(error, LaunchpadError):
            log.error("runner.fault", task=done.get_name(), exc_info=error)

    async def wait(self, *instance_ids: str) -> None:
        """Waits until everything that is under way is done, or everything of these instances."""
        while there := [task for one, (_, task) in self._tasks.items() if one in instance_ids] or (
            [] if instance_ids else self._all()
        ):
            await asyncio.gather(*there, return_exceptions=True)

    async def cancel(self) -> None:
        """Drops what is under way, and what that leaves behind."""
        while there := self._all():
            for task in there:
                task.cancel()
            await asyncio.gather(*there, return_exceptions=True)

    def _all(self) -> list[asyncio.Task[Any]]:
        return [*(task for _, task in self._tasks.values()), *self._beside]
