"""What administrators see and change."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse

from ...services.freezing import BY_ADMIN
from ...services.users import UNCHANGED, UserChange
from ..admin_schemas import (
    AdminUserView,
    AuditView,
    CapacityView,
    LabCapacityBody,
    LabCapacityView,
    LimitsBody,
    LimitsView,
    MailFailureView,
    UserPatchBody,
)
from ..deps import (
    Audit,
    CurrentAdmin,
    Freezing,
    Instances,
    LabCapacities,
    Ledger,
    Listings,
    Logs,
    MailFailures,
    Offers,
    Present,
    Users,
)
from ..paging import NEXT, Cursor, Limit, LongCursor, place_of, tell_next
from ..schemas import AdminInstanceView, ExtendBody
from .responses import PROBLEMS, ROOT

router = APIRouter(prefix=f"{ROOT}/admin", tags=["admin"], responses=PROBLEMS)


@router.get("/users")
async def list_users(
    visitor: CurrentAdmin,
    users: Users,
    ledger: Ledger,
    response: Response,
    search: str = "",
    limit: Limit = 100,
    cursor: str | None = None,
) -> list[AdminUserView]:
    """Users by e-mail address. `X-Next-Cursor` continues a long list."""
    found = await users.page(search=search, limit=limit, after=cursor)
    await ledger.looked_at_list(visitor.actor, {user.id for user in found}, "user.listed", visitor.now)
    tell_next(response, found, limit, lambda user: user.email)
    return [AdminUserView.of(user) for user in found]


@router.patch("/users/{user_id}")
async def change_user(user_id: str, body: UserPatchBody, visitor: CurrentAdmin, users: Users) -> AdminUserView:
    """Changes the given fields: role, status, lab, quota (as a whole). Suspending ends logins and instances at once."""
    given = body.model_fields_set
    change = UserChange(
        role=body.role if body.role is not None else UNCHANGED,
        status=body.status if body.status is not None else UNCHANGED,
        lab=body.lab if "lab" in given else UNCHANGED,
        quota=body.quota.quota() if body.quota is not None else UNCHANGED,
    )
    return AdminUserView.of(await users.change(user_id, change, visitor.actor, visitor.now))


@router.get("/instances")
async def list_instances(
    visitor: CurrentAdmin,
    listings: Listings,
    ledger: Ledger,
    present: Present,
    response: Response,
    all: bool = False,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> list[AdminInstanceView]:
    """Everyone's, newest first."""
    found = await listings.everyone(with_ended=all, limit=limit, before=place_of(cursor))
    tell_next(response, found, limit, lambda listed: listed.instance.place)
    owners = {listed.instance.owner_id for listed in found}
    await ledger.looked_at_list(visitor.actor, owners, "instance.listed", visitor.now)
    return present.listed(found)


@router.get("/instances/{instance_id}/log", response_class=PlainTextResponse)
async def instance_log(
    instance_id: str, visitor: CurrentAdmin, instances: Instances, logs: Logs, ledger: Ledger
) -> PlainTextResponse:
    """The last lines that anybody's instance printed, as of now or kept at its end. Keys are masked.

    Its owner is told in their ledger.
    """
    instance = await instances.get_any(instance_id)
    await ledger.looked_at_instance(visitor.actor, instance, "instance.log_read", visitor.now)
    return PlainTextResponse(await logs.of(instance))


@router.post("/instances/{instance_id}/stop", status_code=202)
async def stop_instance(
    instance_id: str, visitor: CurrentAdmin, instances: Instances, present: Present
) -> AdminInstanceView:
    instance = await instances.stop_any(instance_id, visitor.actor, visitor.now)
    return await present.of_anybody(instance)


@router.post("/instances/{instance_id}/extend")
async def extend_instance(
    instance_id: str, body: ExtendBody, visitor: CurrentAdmin, instances: Instances, present: Present
) -> AdminInstanceView:
    instance = await instances.extend_any(instance_id, body.days, visitor.actor, visitor.now)
    return await present.of_anybody(instance)


