"""The portal of `pages_client` on a port of its own, for a real browser; the engine alone is a fake."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from playwright.async_api import Browser, BrowserContext

from .pages_client import Person, Portal, open_portal

HOST = "127.0.0.1"


@asynccontextmanager
async def serve_portal(folder: Path, settings: Mapping[str, Any] | None = None, **how: Any) -> AsyncIterator[Portal]:
    """As `open_portal`, and reached at `portal.url`."""
    listening = socket.create_server((HOST, 0))
    url = f"http://localhost:{listening.getsockname()[1]}"
    async with open_portal(folder, {"public_url": url, **(settings or {})}, **how) as portal:
        portal.url = url
        server = uvicorn.Server(
            uvicorn.Config(
                portal.app,
                proxy_headers=False,
                access_log=False,
                log_level="warning",
                lifespan="off",  # `open_portal` has started it
                timeout_graceful_shutdown=1,  # pages follow their instances for ever
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield portal
        finally:
            server.should_exit = True
            await serving


async def browser_of(browser: Browser, person: Person, **how: Any) -> BrowserContext:
    """A browser of its own in which the person is signed in."""
    context = await browser.new_context(base_url=person.portal.url, **how)
    cookies = [
        {"name": cookie.name, "value": str(cookie.value), "domain": "localhost", "path": "/"}
        for cookie in person.http.cookies.jar
    ]
    await context.add_cookies(cookies)  # type: ignore[arg-type]
    return context
