"""What a lab is guaranteed of the server, and what it may have at most; in memory and cores. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .limits import Capacity, Limits, Use
from .sizes import describe_bytes, describe_cpus, format_bytes, parse_bytes


@dataclass(frozen=True)
class LabCapacity:
    """Of one lab. What is guaranteed and not in use is kept free of others; `most_…` None: up to the whole server."""

    guaranteed_memory_bytes: int = 0
    guaranteed_cpus: float = 0.0
    most_memory_bytes: int | None = None
    most_cpus: float | None = None

    @property
    def is_nothing(self) -> bool:
        return self == LabCapacity()

    def allows(self, use: Use, limits: Limits) -> bool:
        """Whether the lab may have that besides what it has."""
        after = use.plus(limits)
        within_memory = self.most_memory_bytes is None or after.memory_bytes <= self.most_memory_bytes
        return within_memory and (self.most_cpus is None or after.cpus <= self.most_cpus)

    def kept_free(self, use: Use) -> tuple[int, float]:
        """Memory and cores that it is guaranteed and does not use."""
        return (
            max(self.guaranteed_memory_bytes - use.memory_bytes, 0),
            max(self.guaranteed_cpus - use.cpus, 0.0),
        )


def largest_for(capacity: Capacity, labs: Mapping[str, LabCapacity], lab: str | None) -> Capacity:
    """What somebody of a lab can have at most, however long they wait."""
    memory_bytes, cpus = capacity.memory_bytes, capacity.cpus
    for name, one in labs.items():
        if name != lab:
            memory_bytes -= one.guaranteed_memory_bytes
            cpus -= one.guaranteed_cpus
    own = labs.get(lab) if lab else None
    if own is not None and own.most_memory_bytes is not None:
        memory_bytes = min(memory_bytes, own.most_memory_bytes)
    if own is not None and own.most_cpus is not None:
        cpus = min(cpus, own.most_cpus)
    return Capacity(max(memory_bytes, 0), max(cpus, 0.0), capacity.instances)


def problems(labs: Mapping[str, LabCapacity], capacity: Capacity | None) -> dict[str, str]:
    """What is wrong, by the labs' names; under "" what is wrong with all of them together.

    Args:
        capacity: the server's; None: not known now.
    """
    found: dict[str, str] = {}
    for name, one in labs.items():
        if not name.strip() or len(name) > 100:
            found[name] = "a lab has a name of at most 100 characters"
        elif min(one.guaranteed_memory_bytes, one.guaranteed_cpus) < 0:
            found[name] = "what is guaranteed is 0 or more"
        elif one.most_memory_bytes is not None and one.most_memory_bytes < one.guaranteed_memory_bytes:
            found[name] = "the maximum of memory is below what is guaranteed"
        elif one.most_cpus is not None and one.most_cpus < one.guaranteed_cpus:
            found[name] = "the maximum of cores is below what is guaranteed"
    memory_bytes = sum(one.guaranteed_memory_bytes for one in labs.values())
    cpus = sum(one.guaranteed_cpus for one in labs.values())
    if capacity is not None and (memory_bytes > capacity.memory_bytes or cpus > capacity.cpus):
        found[""] = (
            f"{describe_bytes(memory_bytes)} and {describe_cpus(cpus)} would be guaranteed in all; this server has "
            f"{describe_bytes(capacity.memory_bytes)} and {describe_cpus(capacity.cpus)}"
        )
    return found


def labs_table(labs: Mapping[str, LabCapacity]) -> dict[str, dict[str, Any]]:
    """As texts and numbers, by the labs' names; None for what is not set."""
    return {
        name: {
            "guaranteed_memory": format_bytes(one.guaranteed_memory_bytes) if one.guaranteed_memory_bytes else None,
            "guaranteed_cpus": one.guaranteed_cpus or None,
            "max_memory": None if one.most_memory_bytes is None else format_bytes(one.most_memory_bytes),
            "max_cpus": one.most_cpus,
        }
        for name, one in sorted(labs.items())
    }


def labs_of(table: Mapping[str, Mapping[str, Any]]) -> dict[str, LabCapacity]:
    """Raises ValueError for what is no size. What is missing is not set."""
    return {name: lab_of(one) for name, one in table.items()}


def lab_of(table: Mapping[str, Any]) -> LabCapacity:
    """As `labs_of`, of one lab."""
    guaranteed, most = table.get("guaranteed_memory"), table.get("max_memory")
    return LabCapacity(
        guaranteed_memory_bytes=0 if guaranteed is None else parse_bytes(guaranteed),
        guaranteed_cpus=float(table.get("guaranteed_cpus") or 0),
        most_memory_bytes=None if most is None else parse_bytes(most),
        most_cpus=table.get("max_cpus"),
    )
