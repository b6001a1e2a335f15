"""Static files under a path that holds their version: `/static/<version>/app.css`, kept by browsers for a year."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles

from ..deps import Public
from .rendering import STATIC, static_version

router = APIRouter(include_in_schema=False, dependencies=[Public])
_files = StaticFiles(directory=STATIC)


@router.api_route("/static/{version}/{name:path}", methods=["GET", "HEAD"])
async def static(version: str, name: str, request: Request) -> Response:
    """A file; asked for under another version than the present one, today's, to be checked again next time."""
    response = await _files.get_response(name, request.scope)
    lasting = version == static_version()
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if lasting else "no-cache"
    return response
