"""What nginx asks about every request to the instances origin. Reached over the portal's Unix socket only."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from ..domain.return_paths import RETURN_PATH_MAX, as_parameter
from ..errors import Forbidden
from ..services.gate import Decision, GateRequest, inside
from .cookies import expire_everywhere, set_cookie
from .deps import Configured, Gate, Now, Public, platform_of

router = APIRouter(prefix="/gate", include_in_schema=False, dependencies=[Public])

InstanceId = Annotated[str, Query(pattern=r"^[0-9a-z]{1,40}$")]
NextPath = Annotated[str, Query(max_length=RETURN_PATH_MAX)]


async def authorize(request: Request) -> Response:
    """204 with `X-Gate-Means: pass`, where to and how to pass it on; 401 (X-Gate-Location for page loads) or 403.

    nginx's auth_request takes nothing but 401 and 403 for an answer, and writes an error into its log for anything
    else: so `X-Gate-Means` says what it is to answer instead, such as 404 where an instance does not run. What is said
    of a page load depends on its address, so nginx keeps it for no other one.
    """
    platform = platform_of(request)
    headers = request.headers
    asked = GateRequest(
        instance_id=headers.get("X-Gate-Instance", ""),
        uri=headers.get("X-Gate-Uri", ""),
        method=headers.get("X-Gate-Method", "GET").upper(),
        cookie_header="; ".join(headers.getlist("Cookie")),
        origin=headers.get("Origin", ""),
        is_upgrade=bool(headers.get("X-Gate-Upgrade")),
        fetch_mode=headers.get("Sec-Fetch-Mode", ""),
        fetch_site=headers.get("Sec-Fetch-Site", ""),
        accept=headers.get("Accept", ""),
        referer=headers.get("Referer", ""),
        quiet=headers.get("X-Gate-Quiet", ""),
    )
    decision = await platform.gate.decide(asked, platform.now())
    if decision.status != 204:
        return _refusal(decision, may_be_kept=not (asked.is_page_load or decision.is_for_now))
    answer = Response(status_code=204)
    if decision.upstream and decision.prefix:
        answer.headers["X-Gate-Means"] = "pass"
        answer.headers["X-Gate-Upstream"] = decision.upstream
        answer.headers["X-Gate-Prefix"] = decision.prefix
        answer.headers["X-Gate-Cookie"] = decision.cookie
        for name, value in decision.headers.items():
            answer.headers[f"X-Gate-Header-{name}"] = value
    return answer


def _refusal(decision: Decision, *, may_be_kept: bool) -> Response:
    answer = Response(status_code=401 if decision.status == 401 else 403)
    if decision.is_too_long:
        answer.headers["X-Gate-Means"] = "too-long"
    elif (means := decision.call_status or decision.status) != answer.status_code:
        answer.headers["X-Gate-Means"] = str(means)
    for name, value in (("Location", decision.location), ("Title", decision.title), ("Reason", decision.reason)):
        if value:
            answer.headers[f"X-Gate-{name}"] = value
    if not may_be_kept:
        answer.headers["Cache-Control"] = "no-store"
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
    gate: Gate,
    settings: Configured,
    now: Now,
    ticket: Annotated[str, Query(max_length=200)],
    next: NextPath = "/",
) -> RedirectResponse:
    """Turns a one-time ticket into the instance's cookie.

    A browser that was let in here just before, and came back without the cookie, is shown why instead of being sent
    round.
    """
    path = inside(next)
    at_host_of = request.headers.get("X-Gate-Instance", "")
    entrance = await gate.enter(ticket, now, at_host_of, path)
    where = settings.instances
    onwards = where.url(entrance.instance_id, path)
    if entrance.goes_round:
        portal = settings.public_url
        onwards = f"{portal}/instances/{entrance.instance_id}/cookies?next={as_parameter(path)}"
    answer = RedirectResponse(onwards, status_code=303)
    root = f"{where.root_path(entrance.instance_id)}/"
    set_cookie(answer, settings, gate.cookie_name, entrance.cookie, path=root)
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer


@router.post("/clear-cookies")
async def clear_cookies(
    request: Request, gate: Gate, settings: Configured, instance: InstanceId, next: NextPath = "/"
) -> RedirectResponse:
    """Drops every cookie of the instance cookie's name that lies on the way to an address, and opens the instance anew.

    Raises:
        Forbidden: neither a page of the portal nor one of this instance asks for it.
    """
    path = inside(next)
    ours = {settings.public_url, settings.instances.of(instance)}
    if request.headers.get("Origin", "").lower() not in ours:
        raise Forbidden("This must be sent from the platform's own pages.")
    onwards = f"{settings.public_url}/instances/{instance}/open?next={as_parameter(path)}"
    answer = RedirectResponse(onwards, status_code=303)
    at = urlsplit(settings.instances.url(instance, path))
    expire_everywhere(answer, settings, gate.cookie_name, at.hostname or "", at.path)
    answer.headers["Cache-Control"] = "no-store"
    return answer
