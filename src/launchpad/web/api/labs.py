"""Labs: one's own, and for administrators all of them."""

from __future__ import annotations

from enum import Enum

from fastapi import APIRouter, Response

from ...domain.labs import LabAccess, LabRight
from ..deps import CurrentAdmin, CurrentUser, Labs, Ledger, Logins, require_admin
from ..lab_access import Access
from ..lab_schemas import (
    LabAskedView,
    LabMemberBody,
    LabMemberView,
    LabPatchBody,
    LabRequestBody,
    LabView,
    ListedLabView,
    NewLabBody,
    OwnLabView,
)
from ..paging import Cursor, Limit, tell_next
from .responses import PROBLEMS, ROOT

router = APIRouter(prefix=ROOT, responses=PROBLEMS)
TAGS: list[str | Enum] = ["labs"]


@router.get("/labs", tags=TAGS)
async def own_labs(visitor: CurrentUser, labs: Labs) -> list[OwnLabView]:
    """One's own, the one that one has been in longest first."""
    return [OwnLabView.of(one) for one in await labs.of_user(visitor.user)]


@router.post("/labs", status_code=201, tags=TAGS)
async def make_lab(body: NewLabBody, visitor: CurrentUser, labs: Labs, logins: Logins) -> LabView:
    """Makes a lab without members. Administrators only."""
    await require_admin(visitor, logins)
    made = await labs.make(body.name, body.title, visitor.actor, visitor.now)
    return LabView.of(LabAccess(made, LabRight.ADMIN, is_member=False), [], [])


@router.post("/labs/requests", status_code=202, tags=TAGS)
async def ask_to_join(body: LabRequestBody, visitor: CurrentUser, labs: Labs) -> LabAskedView:
    """Asks the leads of a lab by mail to be added; answered alike whether there is such a lab or not."""
    await labs.ask(visitor.user, body.name, visitor.actor, visitor.now)
    return LabAskedView(name=body.name)


@router.get("/labs/{name}", tags=TAGS)
async def lab(access: Access, labs: Labs) -> LabView:
    """With its members; for those who lead it and for administrators also with the requests to join."""
    return await _shown(access, labs)


@router.patch("/labs/{name}", tags=TAGS)
async def change_lab(body: LabPatchBody, access: Access, visitor: CurrentUser, labs: Labs) -> LabView:
    """Changes its title. Its leads and administrators only."""
    renamed = await labs.rename(access, body.title, visitor.actor, visitor.now)
    return await _shown(LabAccess(renamed, access.right, access.is_member), labs)


@router.put("/labs/{name}/members/{email}", tags=TAGS)
async def put_member(
    email: str, access: Access, visitor: CurrentUser, labs: Labs, body: LabMemberBody | None = None
) -> LabMemberView:
    """Adds somebody, which accepts a request of theirs, or says who leads (administrators only)."""
    is_lead = body.is_lead if body else None
    return LabMemberView.of(await labs.put(access, email, visitor.actor, visitor.now, is_lead=is_lead))


@router.delete("/labs/{name}/members/{email}", status_code=204, tags=TAGS)
async def remove_member(email: str, access: Access, visitor: CurrentUser, labs: Labs) -> None:
    """Removes somebody. Everybody may leave; a lead is removed by administrators only."""
    await labs.remove(access, email, visitor.actor, visitor.now)


@router.delete("/labs/{name}/requests/{email}", status_code=204, tags=TAGS)
async def decline(email: str, access: Access, visitor: CurrentUser, labs: Labs) -> None:
    """Declines a request to join; who asked is told by mail."""
    await labs.decline(access, email, visitor.actor, visitor.now)


@router.get("/admin/labs", tags=["admin"])
async def all_labs(
    visitor: CurrentAdmin,
    labs: Labs,
    ledger: Ledger,
    response: Response,
    search: str = "",
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> list[ListedLabView]:
    """All labs by name. `X-Next-Cursor` continues a long list."""
    found = await labs.page(search=search, limit=limit, after=cursor)
    leads = {address for one in found for address in one.leads}
    await ledger.looked_at_people(visitor.actor, leads, "lab.read", visitor.now)
    tell_next(response, found, limit, lambda one: one.lab.name)
    return [ListedLabView.of(one) for one in found]


async def _shown(access: LabAccess, labs: Labs) -> LabView:
    requests = list(await labs.requests(access.lab)) if access.may_change else None
    return LabView.of(access, list(await labs.members(access.lab)), requests)
