"""Sign-in by e-mail code, in two pages, and sign-out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from ...domain.return_paths import as_parameter
from ...domain.signin import ChallengeState
from ...services.logins import Client
from ...services.signin import AskedBefore, SignInService
from ...settings import Settings
from ..cookies import CookieNames, drop_cookie, set_challenge, set_login
from ..deps import (
    Configured,
    CurrentUser,
    FromClient,
    FromOwnPages,
    Logins,
    Mail,
    MaybeVisitor,
    Now,
    Passkeys,
    Public,
    SignIn,
)
from ..views.values import Problems
from .rendering import after_form, local_path, page, see_other

router = APIRouter(include_in_schema=False)

RESEND_WAIT_SECONDS = 30
MAIL_LOOK_SECONDS = 10
Text = Annotated[str, Form()]


def _with_next(path: str, following: str, said: str = "") -> str:
    parts = [f"said={said}"] if said else []
    if following := local_path(following, ""):
        parts.append(f"next={as_parameter(following)}")
    return path + ("?" + "&".join(parts) if parts else "")


@router.get("/sign-in", dependencies=[Public])
async def sign_in_page(request: Request, passkeys: Passkeys, visitor: MaybeVisitor, next: str = "") -> Response:
    """Asks for the address; who is signed in already goes on."""
    if visitor:
        return see_other(local_path(next))
    refused = after_form(request, None, "/sign-in")
    return page(
        request,
        "sign_in.html",
        None,
        next=local_path(next, "") or local_path(refused.values.get("next", "") if refused else "", ""),
        email=refused.values.get("email", "") if refused else "",
        errors=Problems(refused.fields or {"email": refused.detail}) if refused else Problems(),
        passkeys_possible=passkeys.possible,
    )


@router.post("/sign-in", dependencies=[Public, FromOwnPages])
async def ask_for_code(
    sign_in: SignIn, settings: Configured, client: FromClient, now: Now, email: Text = "", next: Text = ""
) -> Response:
    """Sends a code and leads to the page for it. The same for every address of an allowed domain."""
    return await _ask(sign_in, settings, client, now, email, _with_next("/sign-in/code", next))


async def _ask(
    sign_in: SignInService, settings: Settings, client: Client, now: datetime, email: str, onwards: str
) -> Response:
    asked = await sign_in.ask(email[:1000], client, now)
    response = see_other(onwards)
    set_challenge(response, settings, asked.cookie, on_page=True)
    return response


@router.get("/sign-in/code", dependencies=[Public])
async def code_page(
    request: Request,
    sign_in: SignIn,
    settings: Configured,
    mail: Mail,
    now: Now,
    visitor: MaybeVisitor,
    next: str = "",
    letters: bool = False,
) -> Response:
    """Asks for the code, or offers a new one where it cannot work any more; leads back when none was asked for here."""
    if visitor:
        return see_other(local_path(next))
    before = await _asked_before(request, sign_in, settings, now)
    if before is None:
        return see_other(_with_next("/sign-in", next, "expired"))
    refused = after_form(request, None, "/sign-in/code", "/sign-in/resend")
    field = "resend" if refused and refused.action.endswith("resend") else "code"
    following = local_path(next, "") or local_path(refused.values.get("next", "") if refused else "", "")
    return page(
        request,
        "sign_in_code.html",
        None,
        email=before.address,
        state=before.state,
        next=following,
        errors=Problems({field: refused.detail}) if refused else Problems(),
        remember=refused is not None and refused.values.get("remember") == "true",
        letters=letters,
        letters_path=_with_next("/sign-in/code", following) + ("&" if following else "?") + "letters=1",
        wait_seconds=0 if refused else RESEND_WAIT_SECONDS,
        mail_trouble=mail.failing,
        mail_look_seconds=MAIL_LOOK_SECONDS,
    )


@router.post("/sign-in/code", dependencies=[Public, FromOwnPages])
async def verify(
    request: Request,
    sign_in: SignIn,
    settings: Configured,
    client: FromClient,
    now: Now,
    code: Text = "",
    remember: Text = "",
    next: Text = "",
) -> Response:
    """Signs in with the code that this browser asked for."""
    cookie = request.cookies.get(CookieNames.of(settings).challenge)
    stay = remember == "true"
    signed_in = await sign_in.verify(cookie, code[:100], stay, client, now)
    response = see_other(local_path(next))
    set_login(response, settings, signed_in, remember=stay)
    return response


@router.post("/sign-in/resend", dependencies=[Public, FromOwnPages])
async def resend(
    request: Request, sign_in: SignIn, settings: Configured, client: FromClient, now: Now, next: Text = ""
) -> Response:
    """Sends another code to the address that this browser asked for last, also when that code has expired."""
    before = await _asked_before(request, sign_in, settings, now)
    if before is None:
        return see_other(_with_next("/sign-in", next, "expired"))
    return await _ask(sign_in, settings, client, now, before.address, _with_next("/sign-in/code", next, "sent"))


async def _asked_before(
    request: Request, sign_in: SignInService, settings: Settings, now: datetime
) -> AskedBefore | None:
    """What this browser asked for, as long as its code page is of use: not after it signed in with it."""
    cookie = request.cookies.get(CookieNames.of(settings).challenge)
    before = await sign_in.asked_before(cookie, now)
    return before if before is not None and before.state is not ChallengeState.USED else None


@router.post("/sign-out")
async def sign_out(visitor: CurrentUser, settings: Configured, logins: Logins) -> Response:
    """Ends this browser's login, and with it its way into instances."""
    if visitor.login is not None:
        await logins.sign_out(visitor.user, visitor.login, visitor.client, visitor.now)
    response = see_other("/?said=signed-out")
    drop_cookie(response, settings, CookieNames.of(settings).login)
    return response
