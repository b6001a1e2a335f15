"""`/etc/rstudio/rserver.conf`; an option that is not known stops the server, as it stops RStudio's."""

from __future__ import annotations

from pathlib import Path

CONFIGURATION = Path("/etc/rstudio/rserver.conf")
KNOWN = {
    *("auth-none", "auth-minimum-user-id", "rsession-which-r", "rsession-ld-library-path", "server-set-umask"),
    *("server-user", "server-daemonize", "www-address", "www-port", "www-root-path", "www-frame-origin"),
    *("www-verify-user-agent", "www-same-site"),
}


class Unreadable(Exception):
    """The text is what RStudio prints."""


def read(path: Path = CONFIGURATION) -> dict[str, str]:
    """The options.

    Raises:
        Unreadable: an option is not known.
    """
    options = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition("=")
        if not name.strip() or name.startswith("#"):
            continue
        if name.strip() not in KNOWN:
            raise Unreadable(f"{path}: unrecognised option '{name.strip()}'")
        options[name.strip()] = value.strip()
    return options
