"""How background loops fare, as it is told to people and programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class LoopState(StrEnum):
    """`STARTING`: no pass has succeeded yet, and there is still time for it. `FAILING`: the last pass failed, and there
    is still time for another. `LATE`: what the loop is for does not happen. `STANDBY`: it is another process' work now.
    """

    STARTING = "starting"
    OK = "ok"
    FAILING = "failing"
    LATE = "late"
    STANDBY = "standby"


@dataclass(frozen=True)
class LoopHealth:
    """How a loop fares. `last_error` is of our words, or the kind of a fault of the program: the log has the rest."""

    name: str
    state: LoopState
    last_success_at: datetime | None = None
    failures: int = 0
    failures_in_a_row: int = 0
    last_error: str | None = None
    last_error_at: datetime | None = None


@dataclass(frozen=True)
class LoopRecord:
    """How the loops of one process fared at an instant."""

    process_id: int
    at: datetime
    loops: Sequence[LoopHealth]
