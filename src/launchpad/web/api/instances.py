"""A user's own instances."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from pydantic import AwareDatetime

from ...domain.activity import Step
from ...domain.activity_codec import KEPT
from ...domain.instances import Instance
from ...domain.return_paths import RETURN_PATH_MAX
from ...domain.sizes import parse_bytes
from ...errors import Forbidden, InvalidInput
from ...services.freezing import BY_OWNER
from ...services.instances import LaunchRequest
from ..activity_schemas import ActivityView
from ..deps import Activities, CurrentUser, Freezing, Gate, Instances, Logs, Present, Rescue
from ..paging import Cursor, Limit, place_of, tell_next
from ..schemas import ExtendBody, InstanceView, LaunchBody, SizeBody
from .responses import PROBLEMS, ROOT

ONE_HOUR = timedelta(hours=1)
LONGEST = KEPT[Step.HOUR]
MOST_POINTS = 10_000

Since = Annotated[AwareDatetime, Query(description="An instant with its time zone.")]

router = APIRouter(prefix=f"{ROOT}/instances", tags=["instances"], responses=PROBLEMS)


async def own_instance(instance_id: str, visitor: CurrentUser, instances: Instances) -> Instance:
    """The visitor's own instance; a dependency, so that it is looked for before a stream of events begins."""
    return await instances.get(instance_id, visitor.user)


OwnInstance = Annotated[Instance, Depends(own_instance)]


@router.get("")
async def list_instances(
    visitor: CurrentUser,
    present: Present,
    response: Response,
    all: bool = False,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> list[InstanceView]:
    """Own instances, newest first; with `all=true` the ended ones too. `X-Next-Cursor` continues a long list."""
    found = await present.instances_of(visitor.user, with_ended=all, limit=limit, before=place_of(cursor))
    tell_next(response, found, limit, lambda instance: instance.place)
    return [await present.instance(instance) for instance in found]


@router.post("", status_code=202)
async def launch(body: LaunchBody, visitor: CurrentUser, instances: Instances, present: Present) -> InstanceView:
    """Launches an instance and returns at once; follow it at `…/events`."""
    request = LaunchRequest(
        environment=body.environment,
        memory_bytes=parse_bytes(body.memory) if body.memory is not None else None,
        cpus=body.cpus,
        storage_bytes=parse_bytes(body.storage) if body.storage is not None else None,
        days=body.days,
        safe_mode=body.safe_mode,
    )
    instance = await instances.launch(visitor.user, request, visitor.actor, visitor.now)
    return await present.instance(instance)


@router.get("/{instance_id}")
async def get_instance(instance: OwnInstance, visitor: CurrentUser, present: Present) -> InstanceView:
    """An own instance. `reason`: why it ended; while it runs, its `notices`, such as a full home folder."""
    return await present.instance_in_use(instance, visitor.user)


@router.get("/{instance_id}/log", response_class=PlainTextResponse)
async def log(instance: OwnInstance, logs: Logs) -> PlainTextResponse:
    """The last lines that it printed, of a live instance as of now; empty where there are none. Keys are masked."""
    return PlainTextResponse(await logs.of(instance))


@router.get("/{instance_id}/activity")
async def activity(
    instance: OwnInstance,
    visitor: CurrentUser,
    activities: Activities,
    since: Since | None = None,
    step: Step | None = None,
) -> ActivityView:
    """What it did since an instant (an hour ago, unless given), and what it is doing now.

    `step` is 60, 900 or 3600 seconds, which are kept for two days, five weeks and 13 months; without it the finest that
    makes a few hundred points.
    """
    begin = visitor.now - ONE_HOUR if since is None else since
    if not timedelta() <= visitor.now - begin <= LONGEST:
        raise InvalidInput("Give an instant of the last 13 months.", fields={"since": "not in the last 13 months"})
    made_of, points = await activities.points(instance.id, begin, visitor.now, step)
    if len(points) > MOST_POINTS:
        raise InvalidInput("These are too many points; give a longer step.", fields={"step": "too short"})
    return ActivityView.of(made_of, points, activities.latest(instance.id))


@router.get("/{instance_id}/open", status_code=303, response_class=RedirectResponse)
async def open_instance(
    instance: OwnInstance,
    visitor: CurrentUser,
    gate: Gate,
    next: Annotated[str | None, Query(max_length=RETURN_PATH_MAX)] = None,
) -> RedirectResponse:
    """Redirects to the instance with a one-time ticket, for which this browser gets its cookie."""
    if visitor.login is None:
        raise Forbidden("Opening an instance needs a browser that is signed in; a token cannot do it.")
    address = await gate.ticket(instance, visitor.login, next, visitor.now)
    return RedirectResponse(address, status_code=303)


@router.post("/{instance_id}/stop", status_code=202)
async def stop(instance_id: str, visitor: CurrentUser, instances: Instances, present: Present) -> InstanceView:
    """Stops it, giving the application time to save; the home folder is kept."""
    instance = await instances.stop(instance_id, visitor.user, visitor.actor, visitor.now)
    return await present.instance(instance)


@router.post("/{instance_id}/extend")
async def extend(
    instance_id: str, body: ExtendBody, visitor: CurrentUser, instances: Instances, present: Present
) -> InstanceView:
    """Adds days, up to the longest duration offered."""
    instance = await instances.extend(instance_id, visitor.user, body.days, visitor.actor, visitor.now)
    return await present.instance(instance)


@router.patch("/{instance_id}")
async def change_size(
    instance_id: str, body: SizeBody, visitor: CurrentUser, rescue: Rescue, present: Present
) -> InstanceView:
    """Gives a running one more memory at once, until it ends; the next launch has its own size again.

    409 with the reason where quota or room do not allow it.
    """
    instance = await rescue.give(instance_id, parse_bytes(body.memory), visitor.actor, visitor.now, owner=visitor.user)
    return await present.instance(instance)


@router.post("/{instance_id}/freeze", status_code=202)
async def freeze(
    instance: OwnInstance, visitor: CurrentUser, freezing: Freezing, instances: Instances, present: Present
) -> InstanceView:
    """Lets it stand still with all that it holds in memory, a moment later; a visit to its address thaws it.

    409 with the reason where this server cannot do it.
    """
    await freezing.freeze(instance.id, visitor.now, BY_OWNER, actor=visitor.actor)
    return await present.instance(await instances.get(instance.id, visitor.user))


@router.post("/{instance_id}/thaw", status_code=202)
async def thaw(
    instance: OwnInstance, visitor: CurrentUser, freezing: Freezing, instances: Instances, present: Present
) -> InstanceView:
    """Continues a frozen one where it was; changes nothing in one that is not."""
    await freezing.thaw(instance.id, visitor.now, actor=visitor.actor, reason=BY_OWNER)
    return await present.instance(await instances.get(instance.id, visitor.user))


@router.delete("/{instance_id}", status_code=204)
async def forget(instance_id: str, visitor: CurrentUser, instances: Instances) -> None:
    """Removes an ended instance from the list."""
    await instances.forget(instance_id, visitor.user, visitor.now)
