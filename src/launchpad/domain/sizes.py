"""Sizes as people write them ("8g") and as the program counts them (bytes). A step is 1024, as in Docker's options."""

from __future__ import annotations

import re
from decimal import Decimal

_FACTORS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_SIZE = re.compile(r"(\d{1,19}(?:\.\d{1,9})?)\s*([kmgt]?)i?b?", re.IGNORECASE | re.ASCII)


def parse_bytes(text: str) -> int:
    """Bytes in a size such as "8g", "512m", "1.5 GiB" or "1073741824".

    Raises:
        ValueError: the text is no size, or a size of zero.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"“{text}” is not a size; write it like 512m, 8g or 1.5t")
    size = int(Decimal(match[1]) * _FACTORS[match[2].lower()])
    if size <= 0:
        raise ValueError(f"“{text}” is not a size above zero")
    return size


def format_bytes(size_bytes: int) -> str:
    """The shortest exact writing of a size that `parse_bytes` reads back: 8589934592 → "8g"."""
    for unit in ("t", "g", "m", "k"):
        if size_bytes and size_bytes % _FACTORS[unit] == 0:
            return f"{size_bytes // _FACTORS[unit]}{unit}"
    return str(size_bytes)


def describe_bytes(size_bytes: int) -> str:
    """A size for people, at most one decimal: 8589934592 → "8 GB", 1610612736 → "1.5 GB"."""
    for unit, name in (("t", "TB"), ("g", "GB"), ("m", "MB"), ("k", "KB")):
        if size_bytes >= _FACTORS[unit]:
            return f"{size_bytes / _FACTORS[unit]:.1f}".removesuffix(".0") + f" {name}"
    return f"{size_bytes} bytes"


def describe_cpus(cpus: float) -> str:
    """1 → "1 core", 2.5 → "2.5 cores"."""
    return f"{cpus:g} core" + ("" if cpus == 1 else "s")


def describe_days(days: int) -> str:
    return f"{days} day" + ("" if days == 1 else "s")


def describe_minutes(minutes: int) -> str:
    """ "45 minutes", "1 hour", "2 hours"."""
    if minutes % 60:
        return f"{minutes} minute{'' if minutes == 1 else 's'}"
    hours = minutes // 60
    return f"{hours} hour{'' if hours == 1 else 's'}"
