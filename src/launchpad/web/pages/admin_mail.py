"""Administrators' page about mail that did not arrive."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response

from ...errors import NotFound
from ..deps import Configured, CurrentAdmin, MailFailures, Users
from ..paging import place_of
from ..views.admin import MailFailureRow
from .rendering import page, saying, see_other

router = APIRouter(prefix="/admin/mail", include_in_schema=False)

PAGE = 50


@router.get("")
async def failures(
    request: Request,
    visitor: CurrentAdmin,
    settings: Configured,
    mail_failures: MailFailures,
    users: Users,
    q: str = "",
    before: str | None = None,
) -> Response:
    """Addresses that mail did not reach, the newest failure first; some belong to nobody who has signed in."""
    wanted = q.strip()[:254]
    found = await mail_failures.page(search=wanted, limit=PAGE, before=place_of(before))
    known = await users.by_emails({failure.address for failure in found})
    rows = [MailFailureRow(failure, known.get(failure.address)) for failure in found]
    more = urlencode({"q": wanted, "before": str(found[-1].place)}) if len(found) == PAGE else None
    return page(
        request,
        "admin/mail.html",
        visitor,
        rows=rows,
        next_page=f"/admin/mail?{more}" if more else None,
        query={"q": wanted},
        mailbox=settings.mail.bounces.host,
        audit_days=settings.audit_days,
    )


@router.post("/forget")
async def forget(
    visitor: CurrentAdmin,
    mail_failures: MailFailures,
    address: Annotated[str, Form()] = "",
    q: Annotated[str, Form()] = "",
) -> Response:
    """Removes an address from the list; that it is gone already does not matter."""
    with suppress(NotFound):
        await mail_failures.forget(address[:254], visitor.actor, visitor.now)
    removed = saying(visitor, "removed", address[:254])
    return see_other("/admin/mail?" + urlencode({"q": q[:254], **removed}))
