"""The portal's process: on its Unix socket, with nginx in front; and its control socket, for commands.

Neither the commands' parser nor what draws tables is loaded here: this process stays.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from pathlib import Path

from uvicorn.config import Config
from uvicorn.server import Server

from ..control.server import ControlServer
from ..errors import SettingsError
from ..ops.portal_socket import prepare_socket_folder, socket_path
from ..settings import Settings, load_settings
from ..systemd import inherited_socket, keep_watchdog, notify
from ..web.app import create_app
from ..web.pages.rendering import load_templates
from ..wiring import build_platform
from .logs import configure_logging
from .memory import keep_together, settle
from .rights import give_up_root

BACKLOG = 2048


def run(config: Path | None, *, quiet: bool) -> None:
    """Until it is stopped.

    Raises:
        LaunchpadError: it cannot be started.
    """
    keep_together()
    configure_logging(logging.WARNING if quiet else logging.INFO)
    settings = load_settings(config)
    listening = inherited_socket()
    if listening is None and settings.helper.socket is not None:
        listening = _listen(_named_socket(settings))  # as root, before root is given up
    give_up_root(settings)
    platform = build_platform(settings)
    load_templates()
    if listening is None:
        listening = _listen(socket_path(settings, platform.state))
    server = _Server(
        ControlServer(platform),
        Config(
            create_app(platform),
            proxy_headers=False,  # deps.get_client knows whom to believe
            access_log=False,  # nginx keeps one
            ws="none",  # no page of the portal opens a WebSocket
            log_level="warning",
            timeout_graceful_shutdown=2,  # pages that follow an instance would hold it for ever
            server_header=False,
        ),
    )
    server.run(sockets=[listening])


class _Server(Server):
    """Tells systemd when it is ready, and for as long as it lives; listens to commands."""

    def __init__(self, control: ControlServer, config: Config) -> None:
        super().__init__(config)
        self._control = control
        self._beside: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.should_exit:  # the application did not start
            return
        self._beside = [asyncio.create_task(keep_watchdog()), asyncio.create_task(self._control.run())]
        settle()
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
