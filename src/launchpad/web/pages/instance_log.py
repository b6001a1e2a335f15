"""The page of one instance's log: its last lines, why it ended, and the ways on from there."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from ...domain.causes import Cause, likely_cause
from ...domain.instances import Instance
from ...errors import EngineRefused, EngineUnavailable
from ...platform import Platform
from ..deps import CurrentAdmin, CurrentUser, Here
from . import views
from .dashboard import instance_view
from .rendering import page

router = APIRouter()


@router.get("/instances/{instance_id}/log")
async def log(instance_id: str, request: Request, visitor: CurrentUser, platform: Here) -> Response:
    """What an own instance printed last, and why it ended."""
    instance = await platform.instances.get(instance_id, visitor.user)
    view = await instance_view(platform, instance, visitor)
    return page(request, "log.html", visitor, it=view, printed=await _printed(platform, instance))


@router.get("/admin/instances/{instance_id}/log")
async def log_of_anybody(instance_id: str, request: Request, visitor: CurrentAdmin, platform: Here) -> Response:
    """What anybody's instance printed last, and why it ended."""
    instance = await platform.instances.get_any(instance_id)
    owner = (await platform.users.by_ids({instance.owner_id})).get(instance.owner_id)
    environment = platform.catalogue.get(instance.environment)
    view = views.instance_view(instance, environment, visitor.now, owner_email=owner.email if owner else "")
    return page(request, "admin/log.html", visitor, it=view, printed=await _printed(platform, instance))


@dataclass(frozen=True)
class Printed:
    """The text, or why it cannot be had; `cause`: what a live instance's log says of a failure."""

    text: str
    problem: str | None = None
    cause: Cause | None = None


async def _printed(platform: Platform, instance: Instance) -> Printed:
    try:
        text = await platform.instance_logs.of(instance)
    except (EngineUnavailable, EngineRefused) as error:
        return Printed("", error.detail)
    return Printed(text, cause=likely_cause(text) if instance.is_live else None)
