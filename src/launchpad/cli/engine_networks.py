"""What keeps an engine from ever starting again after it was killed, and the way out.

For scripts: `python -m launchpad.cli.engine_networks LOG`; it ends with 1 where that was not the reason.

An engine that is killed while it creates or removes a network can leave half of that network in its list, and then ends
at each of its starts. Seen with 20.10: `index out of range` in libnetwork's `reservePools` (controller.go). The engine
offers no way to repair the list. Without it, it starts with its own three networks; images, containers and volumes are
elsewhere, and the platform creates its network again.
"""

from __future__ import annotations

import sys
from pathlib import Path

ENGINE_DATA = Path("/var/lib/docker")
ASIDE = ".damaged"
_LIST = Path("network/files/local-kv.db")
_ENOUGH_BYTES = 64 * 1024  # of the end of a log: a start that fails writes about 20 kB
_STARTS, _ENDED_BY, _IN = b'msg="Starting up"', b"panic: runtime error: index out of range", b"reservePools("


def network_list_is_damaged(log: Path) -> bool:
    """Whether the last start of an engine ended because of half a network in its list.

    Raises:
        OSError: the log cannot be read.
    """
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _ENOUGH_BYTES))
        last_start = file.read().rpartition(_STARTS)[2]
    return _ENDED_BY in last_start and _IN in last_start


def set_network_list_aside(log: Path, engine_data: Path = ENGINE_DATA) -> Path | None:
    """Renames the list of networks of an engine that has just ended because of it; None: that was not the reason.

    Networks that somebody has created are to be created again; the platform's own is, by itself.

    Raises:
        OSError: no right to, or a failing disk.
    """
    networks = engine_data / _LIST
    if not networks.exists() or not network_list_is_damaged(log):
        return None
    return networks.rename(networks.with_name(networks.name + ASIDE))


if __name__ == "__main__":
    moved = set_network_list_aside(Path(sys.argv[1]))
    if moved is None:
        sys.exit(1)
    print(f"The engine's list of networks was damaged, and is now {moved}.")
