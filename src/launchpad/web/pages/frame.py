"""What every page needs, made once for the app."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from fastapi import Request

from ...domain.announcements import Announcement
from ...settings import Settings
from ..cookies import CookieNames
from ..views.kept import Kept

PAGES_KEPT = 200  # of some 20 kilobytes each


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


class Frame:
    """What every page needs, made once for the app and found at `app.state.pages`."""

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], datetime],
        forms_key: bytes,
        announcements: Callable[[datetime], tuple[Announcement, ...]],
    ) -> None:
        self.settings = settings
        self.public = PublicSettings.of(settings)
        self.now = now
        self.announcements = announcements
        self.forms_key = forms_key
        self.form_cookie = CookieNames.of(settings).form
        self.kept: Kept[tuple[str, str], bytes] = Kept(PAGES_KEPT)


def frame_of(request: Request) -> Frame:
    frame: Frame = request.app.state.pages
    return frame
