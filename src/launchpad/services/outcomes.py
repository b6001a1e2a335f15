"""What a pass over the instances has done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """One thing that was done, and why, for the sweep's report."""

    instance_id: str
    action: str
    reason: str
