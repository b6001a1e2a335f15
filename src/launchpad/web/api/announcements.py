"""What administrators tell everybody, and maintenance."""

from __future__ import annotations

from fastapi import APIRouter

from ..admin_schemas import AnnouncementBody, AnnouncementView
from ..deps import Announcements, CurrentAdmin, CurrentUser
from .responses import PROBLEMS, ROOT

router = APIRouter(prefix=ROOT, responses=PROBLEMS)


@router.get("/announcements", tags=["announcements"])
async def list_announcements(visitor: CurrentUser, announcements: Announcements) -> list[AnnouncementView]:
    """Those that are shown now; administrators also see those to come."""
    found = await announcements.not_over(visitor.now)
    return [AnnouncementView.of(one) for one in found if visitor.user.is_admin or one.is_shown(visitor.now)]


@router.post("/admin/announcements", status_code=201, tags=["admin"])
async def announce(body: AnnouncementBody, visitor: CurrentAdmin, announcements: Announcements) -> AnnouncementView:
    """Announces something on every page. With `stop_instances_at` it is a maintenance, of which owners are warned."""
    made = await announcements.announce(
        body.text,
        visitor.actor,
        visitor.now,
        shown_from=body.shown_from,
        shown_until=body.until,
        stop_instances_at=body.stop_instances_at,
    )
    return AnnouncementView.of(made)


@router.delete("/admin/announcements/{announcement_id}", status_code=204, tags=["admin"])
async def withdraw(announcement_id: str, visitor: CurrentAdmin, announcements: Announcements) -> None:
    """Withdraws it; a maintenance does not take place, or is over."""
    await announcements.withdraw(announcement_id, visitor.actor, visitor.now)
