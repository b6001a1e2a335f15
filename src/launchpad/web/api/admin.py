"""What administrators see and change."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse

from ...services.users import UNCHANGED, UserChange
from ..admin_schemas import (
    AdminUserView,
    AuditView,
    CapacityView,
    LimitsBody,
    LimitsView,
    MailFailureView,
    UserPatchBody,
)
from ..deps import CurrentAdmin, Here
from ..schemas import AdminInstanceView, ExtendBody
from .paging import NEXT, Cursor, Limit, LongCursor, place_of, tell_next

router = APIRouter(prefix="/admin", tags=["admin"])


@router.get("/users")
async def list_users(
    visitor: CurrentAdmin,
    platform: Here,
    response: Response,
    search: str = "",
    limit: Limit = 100,
    cursor: str | None = None,
) -> list[AdminUserView]:
    """Users by e-mail address. `X-Next-Cursor` continues a long list."""
    found = await platform.users.page(search=search, limit=limit, after=cursor)
    tell_next(response, found, limit, lambda user: user.email)
    return [AdminUserView.of(user) for user in found]


@router.patch("/users/{user_id}")
async def change_user(user_id: str, body: UserPatchBody, visitor: CurrentAdmin, platform: Here) -> AdminUserView:
    """Changes the given fields: role, status, lab, quota (as a whole). Suspending ends logins and instances at once."""
    given = body.model_fields_set
    change = UserChange(
        role=body.role if body.role is not None else UNCHANGED,
        status=body.status if body.status is not None else UNCHANGED,
        lab=body.lab if "lab" in given else UNCHANGED,
        quota=body.quota.quota() if body.quota is not None else UNCHANGED,
    )
    return AdminUserView.of(await platform.users.change(user_id, change, visitor.actor, visitor.now))


@router.get("/instances")
async def list_instances(
    visitor: CurrentAdmin,
    platform: Here,
    response: Response,
    all: bool = False,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> list[AdminInstanceView]:
    """Everyone's, newest first."""
    found = await platform.listings.everyone(with_ended=all, limit=limit, before=place_of(cursor))
    tell_next(response, found, limit, lambda listed: listed.instance.place)
    url = platform.settings.instances
    return [AdminInstanceView.of_owner(one.instance, url, one.owner, one.queue_position) for one in found]


@router.get("/instances/{instance_id}/log", response_class=PlainTextResponse)
async def instance_log(instance_id: str, visitor: CurrentAdmin, platform: Here) -> PlainTextResponse:
    """The last lines that anybody's instance printed, as of now or kept at its end. Keys are masked."""
    return PlainTextResponse(await platform.instance_logs.of(await platform.instances.get_any(instance_id)))


@router.post("/instances/{instance_id}/stop", status_code=202)
async def stop_instance(instance_id: str, visitor: CurrentAdmin, platform: Here) -> AdminInstanceView:
    instance = await platform.instances.stop_any(instance_id, visitor.actor, visitor.now)
    owner = await platform.users.get(instance.owner_id)
    return AdminInstanceView.of_owner(instance, platform.settings.instances, owner)


@router.post("/instances/{instance_id}/extend")
async def extend_instance(
    instance_id: str, body: ExtendBody, visitor: CurrentAdmin, platform: Here
) -> AdminInstanceView:
    instance = await platform.instances.extend_any(instance_id, body.days, visitor.actor, visitor.now)
    owner = await platform.users.get(instance.owner_id)
    return AdminInstanceView.of_owner(instance, platform.settings.instances, owner)


@router.get("/limits")
async def get_limits(visitor: CurrentAdmin, platform: Here) -> LimitsView:
    """The choices and defaults offered to everybody."""
    return LimitsView.of_limits(await platform.offers.limits())


@router.put("/limits")
async def set_limits(body: LimitsBody, visitor: CurrentAdmin, platform: Here) -> LimitsView:
    """Replaces the choices and defaults; running instances keep theirs."""
    limits = body.limits(await platform.offers.limits())
    await platform.offers.set_limits(limits, visitor.actor, visitor.now)
    return LimitsView.of_limits(limits)


@router.get("/capacity")
async def capacity(visitor: CurrentAdmin, platform: Here) -> CapacityView:
    """What the server can reserve and has reserved."""
    return CapacityView.of(await platform.offers.use())


@router.get("/audit")
async def audit(
    visitor: CurrentAdmin,
    platform: Here,
    response: Response,
    search: str = "",
    limit: Limit = 100,
    cursor: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
) -> list[AuditView]:
    """Who did what, newest first.

    `X-Next-Cursor` continues a long list. A search goes through many records a page, not through all of them: a page
    may be empty and have a next one.
    """
    found, further = await platform.audit.look(limit=limit, before_id=cursor, search=search)
    if further is not None:
        response.headers[NEXT] = str(further)
    return [AuditView.of(record) for record in found]


@router.get("/mail-failures")
async def mail_failures(
    visitor: CurrentAdmin,
    platform: Here,
    response: Response,
    search: str = "",
    limit: Limit = 100,
    cursor: LongCursor | None = None,
) -> list[MailFailureView]:
    """Addresses with delivery problems, and why, the newest failure first. `X-Next-Cursor` continues a long list."""
    found = await platform.mail_failures.page(search=search, limit=limit, before=place_of(cursor))
    tell_next(response, found, limit, lambda failure: failure.place)
    users = await platform.users.by_emails({failure.address for failure in found})
    return [MailFailureView.of(failure, users.get(failure.address)) for failure in found]
