"""`anything.localhost` is this machine (RFC 6761, 6.3). Browsers know it, the C library of a bare Debian does not."""

from __future__ import annotations

import socket
from typing import Any

_resolve = socket.getaddrinfo


def _with_localhost(host: Any, *arguments: Any, **named: Any) -> Any:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    return _resolve("127.0.0.1" if name.endswith(".localhost") else host, *arguments, **named)


def names_below_localhost() -> None:
    """From now on this process resolves them."""
    socket.getaddrinfo = _with_localhost
