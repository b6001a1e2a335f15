"""Signing in with a passkey: two calls of the sign-in page's script."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from ...domain.return_paths import RETURN_PATH_MAX
from ...services.passkeys import LASTS
from ..cookies import CookieNames, set_cookie, set_login
from ..deps import Configured, FromClient, FromOwnPages, Now, Passkeys, Public
from .rendering import local_path

router = APIRouter(prefix="/sign-in/passkey", include_in_schema=False)


class Touch(BaseModel):
    """What `navigator.credentials.get` gave, as JSON, and where to go on."""

    credential: dict[str, Any]
    remember: bool = False
    next: str = Field("", max_length=RETURN_PATH_MAX)


@router.post("/options", dependencies=[Public, FromOwnPages])
async def options(settings: Configured, own: Passkeys, now: Now) -> JSONResponse:
    """What the browser is to have signed, for any passkey of this site."""
    asked = await own.ask_to_sign_in(now)
    response = JSONResponse(asked.options)
    name = CookieNames.of(settings).passkey
    set_cookie(response, settings, name, asked.cookie, seconds=LASTS.total_seconds())
    return response


@router.post("", dependencies=[Public, FromOwnPages])
async def sign_in(
    body: Touch, request: Request, settings: Configured, own: Passkeys, client: FromClient, now: Now
) -> JSONResponse:
    """Signs in the owner of the passkey."""
    cookie = request.cookies.get(CookieNames.of(settings).passkey)
    signed_in = await own.sign_in(cookie, body.credential, body.remember, client, now)
    response = JSONResponse({"location": local_path(body.next)})
    set_login(response, settings, signed_in, remember=body.remember)
    return response
