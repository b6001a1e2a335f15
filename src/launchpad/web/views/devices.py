"""Browsers and devices in words, from what browsers say of themselves in the User-Agent header.

The rules are those of uap-core, which ua-parser brings; they are loaded with the first question, not with the program.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import lru_cache

UNKNOWN = "an unknown device"
_VARIANTS = (" UI/WKWebView", " Mobile iOS", " Mobile WebView", " Mobile", " iOS")  # the same browser, for its users
_SYSTEMS = {"Mac OS X": "macOS", "Chrome OS": "ChromeOS"}
_OF_APPLE = ("iPhone", "iPad", "iPod")


@lru_cache(maxsize=256)
def device_in_words(user_agent: str) -> str:
    """ "Firefox on Linux"; "an unknown device" where it tells nothing."""
    import ua_parser  # some megabytes and a tenth of a second, for those who look at their logins

    browser = ua_parser.parse_user_agent(user_agent)
    system = ua_parser.parse_os(user_agent)
    name = browser.family.removeprefix("Mobile ") if browser is not None else ""
    for variant in _VARIANTS:
        name = name.removesuffix(variant)
    where = _SYSTEMS.get(system.family, system.family) if system is not None else ""
    if where == "iOS":
        where = next((kind for kind in _OF_APPLE if kind in user_agent), where)
    return f"{name} on {where}" if name and where else name or where or UNKNOWN


async def devices_in_words(user_agents: Iterable[str]) -> dict[str, str]:
    """Each in words. In a thread: the first one loads the rules."""
    wanted = set(user_agents)
    return await asyncio.to_thread(lambda: {one: device_in_words(one) for one in wanted})
