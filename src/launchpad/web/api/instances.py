"""A user's own instances."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import PlainTextResponse, RedirectResponse

from ...domain.ends import notices_of
from ...domain.instances import Instance
from ...domain.return_paths import RETURN_PATH_MAX
from ...domain.sizes import parse_bytes
from ...errors import Forbidden
from ...platform import Platform
from ...runtime.base import Usage
from ...services.instances import LaunchRequest
from ..deps import CurrentUser, Here
from ..schemas import ExtendBody, InstanceView, LaunchBody
from .paging import Cursor, Limit, place_of, tell_next

router = APIRouter(prefix="/instances", tags=["instances"])


async def own_instance(instance_id: str, visitor: CurrentUser, platform: Here) -> Instance:
    """The visitor's own instance; a dependency, so that it is looked for before a stream of events begins."""
    return await platform.instances.get(instance_id, visitor.user)


OwnInstance = Annotated[Instance, Depends(own_instance)]


async def usage_of(platform: Platform, instance: Instance) -> Usage | None:
    """What it uses now; None when it does not run or nothing can be said."""
    sample = await platform.live.usage.of(instance)
    return sample.usage if sample is not None else None


async def lacking(platform: Platform, instance: Instance, username: str) -> tuple[str, ...]:
    """What a running instance lacks now, in its owner's words."""
    return await platform.live.lacking(instance, platform.catalogue.get(instance.environment), username)


async def view_of(
    platform: Platform, instance: Instance, usage: Usage | None = None, lacks: tuple[str, ...] = ()
) -> InstanceView:
    """`lacks` is what it lacks now; what happened to it since its start is told in any case."""
    return InstanceView.of(
        instance,
        platform.settings.instances,
        usage=usage,
        queue_position=await platform.instances.queue_position(instance),
        notices=notices_of(instance, lacks),
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
    request = LaunchRequest(
        environment=body.environment,
        memory_bytes=parse_bytes(body.memory) if body.memory is not None else None,
        cpus=body.cpus,
        storage_bytes=parse_bytes(body.storage) if body.storage is not None else None,
        days=body.days,
        safe_mode=body.safe_mode,
    )
    instance = await platform.instances.launch(visitor.user, request, visitor.actor, visitor.now)
    return await view_of(platform, instance)


@router.get("/{instance_id}")
async def get_instance(instance: OwnInstance, visitor: CurrentUser, platform: Here) -> InstanceView:
    """An own instance. `reason`: why it ended; while it runs, its `notices`, such as a full home folder."""
    usage = await usage_of(platform, instance)
    return await view_of(platform, instance, usage, await lacking(platform, instance, visitor.user.username))


@router.get("/{instance_id}/log", response_class=PlainTextResponse)
async def log(instance: OwnInstance, platform: Here) -> PlainTextResponse:
    """The last lines that it printed, of a live instance as of now; empty where there are none. Keys are masked."""
    return PlainTextResponse(await platform.instance_logs.of(instance))


@router.get("/{instance_id}/open", status_code=303, response_class=RedirectResponse)
async def open_instance(
    instance: OwnInstance,
    visitor: CurrentUser,
    platform: Here,
    next: Annotated[str | None, Query(max_length=RETURN_PATH_MAX)] = None,
) -> RedirectResponse:
    """Redirects to the instance with a one-time ticket, for which this browser gets its cookie."""
    if visitor.login is None:
        raise Forbidden("Opening an instance needs a browser that is signed in; a token cannot do it.")
    address = await platform.gate.ticket(instance, visitor.login, next, visitor.now)
    return RedirectResponse(address, status_code=303)


@router.post("/{instance_id}/stop", status_code=202)
async def stop(instance_id: str, visitor: CurrentUser, platform: Here) -> InstanceView:
    """Stops it, giving the application time to save; the home folder is kept."""
    instance = await platform.instances.stop(instance_id, visitor.user, visitor.actor, visitor.now)
    return await view_of(platform, instance)


@router.post("/{instance_id}/extend")
async def extend(instance_id: str, body: ExtendBody, visitor: CurrentUser, platform: Here) -> InstanceView:
    """Adds days, up to the longest duration offered."""
    instance = await platform.instances.extend(instance_id, visitor.user, body.days, visitor.actor, visitor.now)
    return await view_of(platform, instance)


@router.delete("/{instance_id}", status_code=204)
async def forget(instance_id: str, visitor: CurrentUser, platform: Here) -> None:
    """Removes an ended instance from the list."""
    await platform.instances.forget(instance_id, visitor.user, visitor.now)
