"""The ports of instances that nginx keeps connections open to: one named upstream each, and how a request finds it."""

from __future__ import annotations

from collections.abc import Sequence

from ...settings import EngineSettings

KEPT_PER_PORT = 16  # connections that may be idle, a worker
KEPT_SECONDS = 3


def keepalive_ports(settings: EngineSettings) -> range:
    """The beginning of the instances' ports, as many as the settings say; the engine takes these first."""
    return settings.ports[: settings.keepalive_ports]


def numbers_pattern(numbers: Sequence[int]) -> str:
    """A regular expression for exactly the whole numbers of a range, without leading zeros; for none, nothing fits.

    Args:
        numbers: consecutive and ascending.
    """
    if not numbers:
        return "(?!)"
    return "|".join(_blocks(numbers[0], numbers[-1]))


def _blocks(first: int, last: int) -> list[str]:
    """One pattern for each block of ten, a hundred, … that the range can be cut into."""
    found = []
    while first <= last:
        zeros = 0
        while first % 10 ** (zeros + 1) == 0 and first + 10 ** (zeros + 1) - 1 <= last:
            zeros += 1
        size = 10**zeros
        # As many blocks of this size as lie in the same block of the next one.
        count = min((last - first + 1) // size, 10 - first // size % 10)
        head, digit = divmod(first // size, 10)
        digits = str(digit) if count == 1 else f"[{digit}-{digit + count - 1}]"
        found.append(f"{head or ''}{digits}" + "[0-9]" * zeros)
        first += count * size
    return found
