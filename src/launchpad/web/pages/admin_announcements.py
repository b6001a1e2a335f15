"""Administrators' page of announcements and maintenance."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from ...domain.announcements import TEXT_MAX
from ...domain.times import zone_of
from ...errors import InvalidInput, NotFound
from ..deps import Announcements, CurrentAdmin
from ..views.values import Problems
from .rendering import after_form, page, see_other

router = APIRouter(prefix="/admin/announcements", include_in_schema=False)

Text = Annotated[str, Form(max_length=2000)]
Moment = Annotated[str, Form(max_length=40)]


@router.get("")
async def announcements_page(request: Request, visitor: CurrentAdmin, announcements: Announcements) -> Response:
    """Those that are shown now or later, and a form for another one."""
    refused = after_form(request, visitor, "/admin/announcements")
    return page(
        request,
        "admin/announcements.html",
        visitor,
        found=await announcements.not_over(visitor.now),
        typed=refused.values if refused else {},
        errors=Problems(refused.problems()) if refused else Problems(),
        text_max=TEXT_MAX,
    )


@router.post("")
async def announce(
    visitor: CurrentAdmin,
    announcements: Announcements,
    text: Text = "",
    shown_from: Moment = "",
    until: Moment = "",
    stop_instances_at: Moment = "",
) -> Response:
    """Tells everybody. Moments are those of the administrator's own time zone."""
    zone = zone_of(visitor.user.time_zone)
    given = {"from": shown_from, "until": until, "stop_instances_at": stop_instances_at}
    moments, problems = {}, {}
    for name, typed in given.items():
        try:
            moments[name] = _moment(typed, zone)
        except ValueError:
            problems[name] = "write it like 2026-11-28T15:00"
    if problems:
        raise InvalidInput("This cannot be announced.", fields=problems)
    await announcements.announce(
        text,
        visitor.actor,
        visitor.now,
        shown_from=moments["from"],
        shown_until=moments["until"],
        stop_instances_at=moments["stop_instances_at"],
    )
    return see_other("/admin/announcements?said=announced")


@router.post("/{announcement_id}/withdraw")
async def withdraw(announcement_id: str, visitor: CurrentAdmin, announcements: Announcements) -> Response:
    """It is shown no more; that it is gone already does not matter."""
    with suppress(NotFound):
        await announcements.withdraw(announcement_id, visitor.actor, visitor.now)
    return see_other("/admin/announcements?said=withdrawn")


def _moment(typed: str, zone: tzinfo) -> datetime | None:
    """Raises ValueError for what is no moment."""
    if not typed.strip():
        return None
    moment = datetime.fromisoformat(typed.strip())
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)).astimezone(UTC)
