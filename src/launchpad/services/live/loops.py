"""The background work that keeps the read models current, in every process that serves pages."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from ...store.changes import ChangeFeed
from ..background import Beat, Loop, continuous, periodic
from . import engine, streams, usage
from .models import Live
from .streams import EventStreams

NOTED_EVERY_SECONDS = 0.5
LATE_AFTER_SECONDS = 10.0
LONGEST_RETRY_SECONDS = 2.0  # until then answers come from the store, which is slower
IMAGES_EVERY_SECONDS = 10.0


def loops_of(feed: ChangeFeed, live: Live, events: EventStreams) -> tuple[Loop, ...]:
    """None of them changes anything, so they run whoever owns the work."""

    async def watch(beat: Beat) -> None:
        watching = asyncio.create_task(feed.watch())
        try:
            while not watching.done():
                await asyncio.wait((watching,), timeout=NOTED_EVERY_SECONDS)
                if feed.is_current:
                    beat()
            await watching
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait((watching,))

    return (
        continuous(
            "changes",
            watch,
            late_after_seconds=LATE_AFTER_SECONDS,
            longest_retry_seconds=LONGEST_RETRY_SECONDS,
            owner_only=False,
        ),
        continuous(
            "event-streams",
            events.run,
            late_after_seconds=streams.LATE_AFTER_SECONDS,
            longest_retry_seconds=LONGEST_RETRY_SECONDS,
            owner_only=False,
        ),
        periodic(
            "usage",
            live.usage.renew,
            every_seconds=usage.SAMPLE_SECONDS,
            late_after_seconds=6 * usage.SAMPLE_SECONDS,
            longest_retry_seconds=usage.SAMPLE_SECONDS,
            owner_only=False,
        ),
        periodic(
            "engine",
            live.host.renew,
            every_seconds=engine.ASK_SECONDS,
            late_after_seconds=60.0,
            longest_retry_seconds=engine.ASK_SECONDS,
            owner_only=False,
        ),
        periodic(
            "images",
            live.images.renew,
            every_seconds=IMAGES_EVERY_SECONDS,
            late_after_seconds=120.0,
            longest_retry_seconds=IMAGES_EVERY_SECONDS,
            owner_only=False,
        ),
    )
