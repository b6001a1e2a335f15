"""Signing in with a passkey: two calls of the sign-in page's script."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from ...domain.return_paths import RETURN_PATH_MAX
from ...services.passkeys import LASTS
from ..cookies import CookieNames, set_cookie, set_login
from ..deps import FromClient, FromOwnPages, Here, Public
from .rendering import local_path

router = APIRouter(prefix="/sign-in/passkey")


class Touch(BaseModel):
    """What `navigator.credentials.get` gave, as JSON, and where to go on."""

    credential: dict[str, Any]
    remember: bool = False
    next: str = Field("", max_length=RETURN_PATH_MAX)


@router.post("/options", dependencies=[Public, FromOwnPages])
async def options(platform: Here) -> JSONResponse:
    """What the browser is to have signed, for any passkey of this site."""
    asked = await platform.passkeys.ask_to_sign_in(platform.now())
    response = JSONResponse(asked.options)
    name = CookieNames.of(platform.settings).passkey
    set_cookie(response, platform.settings, name, asked.cookie, seconds=LASTS.total_seconds())
    return response


@router.post("", dependencies=[Public, FromOwnPages])
async def sign_in(body: Touch, request: Request, platform: Here, client: FromClient) -> JSONResponse:
    """Signs in the owner of the passkey."""
    cookie = request.cookies.get(CookieNames.of(platform.settings).passkey)
    signed_in = await platform.passkeys.sign_in(cookie, body.credential, body.remember, client, platform.now())
    response = JSONResponse({"location": local_path(body.next)})
    set_login(response, platform.settings, signed_in, remember=body.remember)
    return response
