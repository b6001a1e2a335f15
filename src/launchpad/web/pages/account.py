"""What the platform knows of the signed-in user: who they are, where they are signed in, their API tokens."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from ...domain.times import time_zones
from ...errors import Forbidden, NotFound
from ..cookies import CookieNames, drop_cookie
from ..deps import Catalogue, Configured, CurrentUser, Ledger, Logins, Passkeys, Present, Tokens, Users, Visitor
from ..views.devices import devices_in_words
from ..views.ledger import ledger_rows
from ..views.values import NewToken, Problems
from .after_form import AfterForm, leave
from .dashboard import home_path
from .rendering import after_form, page, saying, see_other

router = APIRouter(prefix="/account", include_in_schema=False)

TOKENS = "/account/tokens"
LATEST = 5  # entries of the access ledger


class NewPasskey(BaseModel):
    """What `navigator.credentials.create` gave, as JSON, and what its owner calls the device."""

    credential: dict[str, Any]
    name: str = Field("", max_length=200)


@router.get("")
async def account(
    request: Request,
    visitor: CurrentUser,
    present: Present,
    logins: Logins,
    passkeys: Passkeys,
    tokens: Tokens,
    ledger: Ledger,
    catalogue: Catalogue,
) -> Response:
    """With a token that was just made: its secret is shown this once and kept nowhere."""
    after = after_form(request, visitor, TOKENS)
    zone_refused = after_form(request, visitor, "/account/time-zone")
    typed = after.values if after else {}
    new_token = NewToken(typed["name"], typed["secret"]) if "secret" in typed else None
    logged_in = await logins.of_user(visitor.user, visitor.now)
    return page(
        request,
        "account.html",
        visitor,
        home_path=home_path(visitor),
        home=await present.home_card(visitor.user),
        allowance=await present.allowance(visitor.user, await present.live_of(visitor.user)),
        logins=logged_in,
        devices=await devices_in_words(login.user_agent for login in logged_in),
        this_login_id=visitor.login.id if visitor.login else None,
        passkeys=await passkeys.of_user(visitor.user),
        passkeys_possible=passkeys.possible and visitor.login is not None,
        time_zones=time_zones(),
        time_zone_problem=zone_refused.detail if zone_refused else "",
        ledger=ledger_rows((await ledger.page(visitor.user, limit=LATEST))[0], catalogue),
        tokens=await tokens.of_user(visitor.user),
        new_token=new_token,
        token_name="" if new_token else typed.get("name", ""),
        errors=Problems({"name": after.detail}) if after and after.detail else Problems(),
    )


@router.post("/tokens")
async def create_token(
    request: Request, visitor: CurrentUser, tokens: Tokens, name: Annotated[str, Form()] = ""
) -> Response:
    """Leads to the account page, which shows the secret."""
    token, secret = await tokens.create(visitor.user, name, visitor.actor, visitor.now)
    made = AfterForm(TOKENS, {"name": token.name, "secret": secret})
    return leave(request, visitor, "/account", made)


@router.post("/time-zone")
async def set_time_zone(visitor: CurrentUser, users: Users, time_zone: Annotated[str, Form()] = "") -> Response:
    """In which zone pages and mails tell times."""
    changed = await users.set_time_zone(visitor.user, time_zone.strip())
    return _told(visitor, "time-zone", changed.time_zone or "")


@router.post("/tokens/{token_id}/revoke")
async def revoke_token(token_id: str, visitor: CurrentUser, tokens: Tokens) -> Response:
    names = {token.id: token.name for token in await tokens.of_user(visitor.user)}
    await tokens.revoke(visitor.user, token_id, visitor.actor, visitor.now)
    return _told(visitor, "revoked", names.get(token_id, ""))


@router.post("/logins/{login_id}/end")
async def end_login(login_id: str, visitor: CurrentUser, logins: Logins) -> Response:
    """Signs another browser out; one that is not signed in any more is no error."""
    there = {login.id: login for login in await logins.of_user(visitor.user, visitor.now)}
    try:
        await logins.end(visitor.user, login_id, visitor.client, visitor.now)
    except NotFound:
        return see_other("/account")
    device = next(iter((await devices_in_words([there[login_id].user_agent])).values())) if login_id in there else ""
    return _told(visitor, "ended-login", device[:1].upper() + device[1:])


@router.post("/logins/end-all")
async def end_all_logins(
    visitor: CurrentUser, settings: Configured, logins: Logins, here: Annotated[str, Form()] = ""
) -> Response:
    """Signs every browser out; with `here` = "stay" every other one."""
    keep = visitor.login if here == "stay" else None
    await logins.end_all(visitor.user, visitor.client, visitor.now, keep=keep)
    if keep is not None:
        return see_other("/account?said=ended-logins")
    response = see_other("/?said=signed-out-everywhere")
    drop_cookie(response, settings, CookieNames.of(settings).login)
    return response


@router.post("/passkeys/options")
async def passkey_options(visitor: CurrentUser, passkeys: Passkeys) -> JSONResponse:
    """What the page's script hands to the browser, so that the device makes a passkey."""
    if visitor.login is None:
        raise Forbidden("A passkey is added in a browser where you are signed in.")
    return JSONResponse(await passkeys.ask_to_add(visitor.user, visitor.login, visitor.now))


@router.post("/passkeys")
async def add_passkey(body: NewPasskey, visitor: CurrentUser, passkeys: Passkeys) -> JSONResponse:
    """Keeps what the device made."""
    if visitor.login is None:
        raise Forbidden("A passkey is added in a browser where you are signed in.")
    passkey = await passkeys.add(visitor.user, visitor.login, body.credential, body.name, visitor.actor, visitor.now)
    where = f"/account?{urlencode(saying(visitor, 'passkey-added', passkey.name))}"
    return JSONResponse({"id": passkey.id, "location": where}, status_code=201)


@router.post("/passkeys/{passkey_id}/remove")
async def remove_passkey(passkey_id: str, visitor: CurrentUser, passkeys: Passkeys) -> Response:
    names = {passkey.id: passkey.name for passkey in await passkeys.of_user(visitor.user)}
    await passkeys.remove(visitor.user, passkey_id, visitor.actor, visitor.now)
    return _told(visitor, "passkey-removed", names.get(passkey_id, ""))


def _told(visitor: Visitor, code: str, about: str) -> Response:
    return see_other(f"/account?{urlencode(saying(visitor, code, about))}")
