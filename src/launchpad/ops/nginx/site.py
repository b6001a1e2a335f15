"""The configuration as this machine gets it: where the portal's socket is, and whether nginx has what we render."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import StoreUnavailable
from ...settings import Settings
from ...store.statedir import StateDir
from .machine import has_ipv6_loopback, wants_http2_directive, wants_http2_sizes, worker_user
from .render import Form, render

SOCKET_PATH_MAX = 100  # the kernel's limit is 107 bytes
SITE = Path("/etc/nginx/sites-available/launchpad")  # where launchpad-apply puts it


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


def rendered(settings: Settings, state: StateDir | None, form: Form) -> str:
    """The whole configuration for this machine.

    Raises:
        SettingsError: the settings cannot be served.
        StoreUnavailable: as above.
    """
    path = socket_path(settings, state)
    return render(
        settings,
        socket=path,
        runtime_dir=path.parent / "nginx",
        form=form,
        ipv6_loopback=has_ipv6_loopback(),
        worker_user=worker_user(path.parent),
        http2_directive=wants_http2_directive(),
        http2_sizes=wants_http2_sizes(),
    )
