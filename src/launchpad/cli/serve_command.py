"""`launchpad serve`: the portal, on its Unix socket, with nginx in front."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import uvicorn

from ..errors import LaunchpadError, StoreUnavailable
from ..settings import Settings
from ..store.statedir import StateDir
from ..web.app import create_app
from ..wiring import build_platform
from .context import ConfigOption, settings_or_exit
from .output import configure_logging, fail

SOCKET_PATH_MAX = 100  # the kernel's limit is 107 bytes
NGINX_GROUPS = ("www-data", "nginx")


def socket_path(settings: Settings, state: StateDir) -> Path:
    """The portal's socket: as set, else below /run (short, and reachable for nginx's workers), else in the state.

    Raises:
        StoreUnavailable: the path is longer than a Unix socket's may be.
    """
    if settings.web.socket is not None:
        path = settings.web.socket
    elif os.access("/run", os.W_OK):
        path = Path("/run") / f"launchpad-{state.deployment_id}" / "portal.sock"
    else:
        path = state.run / "portal.sock"
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


def serve(config: ConfigOption = None) -> None:
    """Run the portal until it is told to stop. nginx reaches it over a Unix socket; nobody else should."""
    configure_logging()
    settings = settings_or_exit(config)
    try:
        platform = build_platform(settings)
        path = socket_path(settings, platform.state)
        prepare_socket_folder(path)
    except LaunchpadError as error:
        fail(error)
    uvicorn.run(
        create_app(platform),
        uds=str(path),
        proxy_headers=False,  # deps.get_client knows whom to believe
        access_log=False,  # nginx keeps one
        log_level="warning",
        timeout_graceful_shutdown=2,  # pages that follow an instance would hold it for ever
        server_header=False,
    )
