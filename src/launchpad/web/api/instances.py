"""A user's own instances."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from ...domain.instances import Instance, State, shortage
from ...domain.sizes import parse_bytes
from ...errors import EngineUnavailable, Forbidden, HomeUnavailable, NotFound
from ...runtime.base import Usage
from ...services.instances import Wish
from ...services.platform import Platform
from ...storage.base import HomeUse
from ..deps import CurrentUser, Here, Visitor
from ..schemas import ExtendBody, InstanceView, LaunchBody, UsageView
from .paging import Cursor, Limit, place_of, tell_next

router = APIRouter(prefix="/instances", tags=["instances"])

LOOK_AGAIN_SECONDS = 1.0
USAGE_SECONDS = 5.0


async def own_instance(instance_id: str, visitor: CurrentUser, platform: Here) -> Instance:
    """The visitor's own instance; a dependency, so that it is looked for before a stream of events begins."""
    return await platform.instances.get(instance_id, visitor.user)


OwnInstance = Annotated[Instance, Depends(own_instance)]


async def usage_of(platform: Platform, instance: Instance) -> Usage | None:
    """What it uses now; None when it does not run or the engine does not answer."""
    if instance.state is not State.RUNNING:
        return None
    try:
        return await platform.runtime.usage(instance.id)
    except EngineUnavailable:
        return None


async def with_shortage(platform: Platform, instance: Instance, usage: Usage | None, username: str) -> Instance:
    """The same; while it runs and lacks something, its reason says what."""
    environment = platform.catalogue.get(instance.environment)
    if usage is None or environment is None:
        return instance
    try:
        home = await platform.homes.use(username)
    except HomeUnavailable:
        home = HomeUse(None, None)
    lacks = shortage(usage.pids, environment.pids_limit, home.used_bytes, home.limit_bytes, home.free_bytes)
    return replace(instance, reason=lacks) if lacks else instance


async def view_of(platform: Platform, instance: Instance, usage: Usage | None = None) -> InstanceView:
    return InstanceView.of(
        instance,
        platform.settings.instances,
        usage=usage,
        queue_position=await platform.instances.queue_position(instance),
    )


@router.get("")
async def list_instances(
    visitor: CurrentUser,
    platform: Here,
    response: Response,
    all: bool = False,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> list[InstanceView]:
    """Own instances, newest first; with `all=true` the ended ones too. `X-Next-Cursor` continues a long list."""
    found = await platform.instances.of_owner(visitor.user, with_ended=all, limit=limit, before=place_of(cursor))
    tell_next(response, found, limit, lambda instance: instance.place)
    return [await view_of(platform, instance) for instance in found]


@router.post("", status_code=202)
async def launch(body: LaunchBody, visitor: CurrentUser, platform: Here) -> InstanceView:
    """Launches an instance and returns at once; follow it at `…/events`."""
    wish = Wish(
        environment=body.environment,
        memory_bytes=parse_bytes(body.memory) if body.memory is not None else None,
        cpus=body.cpus,
        storage_bytes=parse_bytes(body.storage) if body.storage is not None else None,
        days=body.days,
    )
    instance = await platform.instances.launch(visitor.user, wish, visitor.actor, visitor.now)
    return await view_of(platform, instance)


@router.get("/{instance_id}")
async def get_instance(instance: OwnInstance, visitor: CurrentUser, platform: Here) -> InstanceView:
    """An own instance. `reason`: why it ended; while it runs, what there is to know, such as a full Home."""
    usage = await usage_of(platform, instance)
    return await view_of(platform, await with_shortage(platform, instance, usage, visitor.user.username), usage)


@router.get("/{instance_id}/events", response_class=EventSourceResponse)
async def events(instance: OwnInstance, visitor: CurrentUser, platform: Here) -> AsyncIterator[ServerSentEvent]:
    """`state` and `stage` at the start and when they change, `usage` every few seconds; ends with the instance."""
    async for event in follow(platform, visitor, instance):
        yield event


async def follow(platform: Platform, visitor: Visitor, instance: Instance) -> AsyncIterator[ServerSentEvent]:
    """The events of one instance until it has ended or is forgotten, or its owner is signed out."""
    seen: InstanceView | None = None
    usage_due = 0.0
    while True:
        view = await view_of(platform, instance)
        if seen is None or (view.state, view.reason, view.expires_at) != (seen.state, seen.reason, seen.expires_at):
            yield ServerSentEvent(event="state", data=view)
        if seen is None or (view.stage, view.queue_position) != (seen.stage, seen.queue_position):
            yield ServerSentEvent(
                event="stage",
                data={"stage": view.stage, "state": view.state, "queue_position": view.queue_position},
            )
        seen = view
        if not instance.is_live:
            return
        if usage_due <= 0 and (usage := UsageView.of(await usage_of(platform, instance))) is not None:
            usage_due = USAGE_SECONDS
            yield ServerSentEvent(event="usage", data=usage)
        await platform.carrier.changes.wait(instance.id, LOOK_AGAIN_SECONDS)
        usage_due -= LOOK_AGAIN_SECONDS
        if not await platform.logins.still_there(visitor.user, visitor.login, platform.now()):
            return
        try:
            instance = await platform.instances.get(instance.id, visitor.user)
        except NotFound:
            return


@router.get("/{instance_id}/open", status_code=303, response_class=RedirectResponse)
async def open_instance(
    instance: OwnInstance,
    visitor: CurrentUser,
    platform: Here,
    next: Annotated[str | None, Query(max_length=4000)] = None,
) -> RedirectResponse:
    """Leads to the instance with a one-time ticket that this browser's login gets a cookie for."""
    if visitor.login is None:
        raise Forbidden("Opening an instance needs a browser that is signed in; a token cannot do it.")
    address = await platform.gate.ticket(instance, visitor.login, next, visitor.now)
    return RedirectResponse(address, status_code=303)


@router.post("/{instance_id}/stop", status_code=202)
async def stop(instance_id: str, visitor: CurrentUser, platform: Here) -> InstanceView:
    """Ends it, giving the application its time to save; the home stays."""
    instance = await platform.instances.stop(instance_id, visitor.user, visitor.actor, visitor.now)
    return await view_of(platform, instance)


@router.post("/{instance_id}/extend")
async def extend(instance_id: str, body: ExtendBody, visitor: CurrentUser, platform: Here) -> InstanceView:
    """Adds days, up to the longest duration offered."""
    instance = await platform.instances.extend(instance_id, visitor.user, body.days, visitor.actor, visitor.now)
    return await view_of(platform, instance)


@router.delete("/{instance_id}", status_code=204)
async def forget(instance_id: str, visitor: CurrentUser, platform: Here) -> None:
    """Takes an ended instance off the list."""
    await platform.instances.forget(instance_id, visitor.user)
