"""Events."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from ...domain.ends import notices_of
from ...domain.instances import Instance
from ...errors import NotFound
from ...platform import Platform
from ..deps import CurrentUser, Visitor
from ..schemas import InstanceView, UsageView
from ..views.known import Known
from .instances import OwnInstance
from .responses import PROBLEMS, ROOT

router = APIRouter(prefix=f"{ROOT}/instances", tags=["instances"], responses=PROBLEMS)

LOOK_AGAIN_SECONDS = 1.0
USAGE_SECONDS = 5.0


@router.get("/{instance_id}/events", response_class=EventSourceResponse)
async def events(instance: OwnInstance, visitor: CurrentUser, request: Request) -> AsyncIterator[ServerSentEvent]:
    """`state` (with the notices) and `stage` at the start and when they change, `usage` every few seconds; ends with
    the instance."""
    async for event in follow(request.app.state.platform, visitor, instance):
        yield event


async def follow(platform: Platform, visitor: Visitor, instance: Instance) -> AsyncIterator[ServerSentEvent]:
    """The events of one instance until it has ended or is forgotten, or its owner is signed out."""
    seen: InstanceView | None = None
    usage_due = 0.0
    lacks: tuple[str, ...] = ()
    while True:
        usage = None
        if usage_due <= 0 and (usage := await Known(platform).usage(instance)) is not None:
            usage_due = USAGE_SECONDS
            lacks = await Known(platform).lacking(instance, visitor.user.username)
        view = InstanceView.of(
            instance,
            platform.settings.instances,
            queue_position=await platform.instances.queue_position(instance),
            notices=notices_of(instance, lacks),
        )
        if seen is None or _told(view) != _told(seen):
            yield ServerSentEvent(event="state", data=view)
        if seen is None or (view.stage, view.queue_position) != (seen.stage, seen.queue_position):
            yield ServerSentEvent(
                event="stage",
                data={"stage": view.stage, "state": view.state, "queue_position": view.queue_position},
            )
        seen = view
        if not instance.is_live:
            return
        if (used := UsageView.of(usage)) is not None:
            yield ServerSentEvent(event="usage", data=used)
        await platform.runner.changes.wait(instance.id, LOOK_AGAIN_SECONDS)
        usage_due -= LOOK_AGAIN_SECONDS
        if not await platform.logins.still_there(visitor.user, visitor.login, platform.now()):
            return
        try:
            instance = await platform.instances.get(instance.id, visitor.user)
        except NotFound:
            return


def _told(view: InstanceView) -> tuple[object, ...]:
    """What of an instance its followers hear about at once."""
    return view.state, view.reason, view.expires_at, view.notices
