"""The platform's cookies: their names and how they are set."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ..domain.signin import Login
from ..services.logins import SignedIn
from ..settings import Settings

if TYPE_CHECKING:
    from fastapi import Response  # every command loads this module, and only the portal needs all of that

ADDRESS_KEPT_SECONDS = 3600
KNOWN_BROWSER_SECONDS = 400 * 24 * 3600  # the longest that browsers keep a cookie
EXPIRED_MAX = 200  # of one name, at different places; the answer has to fit into a proxy's buffers


@dataclass(frozen=True)
class CookieNames:
    """Under https the names carry the prefixes that make browsers enforce Secure, no Domain and Path=/.

    Where instances share an origin, the instance cookie has a path of its own, which `__Host-` would forbid.
    """

    login: str
    challenge: str
    passkey: str
    known_browser: str
    form: str
    instance: str

    @classmethod
    def of(cls, settings: Settings) -> CookieNames:
        if settings.is_https:
            instance = "__Host-lp_instance" if settings.instances.is_wildcard else "__Secure-lp_instance"
            host = "__Host-lp_"
            return cls(f"{host}login", f"{host}challenge", f"{host}passkey", f"{host}known", f"{host}form", instance)
        return cls("lp_login", "lp_challenge", "lp_passkey", "lp_known", "lp_form", "lp_instance")

    @property
    def all(self) -> frozenset[str]:
        return frozenset((self.login, self.challenge, self.passkey, self.known_browser, self.instance, self.form))


def set_cookie(
    response: Response, settings: Settings, name: str, value: str, *, seconds: float | None = None, path: str = "/"
) -> None:
    """HttpOnly, SameSite=Lax, Secure under https; without `seconds` the browser drops it when it closes.

    An age and no instant, so that a wrong clock in the browser signs nobody out.
    """
    age = None if seconds is None else max(0, round(seconds))
    response.set_cookie(name, value, max_age=age, path=path, secure=settings.is_https, httponly=True, samesite="lax")


def set_challenge(response: Response, settings: Settings, cookie: str, *, on_page: bool = False) -> None:
    """A page's stays for a while after its code has expired: then the page still knows where to send a new one."""
    seconds = settings.sign_in.code_minutes * 60 + (ADDRESS_KEPT_SECONDS if on_page else 0)
    set_cookie(response, settings, CookieNames.of(settings).challenge, cookie, seconds=seconds)


def set_login(response: Response, settings: Settings, signed_in: SignedIn, *, remember: bool) -> None:
    """What a browser gets that has just signed in; what led there is dropped."""
    names = CookieNames.of(settings)
    lasts = (signed_in.login.expires_at - signed_in.login.created_at).total_seconds()
    set_cookie(response, settings, names.login, signed_in.secret, seconds=lasts if remember else None)
    set_cookie(response, settings, names.known_browser, signed_in.known_browser, seconds=KNOWN_BROWSER_SECONDS)
    for name in (names.challenge, names.passkey):
        drop_cookie(response, settings, name)


def renew_login(response: Response, settings: Settings, login: Login, secret: str, now: datetime) -> None:
    """The same login under a new secret, for as long as it has left."""
    names = CookieNames.of(settings)
    lasts = (login.expires_at - now).total_seconds() if login.remembered else None
    set_cookie(response, settings, names.login, secret, seconds=lasts)
    for name in (names.challenge, names.passkey):
        drop_cookie(response, settings, name)


def drop_cookie(response: Response, settings: Settings, name: str) -> None:
    response.delete_cookie(name, path="/", secure=settings.is_https, httponly=True, samesite="lax")


def expire_everywhere(response: Response, settings: Settings, name: str, host: str, path: str) -> None:
    """Drops every cookie of that name that a browser sends to this address, wherever a page has set it.

    A cookie is dropped by one of the same name, path and domain, so each of them is named: the folders of the path,
    with and without a slash at the end, and the host with what is above it. What nobody may set, browsers ignore.
    """
    steps = [step for step in path.split("/") if step]
    folders = ["/".join(["", *steps[:depth]]) for depth in range(1, len(steps) + 1)]
    paths = ["/", *(form for folder in folders for form in (folder, f"{folder}/"))]
    labels = host.split(".")
    is_address = ":" in host or labels[-1].isdigit()
    domains = [] if is_address else [".".join(labels[depth:]) for depth in range(max(1, len(labels) - 1))]
    places = [(at, domain) for at in paths for domain in (None, *domains)]
    for at, domain in places[:EXPIRED_MAX]:
        response.delete_cookie(name, path=at, domain=domain, secure=settings.is_https, httponly=True)
