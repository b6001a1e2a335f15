"""`launchpad serve`: the portal, on its Unix socket, with nginx in front."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from ..control.server import ControlServer
from ..errors import LaunchpadError, SettingsError
from ..ops.nginx.site import socket_path
from ..settings import Settings
from ..systemd import inherited_socket, keep_watchdog, notify
from ..wiring import build_platform
from .context import ConfigOption, give_up_root, settings_or_exit
from .output import configure_logging, fail

NGINX_GROUPS = ("www-data", "nginx")
BACKLOG = 2048


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


def serve(
    config: ConfigOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log warnings and errors only.")] = False,
) -> None:
    """Run the portal until it is stopped. Only nginx should connect to it, by a Unix socket."""
    from ..web.app import create_app  # the pages take a moment to load, and the other commands need none of them

    configure_logging(logging.WARNING if quiet else logging.INFO)
    settings = settings_or_exit(config)
    try:
        listening = inherited_socket()
        if listening is None and settings.helper.socket is not None:
            listening = _listen(_named_socket(settings))  # as root, before root is given up
        give_up_root(settings)
        platform = build_platform(settings)
        if listening is None:
            listening = _listen(socket_path(settings, platform.state))
    except LaunchpadError as error:
        fail(error)
    server = _Server(
        ControlServer(platform),
        uvicorn.Config(
            create_app(platform),
            proxy_headers=False,  # deps.get_client knows whom to believe
            access_log=False,  # nginx keeps one
            log_level="warning",
            timeout_graceful_shutdown=2,  # pages that follow an instance would hold it for ever
            server_header=False,
        ),
    )
    server.run(sockets=[listening])


class _Server(uvicorn.Server):
    """Tells systemd when it is ready, and for as long as it lives; listens to commands."""

    def __init__(self, control: ControlServer, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._control = control
        self._beside: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.should_exit:  # the application did not start
            return
        self._beside = [asyncio.create_task(keep_watchdog()), asyncio.create_task(self._control.run())]
        notify("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notify("STOPPING=1")
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        await super().shutdown(sockets)


def _named_socket(settings: Settings) -> Path:
    if settings.web.socket is None:
        raise SettingsError("web.socket must be set where helper.socket is set.")
    return settings.web.socket


def _listen(path: Path) -> socket.socket:
    """A listening socket at `path`; one that was left behind is replaced."""
    prepare_socket_folder(path)
    with suppress(FileNotFoundError):
        path.unlink()
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(str(path))
    path.chmod(0o666)  # the folder says who may
    made.listen(BACKLOG)
    made.setblocking(False)
    return made
