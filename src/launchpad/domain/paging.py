"""Where the next page of a list begins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Place:
    """A place in a list, newest first: right behind what is of this instant and has this key.

    The key says which one, since many may be of one instant.
    """

    at: datetime
    key: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises ValueError when it is none that `str` wrote."""
        moment, _, key = text.partition("~")
        at = datetime.fromisoformat(moment)
        if at.tzinfo is None or not key:
            raise ValueError("this is no place in a list")
        return cls(at, key)

    def __str__(self) -> str:
        """With a Z, since the + of an offset would have to be escaped in an address."""
        return f"{self.at.isoformat().replace('+00:00', 'Z')}~{self.key}"
