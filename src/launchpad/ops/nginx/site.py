"""The configuration as this machine gets it: whether nginx has what we render."""

from __future__ import annotations

from pathlib import Path

from ...settings import Settings
from ...store.statedir import StateDir
from ..portal_socket import socket_path
from .machine import has_ipv6_loopback, wants_http2_directive, wants_http2_sizes, worker_user
from .render import Form, render

SITE = Path("/etc/nginx/sites-available/launchpad")  # where launchpad-apply puts it


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
