"""`launchpad helper`: the part that runs as root, behind its Unix socket."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from ..errors import LaunchpadError, SettingsError
from ..helper.files import FilesDoor
from ..helper.server import application, listen, serve, uid_of
from ..parts import build_helper
from ..settings import Settings
from ..systemd import inherited_sockets, keep_watchdog, notify
from .context import ConfigOption, settings_or_exit
from .logs import configure_logging
from .output import fail


def helper(config: ConfigOption = None) -> None:
    """Run the privileged helper until it is stopped. systemd starts it; see launchpad-helper.service."""
    configure_logging()
    settings = settings_or_exit(config)
    try:
        if os.geteuid() != 0:
            raise SettingsError("The helper does what needs root, and has to run as root.")
        asyncio.run(_run(settings))
    except LaunchpadError as error:
        fail(error)


async def _run(settings: Settings) -> None:
    path = settings.helper.socket
    if path is None:
        raise SettingsError("helper.socket names no socket, so there is nothing to listen on.")
    files_path = settings.helper.files_socket or Path(path)
    allowed_uids = {0, uid_of(settings.helper.user)}
    made = application(build_helper(settings), allowed_uids)
    door = FilesDoor(settings, allowed_uids)
    inherited = {Path(str(each.getsockname())).name: each for each in inherited_sockets()}
    # Where systemd's unit is of an older release, which knows one socket only, the other is our own.
    files_listening = inherited.pop(files_path.name, None) or listen(files_path)
    listening = next(iter(inherited.values()), None) or listen(Path(path))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    beside = [asyncio.create_task(keep_watchdog()), asyncio.create_task(door.serve(files_listening))]
    loop.call_soon(notify, "READY=1")
    try:
        await serve(made, listening, stop)
    finally:
        notify("STOPPING=1")
        for task in beside:
            task.cancel()
