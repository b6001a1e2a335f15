"""Jinja2 set up for the pages: strict, auto-escaping, with the filters and the address of static files."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse

from ...domain.sizes import describe_bytes, describe_cpus, describe_days
from ...services.platform import Platform
from ...settings import Settings
from ..deps import Visitor, platform_of
from ..schemas import Me
from . import words

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
    )
    env.filters |= {
        "size": describe_bytes,
        "cores": describe_cpus,
        "days": describe_days,
        "left": words.left_in_words,
        "ago": words.ago_in_words,
        "exact": words.exact,
        "short": words.short,
        "iso": _iso,
        "device": words.device_in_words,
    }
    env.globals |= {"static": static_url}
    return env


@dataclass(frozen=True)
class PublicSettings:
    """What of the settings every visitor may see."""

    public_url: str
    host: str
    remember_days: int
    code_minutes: int
    allowed_domains: tuple[str, ...]
    semi_trusted: bool
    help_url: str
    help_contact: str

    @property
    def help_mailbox(self) -> str:
        """The contact when it is an e-mail address, which a page can link to; else empty."""
        return self.help_contact if re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", self.help_contact) else ""

    @classmethod
    def of(cls, settings: Settings) -> PublicSettings:
        return cls(
            public_url=settings.public_url,
            host=urlsplit(settings.public_url).netloc,
            remember_days=settings.sign_in.remember_days,
            code_minutes=settings.sign_in.code_minutes,
            allowed_domains=settings.sign_in.allowed_domains,
            semi_trusted=settings.public_url == settings.instances_url,
            help_url=settings.help_url,
            help_contact=settings.help_contact,
        )


# What a redirect says on the page it leads to, as `?said=…`: a code, so that no link can put words into our mouth.
SAID = {
    "launched": ("done", "Starting."),
    "stopping": ("done", "Stopping. Files in the home folder are kept."),
    "extended": ("done", "Extended."),
    "forgotten": ("done", "Removed from list."),
    "signed-out": ("done", "You are signed out."),
    "expired": ("info", "That sign-in took too long, or began in another browser. Ask for a new code."),
    "sent": ("done", "New code sent. Only the newest one works."),
    "revoked": ("done", "Token revoked."),
    "ended-login": ("done", "Browser signed out."),
    "ended-logins": ("done", "All other browsers signed out."),
    "signed-out-everywhere": ("done", "You are signed out everywhere."),
    "passkey-added": ("done", "Passkey added. You can use it the next time you sign in."),
    "passkey-removed": ("done", "Passkey removed. Remove it from the device as well."),
    "confirmed": ("done", "Identity confirmed."),
    "saved": ("done", "Saved."),
    "admin-stopping": ("done", "Stopping. The owner is told that an administrator stopped it."),
}


def me_of(platform: Platform, visitor: Visitor) -> Me:
    return Me.of(visitor.user, platform.logins.csrf_token(visitor.login) if visitor.login else None)


def page(
    request: Request, template: str, visitor: Visitor | None, *, status: int = 200, **context: Any
) -> HTMLResponse:
    """A template as a response, with what every page gets: `me`, `settings_public`, `flash`, `now`."""
    platform = platform_of(request)
    said = SAID.get(request.query_params.get("said", ""))
    text = (
        environment()
        .get_template(template)
        .render(
            me=me_of(platform, visitor) if visitor else None,
            settings_public=PublicSettings.of(platform.settings),
            flash=[{"kind": said[0], "text": said[1]}] if said else [],
            now=visitor.now if visitor else platform.now(),
            **context,
        )
    )
    return HTMLResponse(text, status)


def see_other(path: str) -> RedirectResponse:
    """After a form: the browser gets the next page with a GET, so that reloading sends nothing twice."""
    return RedirectResponse(path, status_code=303)


def local_path(text: str, default: str = "/dashboard") -> str:
    """`text` when it is a path of the portal itself, else `default`: nobody is sent elsewhere after sign-in."""
    unprintable = any(ord(sign) < 0x20 or ord(sign) == 0x7F for sign in text)
    if len(text) > 4000 or unprintable or "\\" in text or not text.startswith("/") or text.startswith("//"):
        return default
    return text
