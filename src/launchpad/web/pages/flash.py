"""What a redirect tells on the page it leads to: a code, and sealed with it the thing it happened to.

The code chooses one of our texts; the thing (a title, a name) and a moment are filled into it. They are sealed with the
login's own key, so that no link can put words into our mouth.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

ABOUT_MAX = 200


@dataclass(frozen=True)
class Text:
    """What a code says: `text` without and `named` with what it is about, as `{about}` and `{until}`."""

    kind: str
    text: str
    named: str = ""


@dataclass(frozen=True)
class Flash:
    """A message of a page; a moment among its parts is shown in the reader's own time zone."""

    kind: str
    parts: tuple[str | datetime, ...]


def told(key: str, code: str, about: str = "", until: datetime | None = None) -> str:
    """The value of `?said=`. `key` is the login's own; without one (a personal token) only the code is told."""
    if not key:
        return code
    content = json.dumps([about[:ABOUT_MAX], until.isoformat(timespec="seconds") if until else None])
    sealed = base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")
    return f"{code}.{sealed}.{_seal(key, code, sealed)}"


def read(key: str, said: str, texts: Mapping[str, Text]) -> Flash | None:
    """What `said` tells; what was not sealed with this login's key tells no more than its code."""
    code, _, rest = said[:1000].partition(".")
    text = texts.get(code)
    if text is None:
        return None
    sealed, _, seal = rest.partition(".")
    if not key or not text.named or not hmac.compare_digest(seal, _seal(key, code, sealed)):
        return Flash(text.kind, (text.text,))
    try:
        about, until = json.loads(base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)))
    except (ValueError, binascii.Error):
        return Flash(text.kind, (text.text,))
    values = {"about": about, "until": datetime.fromisoformat(until) if until else ""}
    parts = (values.get(part, part) for part in re.split(r"\{(about|until)\}", text.named))
    return Flash(text.kind, tuple(part for part in parts if part))


def _seal(key: str, code: str, sealed: str) -> str:
    return hmac.new(key.encode(), f"flash:{code}:{sealed}".encode(), hashlib.sha256).hexdigest()[:32]
