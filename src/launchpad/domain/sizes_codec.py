"""Limits, offers and quotas as plain tables ({"memory": "8g", "cpus": 2, …}), and back.

One form for everybody: the store keeps it, the JSON API and the command line speak it, the audit compares it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .limits import Limits, Offer, OfferedLimits, Quota
from .sizes import format_bytes, parse_bytes


def limits_table(limits: Limits) -> dict[str, Any]:
    """Sizes as texts that `parse_bytes` reads, cores and days as numbers."""
    return {
        "memory": format_bytes(limits.memory_bytes),
        "cpus": limits.cpus,
        "storage": format_bytes(limits.storage_bytes),
        "days": limits.days,
    }


def limits_of(table: Mapping[str, Any]) -> Limits:
    """Raises KeyError or ValueError for a table that `limits_table` does not make."""
    return Limits(parse_bytes(table["memory"]), table["cpus"], parse_bytes(table["storage"]), table["days"])


def choices_table(offer: Offer) -> dict[str, list[Any]]:
    """The choices without the defaults."""
    return {
        "memory": [format_bytes(size) for size in offer.memory_bytes],
        "cpus": list(offer.cpus),
        "storage": [format_bytes(size) for size in offer.storage_bytes],
        "days": list(offer.days),
    }


def offered_table(offered: OfferedLimits) -> dict[str, Any]:
    """The choices, `defaults` and `instances_per_user`."""
    return {
        **choices_table(offered.offer),
        "defaults": limits_table(offered.offer.defaults),
        "instances_per_user": offered.instances_per_user,
    }


def offered_of(table: Mapping[str, Any]) -> OfferedLimits:
    """Raises KeyError or ValueError for a table that `offered_table` does not make."""
    offer = Offer(
        memory_bytes=tuple(map(parse_bytes, table["memory"])),
        cpus=tuple(table["cpus"]),
        storage_bytes=tuple(map(parse_bytes, table["storage"])),
        days=tuple(table["days"]),
        defaults=limits_of(table["defaults"]),
    )
    return OfferedLimits(offer, table["instances_per_user"])


def quota_table(quota: Quota) -> dict[str, Any]:
    """None for what the quota does not cap."""
    return {
        "memory": None if quota.memory_bytes is None else format_bytes(quota.memory_bytes),
        "cpus": quota.cpus,
        "storage": None if quota.storage_bytes is None else format_bytes(quota.storage_bytes),
        "instances": quota.instances,
    }


def quota_of(table: Mapping[str, Any]) -> Quota:
    """What is missing or None is not capped; raises ValueError for what is no size."""
    memory, storage = table.get("memory"), table.get("storage")
    return Quota(
        memory_bytes=parse_bytes(memory) if memory else None,
        cpus=table.get("cpus"),
        storage_bytes=parse_bytes(storage) if storage else None,
        instances=table.get("instances"),
    )
