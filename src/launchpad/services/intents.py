"""Takes up what other processes have recorded, as soon as the feed of changes tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..store.changes import EVERYTHING, Change
from ..store.database import Database
from .background import Beat, Loop, continuous
from .runner import InstanceRunner

ASK_SECONDS = 10.0
LATE_AFTER_SECONDS = 60.0


class IntentWatcher:
    """For the process that owns the work; in any other one it has nothing to do."""

    def __init__(self, database: Database, runner: InstanceRunner) -> None:
        self._database = database
        self._runner = runner

    def loop(self) -> Loop:
        return continuous("intents", self.watch, late_after_seconds=LATE_AFTER_SECONDS)

    async def watch(self, beat: Beat) -> None:
        """Until it is cancelled.

        Raises:
            ExceptionGroup: of what went wrong; the next pass begins with everything.
        """
        changed: asyncio.Queue[str | None] = asyncio.Queue()

        def note(changes: Sequence[Change]) -> None:
            for change in changes:
                if change == EVERYTHING:
                    changed.put_nowait(None)
                elif change.table == "instances":
                    changed.put_nowait(change.key)

        ends = self._database.changes.subscribe(note)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._database.changes.watch())
                changed.put_nowait(None)
                await self._take_up(changed, beat)
        finally:
            ends()

    async def _take_up(self, changed: asyncio.Queue[str | None], beat: Beat) -> None:
        while True:
            try:
                async with asyncio.timeout(ASK_SECONDS):  # wait_for() of Python 3.11 can lose the cancellation
                    instance_id = await changed.get()
            except TimeoutError:
                beat()
                continue
            if instance_id is None:
                await self._runner.reconcile_all()
            else:
                await self._runner.take_up(instance_id)
            beat()
