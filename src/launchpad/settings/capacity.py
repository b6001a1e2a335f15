"""The settings of what can be reserved, by whom, and in which order those get it who wait."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from ..domain.lab_capacity import LabCapacity, problems
from ..domain.limits import Capacity
from .values import Cores, Section, Size


class CapacitySettings(Section):
    """What all instances together may reserve."""

    memory: Literal["auto"] | Size = Field("auto", description="Memory; `auto` is the host's less `reserve`.")
    cpus: Literal["auto"] | Cores = Field("auto", description="Cores; `auto` is the host's times `cpu_overcommit`.")
    cpu_overcommit: float = Field(
        4.0, ge=1, le=64, description="Cores that can be reserved for each real core, with cpus = auto."
    )
    max_instances: Literal["auto"] | NonNegativeInt = Field(
        "auto", description="Instances at the same time; `auto`: limited by memory and cores only."
    )
    reserve: Literal["auto"] | Size = Field(
        "auto", description="Memory kept for the system; `auto` is a tenth of it, 1 to 16 GB."
    )
    starts_at_once: Literal["auto"] | PositiveInt = Field(
        "auto",
        description="Instances that start at the same time, later ones queue; `auto`: as many as the host has cores.",
    )


class LabCapacitySettings(Section):
    """What one lab is guaranteed of the capacity, and what all of its members may have at most together."""

    lab: str = Field(min_length=1, max_length=100, description="The lab's name, as administrators assign it to people.")
    guaranteed_memory: Size | None = Field(
        None, description="Memory that is kept free for the lab while it does not use it. Empty: none."
    )
    guaranteed_cpus: Cores | None = Field(None, description="Cores, likewise.")
    max_memory: Size | None = Field(None, description="Memory the lab may reserve at most. Empty: no limit.")
    max_cpus: Cores | None = Field(None, description="Cores, likewise.")

    @property
    def capacity(self) -> LabCapacity:
        return LabCapacity(self.guaranteed_memory or 0, self.guaranteed_cpus or 0.0, self.max_memory, self.max_cpus)


def check_lab_capacity(labs: Sequence[LabCapacitySettings], server: CapacitySettings) -> None:
    """Raises ValueError for a lab that is named twice, and for more guaranteed than the settings say the server has."""
    by_name = {one.lab: one.capacity for one in labs}
    if len(by_name) < len(labs):
        raise ValueError("lab_capacity names a lab twice")
    memory_bytes = 2**62 if server.memory == "auto" else server.memory
    cpus = math.inf if server.cpus == "auto" else server.cpus
    for text in problems(by_name, Capacity(memory_bytes, cpus, 0)).values():
        raise ValueError(f"lab_capacity: {text}")


class QueueSettings(Section):
    """In which order launches start that wait for memory and cores, and how long they are kept."""

    half_life_hours: float = Field(
        72.0, gt=0, le=8784, description="After so long, what a lab or a person had reserved counts half."
    )
    waiting_counts_as_all_hours: float = Field(
        24.0,
        gt=0,
        le=8784,
        description="Waiting for so long counts as much as having the whole server. Shorter: more in the order of "
        "arrival; longer: more by what labs and people use.",
    )
    drop_after_hours: float = Field(
        24.0,
        gt=0,
        le=8784,
        description="A queued launch is dropped, with an e-mail, when its owner has not visited for so long.",
    )
    mail_after_minutes: float = Field(
        10.0, ge=0, description="Who waited for longer gets an e-mail when the launch starts."
    )

    @property
    def half_life(self) -> timedelta:
        return timedelta(hours=self.half_life_hours)

    @property
    def drop_after(self) -> timedelta:
        return timedelta(hours=self.drop_after_hours)