@router.post("/instances/{instance_id}/freeze", status_code=202)
async def freeze_instance(
    instance_id: str, visitor: CurrentAdmin, freezing: Freezing, instances: Instances, present: Present
) -> AdminInstanceView:
    """Lets anybody's running instance stand still; its owner's next visit thaws it."""
    instance = await instances.get_any(instance_id)
    await freezing.freeze(instance.id, visitor.now, BY_ADMIN, actor=visitor.actor)
    return await present.of_anybody(await instances.get_any(instance.id))


@router.post("/instances/{instance_id}/thaw", status_code=202)
async def thaw_instance(
    instance_id: str, visitor: CurrentAdmin, freezing: Freezing, instances: Instances, present: Present
) -> AdminInstanceView:
    """Continues anybody's frozen instance where it was."""
    instance = await instances.get_any(instance_id)
    await freezing.thaw(instance.id, visitor.now, actor=visitor.actor, reason=BY_ADMIN)
    return await present.of_anybody(await instances.get_any(instance.id))


@router.get("/limits")
async def get_limits(visitor: CurrentAdmin, offers: Offers) -> LimitsView:
    """The choices and defaults offered to everybody."""
    return LimitsView.of_limits(await offers.limits())


@router.put("/limits")
async def set_limits(body: LimitsBody, visitor: CurrentAdmin, offers: Offers) -> LimitsView:
    """Replaces the choices and defaults; running instances keep theirs."""
    limits = body.limits(await offers.limits())
    await offers.set_limits(limits, visitor.actor, visitor.now)
    return LimitsView.of_limits(limits)


@router.get("/lab-capacity")
async def get_lab_capacity(visitor: CurrentAdmin, labs: LabCapacities) -> list[LabCapacityView]:
    """What labs are guaranteed of the server and may have at most; labs that are not listed share the rest."""
    return LabCapacityView.of_all(await labs.labs())


@router.put("/lab-capacity")
async def set_lab_capacity(body: LabCapacityBody, visitor: CurrentAdmin, labs: LabCapacities) -> list[LabCapacityView]:
    """Replaces one lab's; running instances keep what they have. The answer has all labs."""
    return LabCapacityView.of_all(await labs.set_lab(body.lab, body.capacity(), visitor.actor, visitor.now))


@router.get("/capacity")
async def capacity(visitor: CurrentAdmin, offers: Offers) -> CapacityView:
    """What the server can reserve and has reserved."""
    return CapacityView.of(await offers.use())


@router.get("/audit")
async def audit(
    visitor: CurrentAdmin,
    records: Audit,
    ledger: Ledger,
    response: Response,
    search: str = "",
    limit: Limit = 100,
    cursor: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
) -> list[AuditView]:
    """Who did what, newest first.

    `X-Next-Cursor` continues a long list. A search goes through many records a page, not through all of them: a page
    may be empty and have a next one.
    """
    found, further = await records.look(limit=limit, before_id=cursor, search=search)
    await ledger.looked_at_audit(visitor.actor, found, visitor.now)
    if further is not None:
        response.headers[NEXT] = str(further)
    return [AuditView.of(record) for record in found]


@router.get("/mail-failures")
async def mail_failures(
    visitor: CurrentAdmin,
    failures: MailFailures,
    users: Users,
    response: Response,
    search: str = "",
    limit: Limit = 100,
    cursor: LongCursor | None = None,
) -> list[MailFailureView]:
    """Addresses with delivery problems, and why, the newest failure first. `X-Next-Cursor` continues a long list."""
    found = await failures.page(search=search, limit=limit, before=place_of(cursor))
    tell_next(response, found, limit, lambda failure: failure.place)
    known = await users.by_emails({failure.address for failure in found})
    return [MailFailureView.of(failure, known.get(failure.address)) for failure in found]
