"""Every error as `application/problem+json` (RFC 9457) for programs, and as a page for people."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from ..domain.return_paths import as_parameter
from ..errors import ConfirmAgain, InvalidInput, LaunchpadError, NotFound, NotSignedIn
from .deps import visitor_of
from .pages.after_form import is_form, page_of, refused
from .pages.errors import error_page

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
_BODY_PLACES = {"body", "query", "path", "header", "cookie"}


def problem(error: LaunchpadError) -> dict[str, Any]:
    """The body of RFC 9457, with `errors` (field → what is wrong) for bad input."""
    body: dict[str, Any] = {
        "type": f"about:blank#{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
    }
    if error.fields:
        body["errors"] = [{"field": field, "message": message} for field, message in error.fields.items()]
    return body


def install(app: FastAPI) -> None:
    """Makes every error of the app answer in one of the two forms."""

    @app.exception_handler(LaunchpadError)
    async def on_error(request: Request, error: LaunchpadError) -> Response:
        if error.status >= 500:
            log.warning("request.failed", path=request.url.path, error=error.code, detail=error.detail)
        return await _respond(request, error)

    @app.exception_handler(RequestValidationError)
    async def on_bad_input(request: Request, error: RequestValidationError) -> Response:
        fields = {}
        for found in error.errors():
            if found["type"] == "json_invalid":  # its place is an offset into the text
                fields["body"] = "this is not valid JSON"
                continue
            first, *rest = found["loc"] or ("body",)
            place = [str(part) for part in ([] if first in _BODY_PLACES else [first]) + rest]
            fields[".".join(place) or "body"] = str(found["msg"]).removeprefix("Value error, ")
        if is_form(request):  # each text stands at its field
            return await _respond(request, InvalidInput("Some of this cannot be used as it is.", fields=fields))
        text = "; ".join(f"{field}: {message}" for field, message in fields.items())
        return await _respond(request, InvalidInput(f"That input cannot be used. {text}.", fields=fields))

    @app.exception_handler(HTTPException)
    async def on_http_exception(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return await _respond(request, NotFound("This page does not exist."))
        other = LaunchpadError(str(error.detail))
        other.status, other.title, other.code = error.status_code, str(error.detail), "http"
        response = await _respond(request, other)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def on_fault(request: Request, error: Exception) -> Response:
        log.error("request.fault", path=request.url.path, exc_info=error)
        fault = LaunchpadError("The error has been logged. Please try again.")
        return await _respond(request, fault, is_fault=True)


async def _respond(request: Request, error: LaunchpadError, *, is_fault: bool = False) -> Response:
    if _wants_page(request):
        if is_form(request) and not is_fault:
            return await _after_form(request, error)
        if isinstance(error, NotSignedIn) and request.method == "GET":
            return RedirectResponse(sign_in_address(request), status_code=303)
        if isinstance(error, ConfirmAgain) and request.method == "GET":
            return RedirectResponse(f"/confirm?next={_here(request)}", status_code=303)
        response = await error_page(request, error)
    else:
        response = JSONResponse(problem(error), status_code=error.status, media_type=MEDIA_TYPE)
        if error.status == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="launchpad"'
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


async def _after_form(request: Request, error: LaunchpadError) -> Response:
    """Every form is answered with a redirect, a refused one as well: to its page, or where somebody has to go first."""
    if isinstance(error, NotSignedIn):
        return RedirectResponse(f"/sign-in?said=signed-out-meanwhile&next={as_parameter(page_of(request))}", 303)
    try:
        visitor = await visitor_of(request)
    except LaunchpadError:  # the database is away: the page cannot be shown either
        visitor = None
    return await refused(request, visitor, error)


def sign_in_address(request: Request) -> str:
    """The sign-in page, which comes back to this address afterwards."""
    return f"/sign-in?next={_here(request)}"


def _here(request: Request) -> str:
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return as_parameter(path)


def _wants_page(request: Request) -> bool:
    if request.url.path.startswith(("/api/", "/gate/", "/metrics", "/healthz", "/readyz")):
        return False
    return "text/html" in request.headers.get("Accept", "")
