"""Pages of labs: one's own, a request to join, and each lab with its members, for its leads to change."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response

from ...domain.labs import TITLE_MAX
from ..deps import CurrentUser, Labs, Visitor
from ..lab_access import Access
from ..views.values import Problems
from .rendering import after_form, page, saying, see_other

router = APIRouter(prefix="/labs", include_in_schema=False)

ASK = "/labs/requests"
Text = Annotated[str, Form(max_length=2000)]
# What is done with somebody, and what is said of it.
Act = Literal["add", "remove", "lead", "unlead", "decline", "leave"]
SAID = {
    "add": "lab-added",
    "remove": "lab-removed",
    "lead": "lab-lead",
    "unlead": "lab-unlead",
    "decline": "lab-declined",
}


@router.get("")
async def own_labs(request: Request, visitor: CurrentUser, labs: Labs) -> Response:
    refused = after_form(request, visitor, ASK)
    return page(
        request,
        "labs.html",
        visitor,
        labs=await labs.of_user(visitor.user),
        typed=refused.values if refused else {},
        errors=Problems({"name": refused.detail}) if refused else Problems(),
    )


@router.post("/requests")
async def ask(visitor: CurrentUser, labs: Labs, name: Text = "") -> Response:
    """Says the same whether there is such a lab or not."""
    await labs.ask(visitor.user, name, visitor.actor, visitor.now)
    return see_other(f"/labs?{urlencode(saying(visitor, 'lab-asked', name.strip()))}")


@router.get("/{name}")
async def lab(request: Request, access: Access, visitor: CurrentUser, labs: Labs) -> Response:
    """Who is in it; for those who lead it and for administrators with what they may change."""
    here = f"/labs/{access.lab.name}"
    renaming, changing = after_form(request, visitor, here), None
    if renaming is None:
        changing = after_form(request, visitor, f"{here}/members")
    in_field = changing if changing and changing.values.get("do") == "add" else None
    return page(
        request,
        "lab.html",
        visitor,
        lab=access.lab,
        access=access,
        is_admin=visitor.user.is_admin,
        members=await labs.members(access.lab),
        requests=await labs.requests(access.lab) if access.may_change else (),
        title_max=TITLE_MAX,
        title=renaming.values.get("title", "") if renaming else access.lab.title,
        email=in_field.values.get("email", "") if in_field else "",
        errors=Problems(
            {
                "title": renaming.fields.get("title", renaming.detail) if renaming else "",
                "email": in_field.detail if in_field else "",
                "": changing.detail if changing and not in_field else "",
            }
        ),
    )


@router.post("/{name}")
async def rename(access: Access, visitor: CurrentUser, labs: Labs, title: Text = "") -> Response:
    """Another title."""
    renamed = await labs.rename(access, title, visitor.actor, visitor.now)
    return _told(visitor, f"/labs/{renamed.name}", "saved", renamed.title)


@router.post("/{name}/members")
async def change_member(
    access: Access, visitor: CurrentUser, labs: Labs, do: Annotated[Act, Form()], email: Text = ""
) -> Response:
    """Adds, removes, accepts, declines, names a lead; or leaves."""
    actor, now = visitor.actor, visitor.now
    if do == "leave":
        await labs.remove(access, visitor.user.email, actor, now)
        return _told(visitor, "/labs", "lab-left", access.lab.title)
    if do == "remove":
        await labs.remove(access, email, actor, now)
    elif do == "decline":
        await labs.decline(access, email, actor, now)
    else:
        await labs.put(access, email, actor, now, is_lead={"add": None, "lead": True, "unlead": False}[do])
    return _told(visitor, f"/labs/{access.lab.name}", SAID[do], email.strip().lower())


def _told(visitor: Visitor, path: str, code: str, about: str) -> Response:
    return see_other(f"{path}?{urlencode(saying(visitor, code, about))}")
