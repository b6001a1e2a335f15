"""Names made once: normalised addresses, usernames, ids, names of containers."""

from __future__ import annotations

import hashlib
import re
import secrets

# Crockford's base32 without look-alikes; ids stand in URLs, host names and container names, so lower case only.
_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ID_LENGTH = 16
ID_PATTERN = r"[0-9a-hjkmnp-tv-z]{16}"

USERNAME_MAX = 28  # Linux allows 32; room is left for a suffix
_RESERVED_USERNAMES = frozenset({"root", "jovyan", "rstudio", "admin", "lost-found", "shared", "ubuntu", "debian"})


def new_id() -> str:
    """80 random bits in 16 characters, safe in a path, a host name and a container's name."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(ID_LENGTH))


def username_from_email(email: str) -> str:
    """A name for the home: the local part reduced to what every Linux tool accepts ("Anna.Müller+x" → "anna-mller-x").

    Reserved names get "-user" appended.
    """
    local = email.partition("@")[0].lower()
    name = re.sub(r"[^a-z0-9]+", "-", local).strip("-")[:USERNAME_MAX].rstrip("-")
    if not name or not name[0].isalpha():
        name = f"u-{name}".rstrip("-")[:USERNAME_MAX]
    return f"{name}-user" if name in _RESERVED_USERNAMES else name


def username_candidates(email: str) -> list[str]:
    """Names to try in turn: `alice`, `alice-2` … `alice-9`, then one with a hash of the whole address."""
    name = username_from_email(email)
    digest = hashlib.sha256(email.encode()).hexdigest()[:8]
    return [name, *(f"{name[: USERNAME_MAX - 2]}-{n}" for n in range(2, 10)), f"{name[: USERNAME_MAX - 9]}-{digest}"]


def container_name(deployment_id: str, instance_id: str) -> str:
    return f"launchpad-{deployment_id}-{instance_id}"
