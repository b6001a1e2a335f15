"""Errors as pages, in the user's words."""

from __future__ import annotations

from fastapi import Request, Response

from ...errors import LaunchpadError
from ..deps import visitor_of
from .rendering import page


async def error_page(request: Request, error: LaunchpadError) -> Response:
    """A page for an error; it shows who is signed in as far as the database can tell."""
    try:
        visitor = await visitor_of(request)
    except LaunchpadError:
        visitor = None
    return page(
        request,
        "error.html",
        visitor,
        status=error.status,
        code=error.status,
        title=error.title,
        detail=error.detail,
        fields=error.fields,
        retry_after_seconds=error.retry_after_seconds,
    )
