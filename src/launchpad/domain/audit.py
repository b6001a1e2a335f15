"""The record of who did what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class AuditRecord:
    """`actor` is an e-mail address, "sweep", "system", "cli" or "unknown"; `details` holds no secret and no code."""

    id: int
    at: datetime
    actor: str
    client: str
    action: str
    subject: str
    details: Mapping[str, Any]
