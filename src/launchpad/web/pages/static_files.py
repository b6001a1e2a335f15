"""Static files under a path that holds their version: `/static/<version>/app.css`, kept by browsers for a year."""

from __future__ import annotations

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from .rendering import STATIC, static_version


class VersionedStaticFiles(StaticFiles):
    """Serves `<version>/<file>`; another version than the present one gets today's file, to be checked again."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    async def get_response(self, path: str, scope: Scope) -> Response:
        version, _, name = path.partition("/")
        response = await super().get_response(name, scope)
        lasting = version == static_version()
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if lasting else "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
