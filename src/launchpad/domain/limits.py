"""What may be asked for (`Offer`), what one instance is capped at (`Limits`), what a user may use in all (`Quota`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from .sizes import describe_bytes, describe_cpus, describe_days

T = TypeVar("T", int, float)


@dataclass(frozen=True)
class Limits:
    """The caps of one instance. `storage_bytes` caps the owner's home, on a storage driver that enforces it."""

    memory_bytes: int
    cpus: float
    storage_bytes: int
    days: int


@dataclass(frozen=True)
class Offer:
    """The administrator's choices, each ascending, and the defaults, each one of its choices."""

    memory_bytes: tuple[int, ...]
    cpus: tuple[float, ...]
    storage_bytes: tuple[int, ...]
    days: tuple[int, ...]
    defaults: Limits

    def problems(self) -> dict[str, str]:
        """What is wrong with this offer, by field; empty when it can be offered."""
        found: dict[str, str] = {}
        for field, choices, default in (
            ("memory", self.memory_bytes, self.defaults.memory_bytes),
            ("cpus", self.cpus, self.defaults.cpus),
            ("storage", self.storage_bytes, self.defaults.storage_bytes),
            ("days", self.days, self.defaults.days),
        ):
            if not choices:
                found[field] = "offer at least one choice"
            elif min(choices) <= 0:
                found[field] = "every choice must be above zero"
            elif list(choices) != sorted(set(choices)):
                found[field] = "list each choice once, the smallest first"
            elif default not in choices:
                found[field] = "the default must be one of the choices"
        return found

    def choose(
        self,
        memory_bytes: int | None = None,
        cpus: float | None = None,
        storage_bytes: int | None = None,
        days: int | None = None,
    ) -> tuple[Limits, dict[str, str]]:
        """The limits asked for, with defaults for what was left out, and the fields that are not offered."""
        refused: dict[str, str] = {}
        chosen = replace(
            self.defaults,
            memory_bytes=_pick(memory_bytes, self.memory_bytes, self.defaults.memory_bytes, "memory", refused),
            cpus=_pick(cpus, self.cpus, self.defaults.cpus, "cpus", refused),
            storage_bytes=_pick(storage_bytes, self.storage_bytes, self.defaults.storage_bytes, "storage", refused),
            days=_pick(days, self.days, self.defaults.days, "days", refused),
        )
        return chosen, refused


@dataclass(frozen=True)
class OfferedLimits:
    """What holds for everybody: the choices and the number of instances."""

    offer: Offer
    instances_per_user: int


_DESCRIBE: dict[str, Callable[[float], str]] = {
    "memory": lambda value: describe_bytes(int(value)),
    "cpus": describe_cpus,
    "storage": lambda value: describe_bytes(int(value)),
    "days": lambda value: describe_days(int(value)),
}


def _pick(asked: T | None, choices: Sequence[T], default: T, field: str, refused: dict[str, str]) -> T:
    if asked is None:
        return default
    if asked in choices:
        return asked
    describe = _DESCRIBE[field]
    offered = ", ".join(describe(choice) for choice in choices)
    refused[field] = f"{describe(asked)} is not offered; choose one of {offered}"
    return default


@dataclass(frozen=True)
class Quota:
    """Caps over all of a user's instances; None leaves a thing to what the server offers."""

    memory_bytes: int | None = None
    cpus: float | None = None
    storage_bytes: int | None = None
    instances: int | None = None


@dataclass(frozen=True)
class Use:
    """What live instances have reserved together."""

    memory_bytes: int = 0
    cpus: float = 0.0
    instances: int = 0

    def plus(self, limits: Limits) -> Use:
        return Use(self.memory_bytes + limits.memory_bytes, self.cpus + limits.cpus, self.instances + 1)

    def minus(self, limits: Limits) -> Use:
        return Use(self.memory_bytes - limits.memory_bytes, self.cpus - limits.cpus, self.instances - 1)


@dataclass(frozen=True)
class Capacity:
    """What the server can promise in all. `cpus` may exceed the cores: a core idles most of the time (see the docs)."""

    memory_bytes: int
    cpus: float
    instances: int

    def has_room(self, reserved: Use, limits: Limits) -> bool:
        after = reserved.plus(limits)
        return after.memory_bytes <= self.memory_bytes and after.cpus <= self.cpus and after.instances <= self.instances


def quota_problems(quota: Quota, default_instances: int, use: Use, limits: Limits) -> dict[str, str]:
    """The fields of a launch that go over the user's quota, each with what would be left.

    Args:
        use: what the user's live instances have reserved already.
        default_instances: how many instances a user may have whose quota does not say.
    """
    after = use.plus(limits)
    over: dict[str, str] = {}
    cap = quota.instances if quota.instances is not None else default_instances
    if after.instances > cap:
        over["instances"] = (
            "you may not run instances"
            if cap == 0
            else f"you can run {cap} at the same time and have {use.instances}; stop one first"
        )
    if quota.memory_bytes is not None and after.memory_bytes > quota.memory_bytes:
        left = max(0, quota.memory_bytes - use.memory_bytes)
        over["memory"] = f"your quota is {describe_bytes(quota.memory_bytes)}, of which {describe_bytes(left)} are left"
    if quota.cpus is not None and after.cpus > quota.cpus:
        left_cpus = max(0.0, quota.cpus - use.cpus)
        over["cpus"] = f"your quota is {describe_cpus(quota.cpus)}, of which {left_cpus:g} are left"
    if quota.storage_bytes is not None and limits.storage_bytes > quota.storage_bytes:
        over["storage"] = f"your quota is {describe_bytes(quota.storage_bytes)}"
    return over
