"""`/.well-known/security.txt` (RFC 9116): where to report a weakness."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from ..errors import NotFound
from .deps import Configured, Now, Public

router = APIRouter(prefix="/.well-known", include_in_schema=False, dependencies=[Public])

VALID_FOR = timedelta(days=180)  # RFC 9116 recommends less than a year


@router.get("/security.txt")
async def security_txt(settings: Configured, now: Now) -> PlainTextResponse:
    """Its contact is the setting `security_contact`; without one there is no such page."""
    if not settings.security_contact:
        raise NotFound("This server has no contact for reports; ask its administrators.")
    fields = {
        "Contact": settings.security_contact,
        "Expires": f"{now + VALID_FOR:%Y-%m-%dT00:00:00Z}",
        "Preferred-Languages": "en",
        "Canonical": f"{settings.public_url}/.well-known/security.txt",
    }
    return PlainTextResponse("".join(f"{name}: {value}\n" for name, value in fields.items()))
