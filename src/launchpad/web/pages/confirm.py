"""“Is it still you?”: administrators who were away show anew who they are, by a code or a passkey."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import JSONResponse

from ...domain.return_paths import as_parameter
from ...domain.signin import Login
from ...errors import Forbidden, LaunchpadError, TooManyRequests, WrongCode
from ...services.platform import Platform
from ..cookies import CookieNames, renew_login, set_cookie
from ..deps import CurrentUser, Here, Visitor
from .passkeys import Touch
from .rendering import local_path, page, see_other
from .views import Problems

router = APIRouter(prefix="/confirm")

Text = Annotated[str, Form()]


@router.get("")
async def confirm_page(
    request: Request, visitor: CurrentUser, platform: Here, next: str = "", sent: bool = False
) -> Response:
    """Offers a code to one's own address, or a passkey; with `sent`, takes the code."""
    return await _page(request, visitor, platform, next, sent=sent)


async def _page(
    request: Request,
    visitor: Visitor,
    platform: Platform,
    following: str,
    *,
    sent: bool,
    error: LaunchpadError | None = None,
) -> Response:
    return page(
        request,
        "confirm.html",
        visitor,
        status=error.status if error else 200,
        next=local_path(following, "/admin"),
        sent=sent,
        errors=Problems({"code": error.detail}) if error else Problems(),
        passkeys=bool(await platform.passkeys.of_user(visitor.user)) and platform.passkeys.possible,
        minutes=platform.settings.sign_in.admin_fresh_minutes,
    )


@router.post("")
async def send_code(request: Request, visitor: CurrentUser, platform: Here, next: Text = "") -> Response:
    """Sends a code to the user's own address."""
    following = local_path(next, "/admin")
    try:
        asked = await platform.sign_in.ask(visitor.user.email, visitor.client, visitor.now)
    except TooManyRequests as error:
        return await _page(request, visitor, platform, following, sent=False, error=error)
    response = see_other(f"/confirm?sent=true&next={as_parameter(following)}")
    name = CookieNames.of(platform.settings).challenge
    seconds = platform.settings.sign_in.code_minutes * 60
    set_cookie(response, platform.settings, name, asked.cookie, seconds=seconds)
    return response


@router.post("/code")
async def take_code(
    request: Request, visitor: CurrentUser, platform: Here, code: Text = "", next: Text = ""
) -> Response:
    """Takes the code, and leads back to where the administrator was."""
    login = _login_of(visitor)
    cookie = request.cookies.get(CookieNames.of(platform.settings).challenge)
    following = local_path(next, "/admin")
    try:
        secret = await platform.sign_in.confirm(cookie, code[:100], visitor.user, login, visitor.client, visitor.now)
    except (WrongCode, TooManyRequests) as error:
        return await _page(request, visitor, platform, following, sent=True, error=error)
    response = see_other(following)
    renew_login(response, platform.settings, login, secret, visitor.now)
    return response


@router.post("/passkey/options")
async def passkey_options(visitor: CurrentUser, platform: Here) -> JSONResponse:
    """What one of the user's own passkeys is to sign."""
    return JSONResponse(await platform.passkeys.ask_to_confirm(visitor.user, _login_of(visitor), visitor.now))


@router.post("/passkey")
async def take_passkey(body: Touch, visitor: CurrentUser, platform: Here) -> JSONResponse:
    """Takes what the passkey signed."""
    login = _login_of(visitor)
    secret = await platform.passkeys.confirm(visitor.user, login, body.credential, visitor.client, visitor.now)
    response = JSONResponse({"location": local_path(body.next, "/admin")})
    renew_login(response, platform.settings, login, secret, visitor.now)
    return response


def _login_of(visitor: Visitor) -> Login:
    if visitor.login is None:
        raise Forbidden("Personal tokens need no confirmation.")
    return visitor.login
