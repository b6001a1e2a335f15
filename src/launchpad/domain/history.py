"""What stays of an instance that has ended: reports are made of these records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .instances import Instance


@dataclass(frozen=True)
class UsedInAll:
    """What an instance used from its start to its end, as far as it was sampled."""

    cpu_seconds: float
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class HistoryRecord:
    """An instance as it ended, and whose it was then.

    Attributes:
        owner_email: the address of its owner as it ended.
        lab: the lab of its owner as it ended; None: none.
        used: None: nothing was sampled, as of one that never ran.
        removed_at: when its owner took it off their list; None: it stands there.
    """

    instance: Instance
    owner_email: str
    lab: str | None
    used: UsedInAll | None = None
    removed_at: datetime | None = None
