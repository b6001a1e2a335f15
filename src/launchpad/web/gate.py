"""What nginx asks about every request to the instances origin. Reached over the portal's Unix socket only."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from ..services.gate import GateRequest, inside
from .cookies import set_cookie
from .deps import Here, Public, platform_of

router = APIRouter(prefix="/gate", include_in_schema=False, dependencies=[Public])


async def authorize(request: Request) -> Response:
    """204 with `X-Gate-Means: pass`, where to and how to pass it on; 401 (X-Gate-Location for page loads) or 403.

    What is not there is a 403 that says `X-Gate-Means: 404`: nginx's auth_request takes nothing but 401 and 403 for an
    answer, and writes an error into its log for anything else.
    """
    platform = platform_of(request)
    headers = request.headers
    decision = await platform.gate.decide(
        GateRequest(
            instance_id=headers.get("X-Gate-Instance", ""),
            uri=headers.get("X-Gate-Uri", ""),
            method=headers.get("X-Gate-Method", "GET").upper(),
            cookie_header="; ".join(headers.getlist("Cookie")),
            origin=headers.get("Origin", ""),
            is_upgrade=bool(headers.get("X-Gate-Upgrade")),
            fetch_mode=headers.get("Sec-Fetch-Mode", ""),
            fetch_site=headers.get("Sec-Fetch-Site", ""),
            accept=headers.get("Accept", ""),
        ),
        platform.now(),
    )
    answer = Response(status_code=403 if decision.status == 404 else decision.status)
    if decision.status == 404:
        answer.headers["X-Gate-Means"] = "404"
    if decision.location:
        answer.headers["X-Gate-Location"] = decision.location
    if decision.upstream and decision.prefix:
        answer.headers["X-Gate-Means"] = "pass"
        answer.headers["X-Gate-Upstream"] = decision.upstream
        answer.headers["X-Gate-Prefix"] = decision.prefix
        answer.headers["X-Gate-Cookie"] = decision.cookie
        for name, value in decision.headers.items():
            answer.headers[f"X-Gate-Header-{name}"] = value
    return answer


class _Bare(APIRoute):
    """A route that reads the request itself. Looking into signatures took half of the time of the busiest route."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint


router.add_api_route("/authorize", authorize, route_class_override=_Bare)


@router.get("/enter")
async def enter(
    request: Request,
    platform: Here,
    ticket: Annotated[str, Query(max_length=200)],
    next: Annotated[str, Query(max_length=4000)] = "/",
) -> RedirectResponse:
    """Turns a one-time ticket into the instance's cookie."""
    path = inside(next)
    at_host_of = request.headers.get("X-Gate-Instance", "")
    instance_id, cookie = await platform.gate.enter(ticket, platform.now(), at_host_of)
    where = platform.settings.instances
    answer = RedirectResponse(where.url(instance_id, path), status_code=303)
    set_cookie(answer, platform.settings, platform.gate.cookie_name, cookie, path=f"{where.root_path(instance_id)}/")
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer
