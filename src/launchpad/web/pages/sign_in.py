"""Sign-in by e-mail code, in two pages, and sign-out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from ...domain.return_paths import as_parameter
from ...errors import InvalidInput, TooManyRequests, WrongCode
from ...services.platform import Platform
from ..cookies import CookieNames, drop_cookie, set_cookie, set_login
from ..deps import CurrentUser, FromClient, FromOwnPages, Here, MaybeVisitor, Public
from .rendering import local_path, page, see_other
from .views import Problems

router = APIRouter()

RESEND_WAIT_SECONDS = 30
MAIL_LOOK_SECONDS = 10
Text = Annotated[str, Form()]


def _with_next(path: str, following: str, said: str = "") -> str:
    parts = [f"said={said}"] if said else []
    if following := local_path(following, ""):
        parts.append(f"next={as_parameter(following)}")
    return path + ("?" + "&".join(parts) if parts else "")


@router.get("/sign-in", dependencies=[Public])
async def sign_in_page(request: Request, platform: Here, visitor: MaybeVisitor, next: str = "") -> Response:
    """Asks for the address; who is signed in already goes on."""
    if visitor:
        return see_other(local_path(next))
    return _address_page(request, platform, next)


def _address_page(
    request: Request,
    platform: Platform,
    following: str,
    *,
    status: int = 200,
    email: str = "",
    errors: Problems | None = None,
) -> Response:
    return page(
        request,
        "sign_in.html",
        None,
        status=status,
        next=local_path(following, ""),
        email=email,
        errors=errors or Problems(),
        passkeys_possible=platform.passkeys.possible,
    )


@router.post("/sign-in", dependencies=[Public, FromOwnPages])
async def ask_for_code(
    request: Request, platform: Here, client: FromClient, email: Text = "", next: Text = ""
) -> Response:
    """Sends a code, where the address may sign in, and leads to the page for it. The same for every address."""
    try:
        return await _ask(platform, client, email, _with_next("/sign-in/code", next))
    except (InvalidInput, TooManyRequests) as error:
        problems = Problems(error.fields or {"email": error.detail})
        return _address_page(request, platform, next, status=error.status, email=email[:254], errors=problems)


async def _ask(platform: Platform, client: FromClient, email: str, onwards: str) -> Response:
    asked = await platform.sign_in.ask(email[:1000], client, platform.now())
    response = see_other(onwards)
    names = CookieNames.of(platform.settings)
    seconds = platform.settings.sign_in.code_minutes * 60
    set_cookie(response, platform.settings, names.challenge, asked.cookie, seconds=seconds)
    return response


@router.get("/sign-in/code", dependencies=[Public])
async def code_page(
    request: Request, platform: Here, visitor: MaybeVisitor, next: str = "", letters: bool = False
) -> Response:
    """Asks for the code; leads back when this browser has not asked for one."""
    if visitor:
        return see_other(local_path(next))
    address = await _address(request, platform)
    if address is None:
        return see_other(_with_next("/sign-in", next, "expired"))
    return _code_page(request, platform, address, next, letters=letters, wait_seconds=RESEND_WAIT_SECONDS)


@router.post("/sign-in/code", dependencies=[Public, FromOwnPages])
async def verify(
    request: Request,
    platform: Here,
    client: FromClient,
    code: Text = "",
    remember: Text = "",
    next: Text = "",
) -> Response:
    """Signs in with the code that this browser asked for."""
    names = CookieNames.of(platform.settings)
    cookie = request.cookies.get(names.challenge)
    stay = remember == "true"
    try:
        signed_in = await platform.sign_in.verify(cookie, code[:100], stay, client, platform.now())
    except (WrongCode, TooManyRequests) as error:
        address = await _address(request, platform)
        if address is None:
            return see_other(_with_next("/sign-in", next, "expired"))
        problems = Problems({"code": error.detail})
        return _code_page(request, platform, address, next, status=error.status, errors=problems, remember=stay)
    response = see_other(local_path(next))
    set_login(response, platform.settings, signed_in, remember=stay)
    return response


@router.post("/sign-in/resend", dependencies=[Public, FromOwnPages])
async def resend(request: Request, platform: Here, client: FromClient, next: Text = "") -> Response:
    """Sends another code to the address of this browser's challenge; only the newest works."""
    address = await _address(request, platform)
    if address is None:
        return see_other(_with_next("/sign-in", next, "expired"))
    try:
        return await _ask(platform, client, address, _with_next("/sign-in/code", next, "sent"))
    except TooManyRequests as error:
        problems = Problems({"resend": error.detail})
        return _code_page(request, platform, address, next, status=error.status, errors=problems)


async def _address(request: Request, platform: Platform) -> str | None:
    cookie = request.cookies.get(CookieNames.of(platform.settings).challenge)
    return await platform.sign_in.address_of(cookie, platform.now())


def _code_page(
    request: Request,
    platform: Platform,
    address: str,
    following: str,
    *,
    status: int = 200,
    errors: Problems | None = None,
    remember: bool = False,
    letters: bool = False,
    wait_seconds: int = 0,
) -> Response:
    return page(
        request,
        "sign_in_code.html",
        None,
        status=status,
        email=address,
        next=local_path(following, ""),
        errors=errors or Problems(),
        remember=remember,
        letters=letters,
        letters_path=_with_next("/sign-in/code", following) + ("&" if local_path(following, "") else "?") + "letters=1",
        wait_seconds=wait_seconds,
        mail_trouble=platform.mail.failing,
        mail_look_seconds=MAIL_LOOK_SECONDS,
    )


@router.post("/sign-out")
async def sign_out(visitor: CurrentUser, platform: Here) -> Response:
    """Ends this browser's login, and with it its way into instances."""
    if visitor.login is not None:
        await platform.logins.sign_out(visitor.user, visitor.login, visitor.client, visitor.now)
    response = see_other("/?said=signed-out")
    drop_cookie(response, platform.settings, CookieNames.of(platform.settings).login)
    return response
