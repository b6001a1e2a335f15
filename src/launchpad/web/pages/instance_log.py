"""The page of one instance's log: its last lines, why it ended, and the ways on from there."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from ...domain.causes import Cause, likely_cause
from ...domain.instances import Instance
from ...errors import EngineRefused, EngineUnavailable
from ...services.instance_logs import InstanceLogs
from ..deps import CurrentAdmin, CurrentUser, Instances, Keeping, Ledger, Logs, Present, Users
from ..views.idle import decision_rows
from .rendering import page

router = APIRouter(include_in_schema=False)


@router.get("/instances/{instance_id}/log")
async def log(
    instance_id: str,
    request: Request,
    visitor: CurrentUser,
    instances: Instances,
    logs: Logs,
    present: Present,
    keeping: Keeping,
) -> Response:
    """What an own instance printed last, why it ended, and what the idle policy has decided of it."""
    instance = await instances.get(instance_id, visitor.user)
    view = await present.card(instance, visitor.user, visitor.now)
    decisions = decision_rows(await keeping.decisions_of(instance))
    return page(request, "log.html", visitor, it=view, printed=await _printed(logs, instance), decisions=decisions)


@router.get("/admin/instances/{instance_id}/log")
async def log_of_anybody(
    instance_id: str,
    request: Request,
    visitor: CurrentAdmin,
    instances: Instances,
    users: Users,
    logs: Logs,
    ledger: Ledger,
    present: Present,
    keeping: Keeping,
) -> Response:
    """What anybody's instance printed last, why it ended, and what the idle policy has decided of it.

    Its owner is told in their ledger.
    """
    instance = await instances.get_any(instance_id)
    await ledger.looked_at_instance(visitor.actor, instance, "instance.log_read", visitor.now)
    owner = (await users.by_ids({instance.owner_id})).get(instance.owner_id)
    view = present.plain_card(instance, visitor.now, owner.email if owner else "")
    printed, decisions = await _printed(logs, instance), decision_rows(await keeping.decisions_of(instance))
    return page(request, "admin/log.html", visitor, it=view, printed=printed, decisions=decisions)


@dataclass(frozen=True)
class Printed:
    """The text, or why it cannot be had; `cause`: what a live instance's log says of a failure."""

    text: str
    problem: str | None = None
    cause: Cause | None = None


async def _printed(logs: InstanceLogs, instance: Instance) -> Printed:
    try:
        text = await logs.of(instance)
    except (EngineUnavailable, EngineRefused) as error:
        return Printed("", error.detail)
    return Printed(text, cause=likely_cause(text) if instance.is_live else None)
