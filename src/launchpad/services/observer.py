"""Listens to the engine, so that an instance that ends by itself is recorded at once and not at the next sweep."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import EngineUnavailable
from ..runtime.base import Runtime, RuntimeEvent
from .background import Beat, Loop, continuous
from .runner import InstanceRunner

SETTLE_SECONDS = 0.2  # after "died", the engine takes a moment until it tells the exit code
ASK_SECONDS = 10.0  # how often a quiet engine is asked whether it is still there
LATE_AFTER_SECONDS = 60.0
LONGEST_RETRY_SECONDS = 4.0


class Observer:
    """`listen` is one pass: whatever goes wrong ends it, and the next one begins by comparing everything."""

    def __init__(self, runtime: Runtime, runner: InstanceRunner) -> None:
        self._runtime = runtime
        self._runner = runner
        self._was_away = False

    def loop(self) -> Loop:
        return continuous(
            "engine-events",
            self.listen,
            late_after_seconds=LATE_AFTER_SECONDS,
            longest_retry_seconds=LONGEST_RETRY_SECONDS,
        )

    async def listen(self, beat: Beat) -> None:
        """Brings rows and engine together, and follows what happens from before that on, until it is cancelled.

        Raises:
            ExceptionGroup: of EngineUnavailable: the engine went away, or no longer answers; of other errors: what an
                event is about could not be looked at.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(tasks))
            with self._noting_that_it_went_away():
                await self._runner.reconcile_all(engine_was_away=self._was_away)
                self._was_away = False
                beat()
                while True:
                    await asyncio.sleep(ASK_SECONDS)
                    await self._runtime.host()
                    beat()

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        with self._noting_that_it_went_away():
            async for event in self._runtime.events():
                if event.kind != "started":
                    tasks.create_task(self._look_after(event))
            raise EngineUnavailable("The container engine has ended its stream of events.")

    async def _look_after(self, event: RuntimeEvent) -> None:
        """What explains an end is noted before the end is looked at."""
        if event.kind == "signalled":
            self._runner.note_signal(event.instance_id)
            return
        if event.kind == "out-of-memory":
            await self._runner.note_out_of_memory(event.instance_id)
        await asyncio.sleep(SETTLE_SECONDS)
        if event.kind == "out-of-memory":
            await self._runner.explain_out_of_memory()
        await self._runner.reconcile_one(event.instance_id)

    @contextmanager
    def _noting_that_it_went_away(self) -> Iterator[None]:
        """It explains ends of which nothing was heard."""
        try:
            yield
        except EngineUnavailable:
            self._was_away = True
            raise
