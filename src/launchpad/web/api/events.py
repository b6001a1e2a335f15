"""Live events of a user's own instance (server-sent events, as the HTML standard has them)."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from starlette.types import Receive, Scope, Send

from ...services.live.followers import Follower
from ...services.live.streams import EventStreams
from ..deps import CurrentUser, Events
from .instances import OwnInstance
from .responses import PROBLEMS, ROOT

router = APIRouter(prefix=f"{ROOT}/instances", tags=["instances"], responses=PROBLEMS)


class EventStream(Response):
    """Sends what is pushed to a follower, until its end or until its reader has gone."""

    media_type = "text/event-stream"

    def __init__(self, streams: EventStreams, follower: Follower, status_code: int = 200) -> None:
        at_once = {"X-Accel-Buffering": "no"}  # for proxies: they wait for no more
        super().__init__(status_code=status_code, headers=at_once)
        del self.headers["Content-Length"]
        self._streams = streams
        self._follower = follower

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        going = asyncio.create_task(self._until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while part := await self._follower.read():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._streams.close(self._follower)
            going.cancel()

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._follower.end()


@router.get("/{instance_id}/events", response_class=EventStream)
async def events(instance: OwnInstance, visitor: CurrentUser, streams: Events) -> EventStream:
    """`state` (with the notices) and `stage` at the start and when they change, `usage` every few seconds where it
    changes; ends with the instance, and when the reader is signed out. A browser follows a limited number at once."""
    return EventStream(streams, await streams.open(visitor.user, visitor.login, instance))
