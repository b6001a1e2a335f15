"""Where a request came in, as RStudio Server works it out from the headers of a proxy."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from aiohttp import web

PROXY_PORTS = {"http": "80", "https": "443"}


def root_path(request: web.Request) -> str:
    """The prefix the proxy stripped, `/i/abc` for `i/abc`, `/i/abc` or `/i/abc/`; "" when there is none."""
    path = request.headers.get("X-RStudio-Root-Path", "").strip("/")
    return f"/{path}" if path else ""


def origin(request: web.Request) -> str:
    """Scheme and authority for absolute redirects.

    From X-RStudio-Request, Forwarded, X-Forwarded-Proto/Host/Port and Host, in this order.
    """
    headers = request.headers
    if "X-RStudio-Request" in headers:
        parts = urlsplit(headers["X-RStudio-Request"])
        return f"{parts.scheme}://{parts.netloc}"
    if "Forwarded" in headers:
        found = dict(re.findall(r'(\w+)="?([^;,"]+)"?', headers["Forwarded"]))
        return f"{found.get('proto', 'http')}://{found.get('host', request.host)}"
    scheme = headers.get("X-Forwarded-Proto", "http")
    # At the root path "/" RStudio ignores X-Forwarded-Host.
    host = headers.get("X-Forwarded-Host", request.host) if root_path(request) else request.host
    port = headers.get("X-Forwarded-Port")
    if port and ":" not in host and port != PROXY_PORTS.get(scheme):
        host = f"{host}:{port}"
    return f"{scheme}://{host}"


def is_secure(request: web.Request) -> bool:
    return origin(request).startswith("https:")
