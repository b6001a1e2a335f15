"""Jinja2 set up for the pages: strict, auto-escaping, with the filters and the address of static files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from ...domain.return_paths import RETURN_PATH_MAX, as_parameter, from_parameter
from ...domain.sizes import describe_bytes, describe_cpus, describe_days
from ...domain.times import zone_of
from ..cookies import drop_cookie
from ..deps import Visitor
from ..views import words
from .after_form import AfterForm, left
from .flash import Flash, Text, read, told
from .frame import Frame, frame_of

WEB = Path(__file__).resolve().parent.parent
TEMPLATES = WEB / "templates"
STATIC = WEB / "static"


@cache
def static_version() -> str:
    """Changes with any static file; it stands in their path, so browsers may keep them for good."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def static_url(name: str) -> str:
    return f"/static/{static_version()}/{name}"


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


@cache
def environment() -> jinja2.Environment:
    """A name that a template uses and nobody passed raises, rather than showing an empty place."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    env.filters |= {
        "size": describe_bytes,
        "cores": describe_cpus,
        "days": describe_days,
        "left": words.left_in_words,
        "ago": words.ago_in_words,
        "exact": words.exact,
        "short": words.short,
        "dated": words.dated,
        "local": words.local,
        "iso": _iso,
        "breaks": words.with_breaks,
        "initials": words.initials,
        "next_parameter": as_parameter,
    }
    env.globals |= {"static": static_url}
    return env


def load_templates() -> None:
    """All of them, so that nobody's first page waits until it is compiled, and what that takes is given back before."""
    for name in environment().list_templates():
        environment().get_template(name)


# What a redirect says on the page it leads to, as `?said=…`; see `flash.py`.
SAID = {
    "launched": Text("done", "Starting.", "{about} is starting"),
    "queued": Text("done", "Queued.", "{about} is queued"),
    "running": Text("info", "Already running.", "{about} is already running"),
    "stopping": Text("done", "Stopping. Files are kept.", "{about} is stopping. Files are kept."),
    "cancelled": Text("done", "Launch cancelled.", "Launch of {about} cancelled"),
    "extended": Text("done", "Extended.", "{about} extended until {until}"),
    "more-memory": Text("done", "More memory.", "{about} of memory from now on"),
    "freezing": Text("done", "Freezing.", "{about} is being frozen"),
    "thawed": Text("done", "Thawed.", "{about} continues where it was"),
    "kept": Text("done", "Kept running.", "{about} is kept running until {until}"),
    "not-kept": Text("done", "No longer kept running.", "{about} is stopped or frozen as usual when it is idle"),
    "removed": Text("done", "Removed from list.", "{about} removed from list"),
    "signed-out": Text("done", "You are signed out."),
    "expired": Text("info", "That sign-in took too long, or began in another browser. Ask for a new code."),
    "sent": Text("done", "New code sent. Only the newest one works."),
    "signed-out-meanwhile": Text("info", "You are signed out, so nothing was changed. Sign in to continue."),
    "revoked": Text("done", "Token revoked.", "Token “{about}” revoked"),
    "ended-login": Text("done", "Browser signed out.", "{about} signed out"),
    "ended-logins": Text("done", "All other browsers signed out."),
    "signed-out-everywhere": Text("done", "You are signed out everywhere."),
    "passkey-added": Text(
        "done", "Passkey added.", "Passkey “{about}” added. You can use it the next time you sign in."
    ),
    "passkey-removed": Text(
        "done", "Passkey removed.", "Passkey “{about}” removed. Remove it from the device as well."
    ),
    "confirmed": Text("done", "Identity confirmed."),
    "announced": Text("done", "Announced."),
    "withdrawn": Text("done", "Withdrawn."),
    "time-zone": Text("done", "Time zone saved.", "Times are shown in {about} now"),
    "saved": Text("done", "Saved.", "{about} saved"),
    "lab-made": Text("done", "Lab created.", "{about} created"),
    "lab-asked": Text(
        "done", "If there is such a lab, its leads were asked.", "If there is a lab “{about}”, its leads were asked"
    ),
    "lab-added": Text("done", "Added.", "{about} added"),
    "lab-removed": Text("done", "Removed.", "{about} removed"),
    "lab-lead": Text("done", "Saved.", "{about} leads this lab"),
    "lab-unlead": Text("done", "Saved.", "{about} no longer leads this lab"),
    "lab-declined": Text("done", "Declined.", "Request of {about} declined"),
    "lab-left": Text("done", "You left the lab.", "You left {about}"),
    "suspended": Text("done", "Suspended.", "{about} suspended"),
    "removed-user": Text("done", "Removed.", "{about} removed. The home folder is archived after warnings by e-mail."),
    "home-work": Text("done", "Begun.", "{about} has started. It continues when you leave this page."),
    "reactivated": Text("done", "Reactivated.", "{about} reactivated"),
    "folder-made": Text("done", "Folder created.", "Folder “{about}” created"),
    "renamed": Text("done", "Renamed.", "Renamed to “{about}”"),
    "moved": Text("done", "Moved.", "{about} moved"),
    "copied": Text("done", "Copied.", "{about} copied"),
    "erased": Text("done", "Deleted permanently.", "{about} deleted permanently"),
    "uploaded": Text("done", "Uploaded.", "{about} uploaded"),
    "restored": Text("done", "Restored.", "{about} restored"),
    "restored-in-place": Text("done", "Restored.", "{about} restored. What was there before is in the Trash."),
    "shared": Text("done", "Shared.", "“{about}” is shared. Send the link to those who may read it."),
    "not-shared": Text("done", "No longer shared."),
    "trash-emptied": Text("done", "Trash emptied."),
    "cache-emptied": Text("done", "Cache emptied.", "{about} emptied"),
    "admin-stopping": Text(
        "done", "Stopping.", "{about} is stopping. The owner is told that an administrator stopped it."
    ),
}


