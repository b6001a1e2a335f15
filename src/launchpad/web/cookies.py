"""The platform's cookies: their names and how they are set."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fastapi import Response

from ..settings import Settings


@dataclass(frozen=True)
class CookieNames:
    """Under https the names carry the prefixes that make browsers enforce Secure, no Domain and Path=/.

    Where instances share an origin, the instance cookie has a path of its own, which `__Host-` would forbid.
    """

    login: str
    challenge: str
    instance: str

    @classmethod
    def of(cls, settings: Settings) -> CookieNames:
        if settings.is_https:
            instance = "__Host-lp_instance" if settings.instances.is_wildcard else "__Secure-lp_instance"
            return cls("__Host-lp_login", "__Host-lp_challenge", instance)
        return cls("lp_login", "lp_challenge", "lp_instance")

    @property
    def all(self) -> frozenset[str]:
        return frozenset((self.login, self.challenge, self.instance))


def set_cookie(
    response: Response, settings: Settings, name: str, value: str, *, until: datetime | None = None, path: str = "/"
) -> None:
    """HttpOnly, SameSite=Lax, Secure under https; without `until` the browser drops it when it closes."""
    response.set_cookie(name, value, expires=until, path=path, secure=settings.is_https, httponly=True, samesite="lax")


def drop_cookie(response: Response, settings: Settings, name: str) -> None:
    response.delete_cookie(name, path="/", secure=settings.is_https, httponly=True, samesite="lax")
