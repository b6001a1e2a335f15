"""What a form leaves for the page after it: a refused one its reason and what was typed, a new token its secret.

Every form of a page is answered with a redirect, so that going back or reloading never asks whether to send it again.
What the next page needs waits in a cookie: signed, short-lived, hidden from scripts, and bound to the page, the login
and an id in the page's address. Nothing of it is kept on the server.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException

from ...errors import ConfirmAgain, LaunchpadError
from ..cookies import set_cookie
from ..deps import CSRF_FIELD, Visitor, is_from_own_pages
from .frame import Frame, frame_of

LASTS = timedelta(minutes=10)
PARAMETER = "after"
COOKIE_MAX = 3800  # browsers keep 4096 bytes of a cookie with its name and attributes
VALUE_MAX = 1000
VALUES_MAX = 30
NEVER_KEPT = (CSRF_FIELD, "code")

# Where a form stands, if the browser does not say; the first that fits the beginning of its address.
_PAGES = tuple(
    (re.compile(address), page)
    for address, page in (
        (r"/sign-in/(?:code|resend)", "/sign-in/code"),
        (r"(/sign-in|/extend/[^/]+|/confirm|/account|/admin/users/[^/]+)", r"\1"),
        (r"(/labs)/requests", r"\1"),
        (r"(/labs/[^/]+|/admin/labs)", r"\1"),
        (r"(/admin/instances|/admin/limits|/admin/policies|/admin/mail|/admin/announcements|/admin)", r"\1"),
        (r"(/files/trash|/files/space|/files)", r"\1"),
        (r"", "/dashboard"),
    )
)


@dataclass(frozen=True)
class AfterForm:
    """What happened to the form that was sent to `action`; `status` is what an API call would have got."""

    action: str
    values: Mapping[str, str]
    status: int = 200
    code: str = ""
    detail: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    retry_after_seconds: int | None = None

    def problems(self) -> dict[str, str]:
        """What is wrong by field; with the key "" where it concerns the form as a whole."""
        return dict(self.fields or {"": self.detail}) if self.detail else {}


def is_form(request: Request) -> bool:
    """A form of one of our pages, sent by a browser; a program's call and another site's form get the bare status."""
    html = "text/html" in request.headers.get("Accept", "")
    return request.method == "POST" and html and "Origin" in request.headers and is_from_own_pages(request)


def page_of(request: Request) -> str:
    """The page that the form stands on, with its query."""
    told = urlsplit(request.headers.get("Referer", ""))
    if (
        told.path.startswith("/")
        and not told.path.startswith("//")
        and _is_here(request, f"{told.scheme}://{told.netloc}")
    ):
        given = parse_qsl(told.query, errors="surrogateescape")  # a path of a file may hold any bytes
        query = [(name, value) for name, value in given if name not in ("said", PARAMETER)]
        return told.path + (f"?{urlencode(query, errors='surrogateescape')}" if query else "")
    if told_by_handler := getattr(request.state, "form_page", ""):
        return str(told_by_handler)
    return next(found.expand(page) for address, page in _PAGES if (found := address.match(request.url.path)))


def stands_on(request: Request, page: str) -> None:
    """For a form that stands on several pages: which one, if the browser does not say."""
    request.state.form_page = page


def _is_here(request: Request, origin: str) -> bool:
    return origin.lower() == frame_of(request).settings.public_url


async def refused(request: Request, visitor: Visitor | None, error: LaunchpadError) -> Response:
    """Back to the page with the form, which tells why, and still holds what was typed."""
    page = page_of(request)
    after = AfterForm(
        action=request.url.path,
        values=await _typed(request),
        status=error.status,
        code=error.code,
        detail=error.detail,
        fields=error.fields,
        retry_after_seconds=error.retry_after_seconds,
    )
    onwards = "/confirm?" if isinstance(error, ConfirmAgain) else ""
    return leave(request, visitor, page, after, onwards)


async def _typed(request: Request) -> dict[str, str]:
    if not request.headers.get("Content-Type", "").startswith(("application/x-www-form-urlencoded", "multipart/")):
        return {}
    try:
        form = await request.form()
    except (HTTPException, RuntimeError):  # no form after all, or its text was taken by somebody else
        return {}
    kept = [(name, value[:VALUE_MAX]) for name, value in form.items() if isinstance(value, str)]
    return {name[:100]: value for name, value in kept[:VALUES_MAX] if name not in NEVER_KEPT}


def leave(
    request: Request, visitor: Visitor | None, page: str, after: AfterForm, onwards: str = ""
) -> RedirectResponse:
    """A redirect to `page`, or to `onwards` which leads there in the end; `page` finds `after` with `left`."""
    frame = frame_of(request)
    now = visitor.now if visitor else frame.now()
    id = secrets.token_urlsafe(6)
    path = page.partition("?")[0]
    content = {"id": id, "page": path, "login": _login_of(visitor), "until": (now + LASTS).timestamp(), **asdict(after)}
    sealed = _seal(frame, content)
    if len(sealed) > COOKIE_MAX:  # too much was typed to be kept
        sealed = _seal(frame, {**content, "values": {}})
    there = f"{page}{'&' if '?' in page else '?'}{PARAMETER}={id}"
    response = RedirectResponse(f"{onwards}{urlencode({'next': there})}" if onwards else there, status_code=303)
    set_cookie(response, frame.settings, frame.form_cookie, sealed, seconds=LASTS.total_seconds())
    return response


def left(request: Request, visitor: Visitor | None, now: datetime) -> AfterForm | None:
    """What a form has left for this page."""
    id = request.query_params.get(PARAMETER)
    if not id:
        return None
    frame = frame_of(request)
    sealed = request.cookies.get(frame.form_cookie)
    content = _open(frame, sealed) if sealed else None
    if content is None or content["id"] != id or content["page"] != request.url.path:
        return None
    if content["login"] != _login_of(visitor) or content["until"] < now.timestamp():
        return None
    return AfterForm(**{name: content[name] for name in AfterForm.__dataclass_fields__})


def _login_of(visitor: Visitor | None) -> str:
    return visitor.login.id if visitor is not None and visitor.login is not None else ""


def _seal(frame: Frame, content: Mapping[str, object]) -> str:
    text = zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 9)
    body = base64.urlsafe_b64encode(text).decode().rstrip("=")
    return f"{body}.{_mark(frame, body)}"


def _open(frame: Frame, sealed: str) -> dict[str, Any] | None:
    """Nothing that was not signed is even unpacked."""
    body, _, mark = sealed.partition(".")
    if not hmac.compare_digest(mark.encode(), _mark(frame, body).encode()):
        return None
    try:
        content = json.loads(zlib.decompress(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))
    except (binascii.Error, zlib.error, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _mark(frame: Frame, body: str) -> str:
    return hmac.new(frame.forms_key, body.encode(), hashlib.sha256).hexdigest()
