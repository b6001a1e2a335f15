"""Bars that show how much of something is used."""

from __future__ import annotations

from dataclasses import dataclass

from ...domain.limits import Quota, Use
from ...domain.sizes import describe_bytes

_HIGH, _FULL = 80, 95  # percent


@dataclass(frozen=True)
class Meter:
    """A bar and its words. `total` None: there is no cap, so no bar is drawn."""

    label: str
    text: str
    used: float = 0
    total: float | None = None

    @property
    def percent(self) -> float:
        """How much of the bar is filled. Nothing of nothing is a full bar: there is nothing left."""
        return round(min(100.0, 100 * self.used / self.total), 1) if self.total else 100.0

    @property
    def level(self) -> str:
        return "full" if self.percent >= _FULL else "high" if self.percent >= _HIGH else "ok"


def bytes_meter(label: str, used_bytes: int, total_bytes: int | None) -> Meter:
    if total_bytes is None:
        return Meter(label, describe_bytes(used_bytes), used_bytes)
    return Meter(label, f"{describe_bytes(used_bytes)} of {describe_bytes(total_bytes)}", used_bytes, total_bytes)


def number_meter(label: str, used: float, total: float | None) -> Meter:
    if total is None:
        return Meter(label, f"{used:g}", used)
    return Meter(label, f"{used:g} of {total:g}", used, total)


def allowance_meters(quota: Quota, use: Use, default_instances: int) -> list[Meter]:
    """What of the quota live instances are promised; memory and cores only where the quota caps them."""
    cap = quota.instances if quota.instances is not None else default_instances
    meters = [number_meter("Instances", use.instances, cap)]
    if quota.memory_bytes is not None:
        meters.append(bytes_meter("Memory", use.memory_bytes, quota.memory_bytes))
    if quota.cpus is not None:
        meters.append(number_meter("Cores", use.cpus, quota.cpus))
    return meters
