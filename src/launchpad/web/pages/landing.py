"""The start page."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from ..deps import MaybeVisitor, Public
from .rendering import page, see_other

router = APIRouter(include_in_schema=False, dependencies=[Public])


@router.get("/")
async def landing(request: Request, visitor: MaybeVisitor) -> Response:
    """What this is, for those who are not signed in; the others go on to their dashboard."""
    return see_other("/dashboard") if visitor else page(request, "landing.html", None)
