"""Addresses of local applications: `/p/<hex>/`, where the port is hidden by a cookie's value, as RStudio hides it.

Who has not the cookie `port-token` of `client_init` reaches no port, and a link of another browser leads nowhere.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

DIGITS = 8


def hidden(port: int, token: str) -> str:
    """The port as it stands in an address: its number, turned over by the token, and a check."""
    key = hashlib.sha256(token.encode()).digest()
    number = port ^ int.from_bytes(key[:2], "big")
    check = hashlib.sha256(f"{number}{token}".encode()).hexdigest()
    return f"{number:04x}{check[: DIGITS - 4]}"


def revealed(text: str, token: str) -> int | None:
    """The port; None for what this token has not made."""
    if len(text) != DIGITS:
        return None
    try:
        number = int(text[:4], 16)
    except ValueError:
        return None
    port = number ^ int.from_bytes(hashlib.sha256(token.encode()).digest()[:2], "big")
    return port if hidden(port, token) == text else None


if __name__ == "__main__":  # for R: ports.py FILE PORT
    print(hidden(int(sys.argv[2]), Path(sys.argv[1]).read_text()))
