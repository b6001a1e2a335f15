"""The loop that holds the lease, or waits for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from ..store.lease import OwnerLease
from .background import Beat, Loop, continuous
from .runner import InstanceRunner

LATE_AFTER_SECONDS = 30.0
BEAT_SECONDS = 5.0


def ownership(lease: OwnerLease, runner: InstanceRunner) -> Loop:
    """Of every process: a standby has the lease as soon as it is free, and whoever loses it drops what is under way."""

    async def hold(beat: Beat) -> None:
        while True:
            while not await lease.try_acquire():
                beat()
                await asyncio.sleep(lease.ask_again_seconds)
            while lease.is_held:
                beat()
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_SECONDS):
                        await lease.lost()
            await runner.drop()

    return continuous("lease", hold, late_after_seconds=LATE_AFTER_SECONDS, owner_only=False)
