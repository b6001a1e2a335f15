"""The settings of images: how they are built, and what programs in every instance are told of the site."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from .values import Section

AUTO = "auto"
ZONE_FILE = Path("/etc/timezone")
ZONE_LINK = Path("/etc/localtime")
ZONES = "zoneinfo/"
UTC_ZONE = "Etc/UTC"


def _time_zone(value: str) -> str:
    if value == AUTO:
        return value
    try:
        ZoneInfo(value)
    except (ValueError, OSError, KeyError):  # no such name, no such file, not found
        raise ValueError(f"“{value}” is no time zone; give a name such as Europe/Berlin, or auto") from None
    return value


def _mirror(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in ("https", "http", "file") or any(char in value for char in " '\"\\\n{}")):
        raise ValueError("give an address that begins with https://, http:// or file://, or nothing")
    return value.rstrip("/")


TimeZone = Annotated[str, AfterValidator(_time_zone)]
Mirror = Annotated[str, AfterValidator(_mirror)]


class ImageSettings(Section):
    """Images that the program builds itself, and what every instance is told of this site."""

    recipes: Path | None = Field(None, description="Directory of recipes to use instead of the built-in one.")
    extra_ca_certificates: tuple[Path, ...] = Field(
        (),
        description="PEM files of CAs that image builds and instances must trust, such as a TLS-inspecting proxy's. "
        "CAs that were added to this server (/usr/local/share/ca-certificates) are always included.",
    )
    cran_mirror: Mirror = Field(
        "",
        description="Where R's `install.packages()` gets packages from, in every instance, unless users choose another "
        "mirror. Empty: what the image says, else https://cloud.r-project.org.",
    )
    time_zone: TimeZone = Field(
        AUTO, description="Time zone of programs in instances, such as Europe/Berlin; `auto`: this server's own."
    )

    @cached_property
    def zone(self) -> str:
        """The time zone's name, never `auto`."""
        return server_zone() if self.time_zone == AUTO else self.time_zone


def server_zone(file: Path = ZONE_FILE, link: Path = ZONE_LINK) -> str:
    """The name of this server's time zone: where /etc/localtime leads to, else what /etc/timezone says, else UTC."""
    found = [str(link.resolve()).rpartition(ZONES)[2]] if ZONES in str(link.resolve()) else []
    if file.is_file():
        found.append(file.read_text(encoding="utf-8", errors="replace").strip())
    for name in found:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            continue
        return name
    return UTC_ZONE
