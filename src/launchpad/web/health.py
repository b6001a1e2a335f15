"""Whether it lives, whether it can work, and how it fares."""

from __future__ import annotations

import asyncio
import hmac

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from ..domain.background import LoopState
from ..errors import LaunchpadError, NotSignedIn
from ..platform import Platform
from .deps import FromClient, Public, platform_of

router = APIRouter(include_in_schema=False, dependencies=[Public])

PATIENCE_SECONDS = 5.0
_LOOPBACK = {"127.0.0.1", "::1"}


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Store and engine answer: 200, else 503 and which does not.

    `status` is "degraded" when they do and a background loop is late: what it is for does not happen, while pages and
    instances work. That is a 200 as well, since nothing is gained where a load balancer takes the portal away for it.
    """
    platform = platform_of(request)
    checks = {"store": platform.database.ping(), "engine": platform.runtime.host()}
    results: dict[str, str] = {}
    for name, check in checks.items():
        try:
            await asyncio.wait_for(check, PATIENCE_SECONDS)
            results[name] = "ok"
        except (LaunchpadError, TimeoutError):
            results[name] = "not answering"
    ready = all(result == "ok" for result in results.values())
    loops = {loop.name: loop.state for loop in platform.background.health()}
    degraded = LoopState.LATE in loops.values()
    status = "degraded" if ready and degraded else "ok" if ready else "unavailable"
    return JSONResponse({**results, "status": status, "loops": loops}, status_code=200 if ready else 503)


@router.get("/metrics")
async def metrics(request: Request, client: FromClient) -> Response:
    """Prometheus' text format; from this machine, or with `web.metrics_token`."""
    platform = platform_of(request)
    _check_access(request, platform, client.address)
    from .metrics import MEDIA_TYPE, measured  # the client of Prometheus takes a megabyte, and not everybody has one

    return Response(await measured(platform), media_type=MEDIA_TYPE)


def _check_access(request: Request, platform: Platform, address: str) -> None:
    token = platform.settings.web.metrics_token
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token is not None and hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
        return
    if address not in _LOOPBACK:
        raise NotSignedIn("Metrics can be read from this server, or with the token in web.metrics_token.")
