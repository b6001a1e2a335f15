"""Sign-in, sign-out and who I am."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from ...errors import WrongCode
from ...services.signin import NO_CODE
from ..cookies import CookieNames, drop_cookie, set_challenge, set_login
from ..deps import Configured, CurrentUser, FromClient, FromOwnPages, Logins, Now, Present, Public, SignIn, Users
from ..schemas import Asked, LoginView, Me, MePatchBody, SignedInView, SignInBody, VerifyBody
from .responses import PROBLEMS, ROOT

router = APIRouter(prefix=ROOT, tags=["sign-in"], responses=PROBLEMS)


@router.post("/sign-in", status_code=202, dependencies=[Public, FromOwnPages])
async def ask_for_code(
    body: SignInBody, response: Response, sign_in: SignIn, settings: Configured, client: FromClient, now: Now
) -> Asked:
    """Sends a code. The answer is the same for every address of an allowed domain; others are refused (422)."""
    asked = await sign_in.ask(body.email, client, now)
    set_challenge(response, settings, asked.cookie)
    return Asked(challenge_id=asked.id, expires_at=asked.expires_at)


@router.post("/sign-in/verify", dependencies=[Public, FromOwnPages])
async def verify(
    body: VerifyBody,
    request: Request,
    response: Response,
    sign_in: SignIn,
    logins: Logins,
    settings: Configured,
    client: FromClient,
    now: Now,
    present: Present,
) -> SignedInView:
    """Signs in with the code. Needs the challenge cookie of the call before."""
    names = CookieNames.of(settings)
    cookie = request.cookies.get(names.challenge)
    if not cookie:
        raise WrongCode(NO_CODE)
    signed_in = await sign_in.verify(cookie, body.code, body.remember, client, now)
    set_login(response, settings, signed_in, remember=body.remember)
    home = await present.home_use(signed_in.user)
    return SignedInView(user=Me.of(signed_in.user, logins.csrf_token(signed_in.login), home))


@router.post("/sign-out", status_code=204)
async def sign_out(visitor: CurrentUser, response: Response, settings: Configured, logins: Logins) -> None:
    """Signs this browser out, and ends its access to instances."""
    if visitor.login is not None:
        await logins.sign_out(visitor.user, visitor.login, visitor.client, visitor.now)
    drop_cookie(response, settings, CookieNames.of(settings).login)


@router.get("/logins")
async def list_logins(visitor: CurrentUser, logins: Logins) -> list[LoginView]:
    """Where you are signed in, the latest used first."""
    found = await logins.of_user(visitor.user, visitor.now)
    return [LoginView.of(login, visitor.login) for login in found]


@router.delete("/logins/{login_id}", status_code=204)
async def end_login(login_id: str, visitor: CurrentUser, logins: Logins) -> None:
    """Signs one of your browsers out."""
    await logins.end(visitor.user, login_id, visitor.client, visitor.now)


@router.post("/sign-out-everywhere", status_code=204)
async def sign_out_everywhere(visitor: CurrentUser, response: Response, settings: Configured, logins: Logins) -> None:
    """Ends every login, this one too; personal tokens stay until they are revoked."""
    await logins.end_all(visitor.user, visitor.client, visitor.now)
    drop_cookie(response, settings, CookieNames.of(settings).login)


@router.get("/me")
async def me(visitor: CurrentUser, present: Present) -> Me:
    return Me.of(visitor.user, visitor.csrf_token or None, await present.home_use(visitor.user))


@router.patch("/me")
async def change_me(body: MePatchBody, visitor: CurrentUser, users: Users, present: Present) -> Me:
    """Sets the time zone in which pages and e-mails tell times."""
    changed = await users.set_time_zone(visitor.user, body.time_zone, only_if_unknown=body.only_if_unknown)
    return Me.of(changed, visitor.csrf_token or None, await present.home_use(changed))
