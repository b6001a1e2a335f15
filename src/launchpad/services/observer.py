"""Listens to the engine, so that an instance that ends by itself is recorded at once and not at the next sweep."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from ..errors import LaunchpadError
from ..runtime.base import Runtime
from .carrier import Carrier

log = structlog.get_logger(__name__)

LISTEN_AGAIN_SECONDS = 2.0
SETTLE_SECONDS = 0.2  # after "died", the engine takes a moment until it tells the exit code


class Observer:
    def __init__(self, runtime: Runtime, carrier: Carrier) -> None:
        self._runtime = runtime
        self._carrier = carrier
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._listen_for_ever(), name="observer")

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _listen_for_ever(self) -> None:
        """When the engine goes away, everything is compared once it is back: events in between were missed."""
        while True:
            try:
                listening = asyncio.create_task(self._listen())
                try:
                    await self._carrier.reconcile_all()
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
            if event.kind == "started":
                continue
            await asyncio.sleep(SETTLE_SECONDS)
            try:
                await self._carrier.reconcile_one(event.instance_id)
            except LaunchpadError as error:
                log.warning("observer.item_failed", instance=event.instance_id, detail=error.detail)
