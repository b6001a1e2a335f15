"""Where the portal listens, and nginx finds it."""

from __future__ import annotations

import grp
import os
from pathlib import Path

from ..errors import StoreUnavailable
from ..settings import Settings
from ..store.statedir import StateDir

NGINX_GROUPS = ("www-data", "nginx")
SOCKET_PATH_MAX = 100  # the kernel's limit is 107 bytes


def socket_path(settings: Settings, state: StateDir | None = None) -> Path:
    """The portal's socket: as set, else below /run (short, and reachable for nginx's workers), else in the state.

    Raises:
        StoreUnavailable: the path is longer than a Unix socket's may be.
    """
    if settings.web.socket is not None:
        path = settings.web.socket
    else:
        state = state or StateDir(settings.state_dir)
        below_run = Path("/run") / f"launchpad-{state.deployment_id}"
        path = (below_run if os.access("/run", os.W_OK) else state.run) / "portal.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise StoreUnavailable(f"The path {path} is too long for a Unix socket; set web.socket to a shorter one.")
    return path


def prepare_socket_folder(path: Path) -> None:
    """Makes the socket's folder, open to root and nginx's group only: whoever reaches the socket is believed."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        for name in NGINX_GROUPS:
            try:
                os.chown(path.parent, 0, grp.getgrnam(name).gr_gid)
            except KeyError:
                continue
            break
    path.parent.chmod(0o750)
