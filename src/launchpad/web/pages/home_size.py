"""Whether the size of a home folder is a choice at launch."""

from __future__ import annotations

import asyncio

from ...errors import LaunchpadError
from ...platform import Platform


async def size_is_enforced(platform: Platform) -> bool:
    """Whether this server keeps home folders within their sizes; where that cannot be told just now, as if it did.

    The helper may have to be asked, which blocks: not on the event loop, and a page is shown without its answer, too.
    """
    try:
        return await asyncio.to_thread(lambda: platform.homes.enforces_limits)
    except LaunchpadError:
        return True