@dataclass(frozen=True)
class Myself:
    """The one who looks at a page, as far as pages show it. `csrf_token` is empty with a personal token."""

    id: str
    email: str
    username: str
    role: str
    lab: str | None
    csrf_token: str
    time_zone: str | None = None

    @classmethod
    def of(cls, visitor: Visitor) -> Myself:
        user = visitor.user
        return cls(user.id, user.email, user.username, user.role.value, user.lab, visitor.csrf_token, user.time_zone)


def page(
    request: Request, template: str, visitor: Visitor | None, *, status: int = 200, **context: Any
) -> HTMLResponse:
    """A template as a response, with what every page gets: `me`, `settings_public`, `flash`, `now`."""
    frame = frame_of(request)
    now = visitor.now if visitor else frame.now()
    said = _said(request, visitor)
    flash = [said] if said else []
    after = left(request, visitor, now)
    if after is not None:
        status = after.status if status == 200 else status
        if after.detail and not getattr(request.state, "tells_after_form", False):
            flash.append(Flash("bad", (_whole(after),)))
    me = Myself.of(visitor) if visitor else None
    zone = me.time_zone if me else getattr(request.state, "reader_zone", None)
    given = {"now": now, "announcements": frame.announcements(now), **context}
    response = HTMLResponse(_render(frame, template, me, flash, zone, given), status)
    if after is not None:
        drop_cookie(response, frame.settings, frame.form_cookie)
        if after.code:
            response.headers["X-Launchpad-Problem"] = after.code  # for the pages' own scripts
        if after.retry_after_seconds is not None:
            response.headers["Retry-After"] = str(after.retry_after_seconds)
    return response


def kept_page(request: Request, template: str, visitor: Visitor, **context: Any) -> Response:
    """As `page`, of a template that knows no `now`: rendered again only when something that it shows has changed.

    A page that tells something once is not kept.
    """
    frame = frame_of(request)
    if request.scope["query_string"] and (_said(request, visitor) or left(request, visitor, visitor.now)):
        return page(request, template, visitor, **context)
    me = Myself.of(visitor)
    given = {"announcements": frame.announcements(visitor.now), **context}
    body = frame.kept.get(
        (template, visitor.login.id if visitor.login else me.id),
        (me, *given.items()),
        lambda: _render(frame, template, me, [], me.time_zone, given).encode(),
    )
    return Response(body, media_type="text/html")


def _render(
    frame: Frame,
    template: str,
    me: Myself | None,
    flash: Sequence[Flash],
    time_zone: str | None,
    context: Mapping[str, Any],
) -> str:
    before = words.reader_zone.set(zone_of(time_zone))
    try:
        return (
            environment()
            .get_template(template)
            .render(me=me, settings_public=frame.public, flash=flash, time_zone=time_zone or "", **context)
        )
    finally:
        words.reader_zone.reset(before)


def reads_in(request: Request, time_zone: str | None) -> None:
    """For a page without somebody who is signed in: in which zone its times are."""
    request.state.reader_zone = time_zone


def _said(request: Request, visitor: Visitor | None) -> Flash | None:
    said = request.query_params.get("said")
    return read(visitor.csrf_token if visitor else "", said, SAID) if said else None


def after_form(request: Request, visitor: Visitor | None, *actions: str) -> AfterForm | None:
    """What a form that was sent to one of `actions` has left for this page, which shows it by itself.

    What no page shows by itself stands above it as a message.
    """
    after = left(request, visitor, visitor.now if visitor else frame_of(request).now())
    if after is None or after.action not in actions:
        return None
    request.state.tells_after_form = True
    return after


def _whole(after: AfterForm) -> str:
    """The reason with what is wrong about fields that the page shows no place for."""
    told = [f"{field}: {text}" for field, text in after.fields.items() if text not in after.detail]
    return " ".join([after.detail, *told])


def saying(visitor: Visitor, code: str, about: str = "", until: datetime | None = None) -> dict[str, str]:
    """The query of a redirect that tells what happened to what; `code` is one of `SAID`."""
    return {"said": told(visitor.csrf_token, code, about, until)}


def see_other(path: str) -> RedirectResponse:
    """After a form: the browser gets the next page with a GET, so that reloading sends nothing twice."""
    return RedirectResponse(path, status_code=303)


def local_path(text: str, default: str = "/dashboard") -> str:
    """`text` when it is a path of the portal itself, else `default`: nobody is sent elsewhere after sign-in.

    Args:
        text: what came in a parameter `next`; a long one comes packed.
    """
    try:
        text = from_parameter(text)
    except ValueError:
        return default
    unprintable = any(ord(sign) < 0x20 or ord(sign) == 0x7F for sign in text)
    if len(text) > RETURN_PATH_MAX or unprintable or "\\" in text or not text.startswith("/") or text.startswith("//"):
        return default
    return text
