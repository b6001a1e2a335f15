"""The table `[freezing]` of the settings: instances that stand still and keep their memory."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .values import Section


class FreezingSettings(Section):
    """Instances that stand still with everything they hold in memory, until somebody visits them."""

    enabled: bool = Field(True, description="Owners may freeze instances, where the engine can.")
    memory: Literal["held", "size"] = Field(
        "held",
        description="What counts of a frozen instance's memory for the server's capacity. `held`: what it holds, so "
        "that others can use the rest; thawed it may use its whole size again, so memory may then be reserved twice. "
        "`size`: its whole size. Its cores never count.",
    )
    longest_hours: int = Field(
        168, ge=0, le=8784, description="An instance that was frozen for so long ends. 0: only at its own end."
    )
