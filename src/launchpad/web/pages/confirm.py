"""“Is it still you?”: administrators who were away show anew who they are, by a code or a passkey."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import JSONResponse

from ...domain.return_paths import as_parameter
from ...domain.signin import Login
from ...errors import Forbidden
from ..cookies import CookieNames, renew_login, set_challenge
from ..deps import Configured, CurrentUser, Passkeys, SignIn, Visitor
from ..views.values import Problems
from .passkeys import Touch
from .rendering import after_form, local_path, page, see_other

router = APIRouter(prefix="/confirm", include_in_schema=False)

Text = Annotated[str, Form()]


@router.get("")
async def confirm_page(
    request: Request,
    visitor: CurrentUser,
    settings: Configured,
    own: Passkeys,
    next: str = "",
    sent: bool = False,
) -> Response:
    """Offers a code to one's own address, or a passkey; with `sent`, takes the code."""
    after = after_form(request, visitor, "/confirm", "/confirm/code")
    return page(
        request,
        "confirm.html",
        visitor,
        next=local_path(next, "/admin"),
        sent=sent,
        errors=Problems({"code": after.detail}) if after else Problems(),
        passkeys=bool(await own.of_user(visitor.user)) and own.possible,
        minutes=settings.sign_in.admin_fresh_minutes,
    )


@router.post("")
async def send_code(visitor: CurrentUser, settings: Configured, sign_in: SignIn, next: Text = "") -> Response:
    """Sends a code to the user's own address."""
    following = local_path(next, "/admin")
    asked = await sign_in.ask_known(visitor.user.email, visitor.client, visitor.now)
    response = see_other(f"/confirm?sent=true&next={as_parameter(following)}")
    set_challenge(response, settings, asked.cookie)
    return response


@router.post("/code")
async def take_code(
    request: Request,
    visitor: CurrentUser,
    settings: Configured,
    sign_in: SignIn,
    code: Text = "",
    next: Text = "",
) -> Response:
    """Takes the code, and leads back to where the administrator was."""
    login = _login_of(visitor)
    cookie = request.cookies.get(CookieNames.of(settings).challenge)
    following = local_path(next, "/admin")
    secret = await sign_in.confirm(cookie, code[:100], visitor.user, login, visitor.client, visitor.now)
    response = see_other(following)
    renew_login(response, settings, login, secret, visitor.now)
    return response


@router.post("/passkey/options")
async def passkey_options(visitor: CurrentUser, own: Passkeys) -> JSONResponse:
    """What one of the user's own passkeys is to sign."""
    return JSONResponse(await own.ask_to_confirm(visitor.user, _login_of(visitor), visitor.now))


@router.post("/passkey")
async def take_passkey(body: Touch, visitor: CurrentUser, settings: Configured, own: Passkeys) -> JSONResponse:
    """Takes what the passkey signed."""
    login = _login_of(visitor)
    secret = await own.confirm(visitor.user, login, body.credential, visitor.client, visitor.now)
    response = JSONResponse({"location": local_path(body.next, "/admin")})
    renew_login(response, settings, login, secret, visitor.now)
    return response


def _login_of(visitor: Visitor) -> Login:
    if visitor.login is None:
        raise Forbidden("Personal tokens need no confirmation.")
    return visitor.login
