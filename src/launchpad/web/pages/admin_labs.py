"""Administrators' page of all labs."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response

from ...domain.labs import NAME_MAX, TITLE_MAX
from ..deps import CurrentAdmin, Labs, Ledger
from ..views.values import Problems
from .rendering import after_form, page, saying, see_other

router = APIRouter(prefix="/admin/labs", include_in_schema=False)

PAGE = 50
Text = Annotated[str, Form(max_length=2000)]


@router.get("")
async def all_labs(
    request: Request, visitor: CurrentAdmin, labs: Labs, ledger: Ledger, q: str = "", after: str = ""
) -> Response:
    """By name, each with its leads; and a form for another one."""
    found = await labs.page(search=q.strip(), limit=PAGE + 1, after=after or None)
    shown = found[:PAGE]
    leads = {address for one in shown for address in one.leads}
    await ledger.looked_at_people(visitor.actor, leads, "lab.read", visitor.now)
    more = urlencode({"q": q, "after": shown[-1].lab.name}) if len(found) > PAGE else None
    refused = after_form(request, visitor, "/admin/labs")
    return page(
        request,
        "admin/labs.html",
        visitor,
        labs=shown,
        next_page=f"/admin/labs?{more}" if more else None,
        query={"q": q},
        typed=refused.values if refused else {},
        errors=Problems(refused.problems()) if refused else Problems(),
        name_max=NAME_MAX,
        title_max=TITLE_MAX,
    )


@router.post("")
async def make_lab(visitor: CurrentAdmin, labs: Labs, name: Text = "", title: Text = "") -> Response:
    """Leads to the new lab, where its leads and members are named."""
    made = await labs.make(name, title, visitor.actor, visitor.now)
    return see_other(f"/labs/{made.name}?{urlencode(saying(visitor, 'lab-made', made.title))}")
