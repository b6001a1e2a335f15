"""The web application: routes, errors, headers, and what opens and closes with the process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..platform import Platform
from ..services.live import Live
from . import api, gate, health, pages, problems, well_known
from .api.responses import add_problem
from .deps import Public
from .pages.frame import Frame
from .policy import page_policy
from .views.presenter import Presenter

OPENAPI_PATH = "/api/v1/openapi.json"


def create_app(platform: Platform) -> FastAPI:
    """The app over a platform that is wired but not started; its lifespan starts and closes the platform."""
    app = _App(
        title="Data-Science Launchpad",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.platform = platform
    app.state.presenter = presenter_over(platform, platform.live)
    app.state.pages = Frame(
        platform.settings, platform.now, platform.state.key("forms"), platform.live.announcements.shown
    )
    # As one flat list, most asked for first: every router inside another one is searched twice at each request.
    for router in (gate.router, *pages.ROUTERS, *api.ROUTERS, health.router, well_known.router):
        app.router.routes.extend(router.routes)
    problems.install(app)

    @app.get(OPENAPI_PATH, include_in_schema=False, dependencies=[Public])
    async def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    return app


def presenter_over(platform: Platform, live: Live) -> Presenter:
    """What builds the views of pages and API from what is known in `live`."""
    return Presenter(
        platform.settings,
        platform.catalogue,
        platform.instances,
        platform.offers,
        platform.users,
        live,
        platform.activity,
        platform.idle,
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    platform: Platform = app.state.platform
    try:
        await platform.start()
        yield
    finally:
        await platform.aclose()


class _App(FastAPI):
    """FastAPI with the headers outside everything else, so that an answer to a fault of ours has them too."""

    def build_middleware_stack(self) -> ASGIApp:
        return _Headers(super().build_middleware_stack(), self.state.platform)

    def openapi(self) -> dict[str, Any]:
        """With what errors look like, which no route names as a model."""
        if self.openapi_schema is None:
            add_problem(super().openapi())
        return super().openapi()


class _Headers:
    """Nothing from elsewhere runs in our pages, nobody frames them, nothing personal is cached."""

    def __init__(self, app: ASGIApp, platform: Platform) -> None:
        self._app = app
        always = {
            "Content-Security-Policy": page_policy(platform.settings.instances.pattern),
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=(), publickey-credentials-get=(self)",
            "Cache-Control": "no-store",
        }
        self._always = [(name.lower().encode(), value.encode()) for name, value in always.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/gate/"):
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"] = list(message["headers"])
                there = {name for name, _ in headers}
                headers += [header for header in self._always if header[0] not in there]
            await send(message)

        await self._app(scope, receive, send_with_headers)
