"""Passkeys: keys of a user's devices (WebAuthn), the second way in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

PASSKEYS_MAX = 10
PASSKEY_NAME_MAX = 60


@dataclass(frozen=True)
class Passkey:
    """`credential_id` is base64url, as browsers write it; `public_key` COSE, as the device gave it."""

    id: str
    user_id: str
    credential_id: str
    public_key: bytes
    sign_count: int
    name: str
    created_at: datetime
    last_used_at: datetime | None = None
