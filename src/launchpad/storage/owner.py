"""Whose files are meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Owner:
    """Whose home it is; both have to be what the disk says. `snapshot`: of that one, which can only be read."""

    username: str
    uid: int
    snapshot: str = ""

    @property
    def asked(self) -> dict[str, Any]:
        """What the helper is asked with."""
        said = {"username": self.username, "uid": self.uid}
        return said | {"snapshot": self.snapshot} if self.snapshot else said
