"""Listens to the engine, so that an instance that ends by itself is recorded at once and not at the next sweep."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from ..errors import LaunchpadError
from ..runtime.base import Runtime, RuntimeEvent
from .runner import InstanceRunner

log = structlog.get_logger(__name__)

LISTEN_AGAIN_SECONDS = 2.0
SETTLE_SECONDS = 0.2  # after "died", the engine takes a moment until it tells the exit code


class Observer:
    def __init__(self, runtime: Runtime, runner: InstanceRunner) -> None:
        self._runtime = runtime
        self._runner = runner
        self._task: asyncio.Task[None] | None = None
        self._looking: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._listen_for_ever(), name="observer")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A fault of ours is recorded, and does not leave the platform blind: it listens again."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("observer.fault", exc_info=error)
            self._task = asyncio.get_running_loop().create_task(self._listen_for_ever(LISTEN_AGAIN_SECONDS))
            self._task.add_done_callback(self._ended)

    async def aclose(self) -> None:
        for task in (self._task, *self._looking):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _listen_for_ever(self, first_pause_seconds: float = 0) -> None:
        """When the engine goes away, everything is compared once it is back: events in between were missed."""
        await asyncio.sleep(first_pause_seconds)
        interrupted = False
        while True:
            try:
                listening = asyncio.create_task(self._listen())
                try:
                    await self._runner.reconcile_all(engine_was_away=interrupted)
                    interrupted = True  # unless what follows never ends
                    await listening
                finally:
                    listening.cancel()
                    with suppress(asyncio.CancelledError, LaunchpadError):
                        await listening
            except LaunchpadError as error:
                log.warning("observer.interrupted", detail=error.detail)
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    async def _listen(self) -> None:
        async for event in self._runtime.events():
            if event.kind != "started":
                task = asyncio.create_task(self._look_after(event))
                self._looking.add(task)
                task.add_done_callback(self._looked)

    async def _look_after(self, event: RuntimeEvent) -> None:
        """What explains an end is noted before the end is looked at."""
        if event.kind == "signalled":
            self._runner.note_signal(event.instance_id)
            return
        try:
            if event.kind == "out-of-memory":
                await self._runner.note_out_of_memory(event.instance_id)
            await asyncio.sleep(SETTLE_SECONDS)
            await self._runner.reconcile_one(event.instance_id)
        except LaunchpadError as error:
            log.warning("observer.item_failed", instance=event.instance_id, detail=error.detail)

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._looking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("observer.fault", exc_info=error)
