"""What versions of Docker Engine are known to do wrong."""

from __future__ import annotations

import re

# Two containers of one network that end at the same time can lock its network controller up for ever; every call that
# has to do with networks hangs then, until the engine is restarted. https://github.com/moby/moby/issues/46661 (2023);
# mended in 20.10.27 (https://github.com/moby/moby/pull/46693) and, before it, in everything from 23.0 on.
LAST_THAT_HANGS = (20, 10, 26)


def version_numbers(version: str) -> tuple[int, int, int] | None:
    """(20, 10, 24) of `20.10.24+dfsg1`; None where a text does not begin with three numbers."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def hangs_when_many_end(version: str) -> bool:
    """Whether ends of containers must be kept apart; a version that is not known counts as one that hangs."""
    numbers = version_numbers(version)
    return numbers is None or numbers <= LAST_THAT_HANGS
