"""Which requests to an instance somebody has made, and which an open page makes by itself. Pure.

A frozen instance is thawed by the former only. What is listed here was seen of real JupyterLab and RStudio pages.
"""

from __future__ import annotations

import re

_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# RStudio's page asks for news by POST, and has a request of this kind open at any time. JupyterLab's keeps how its
# windows lie, seconds after they were moved.
_UNASKED = re.compile(r"/(?:events|rpc)/get_events\b|/lab/api/workspaces/")
# JupyterLab asks for a document with its type when somebody opens it, and for folders without one, again and again.
_OPENED = re.compile(r"/api/contents/[^?]*\?(?:[^#]*&)?type=(?:notebook|file)\b|/files/")


def is_persons_act(method: str, path: str, *, is_page_load: bool, is_upgrade: bool) -> bool:
    """Whether a person did something that led to a request.

    A page load always is one, a WebSocket's handshake never: pages make those by themselves, again and again.

    Args:
        path: path and query below the instance's own address, as they were sent.
    """
    if is_page_load:
        return True
    if is_upgrade:
        return False
    if method in _CHANGES:
        return _UNASKED.match(path) is None
    return method == "GET" and _OPENED.match(path) is not None
