"""Live events of a user's own instance (server-sent events, as the HTML standard has them)."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from fastapi.sse import EventSourceResponse
from starlette.types import Receive, Scope, Send

from ..deps import CurrentUser, Events
from ..event_streams import EventStreams
from ..followers import Follower
from .instances import OwnInstance

router = APIRouter(prefix="/instances", tags=["instances"])


class EventStream(Response):
    """Sends what is pushed to a follower, until its end or until its reader has gone."""

    media_type = EventSourceResponse.media_type

    def __init__(self, streams: EventStreams, follower: Follower) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})  # proxies pass every event on at once
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


@router.get(
    "/{instance_id}/events",
    response_class=EventSourceResponse,
    responses={200: {"content": {EventSourceResponse.media_type: {"schema": {"type": "string"}}}}},
)
async def events(instance: OwnInstance, visitor: CurrentUser, streams: Events) -> EventStream:
    """`state` (with the notices) and `stage` at the start and when they change, `usage` every few seconds where it
    changes; ends with the instance, and when the reader is signed out. A browser follows a limited number at once."""
    return EventStream(streams, await streams.open(visitor.user, visitor.login, instance))
