"""`launchpad network …`: the instances' network on this server."""

from __future__ import annotations

import asyncio
import logging

import typer

from ..errors import LaunchpadError
from ..parts import engine_of
from .context import ConfigOption, settings_or_exit
from .logs import configure_logging
from .output import err, fail

app = typer.Typer(help="The instances' network.", no_args_is_help=True, add_completion=False)


@app.callback()
def group() -> None:
    """The instances' network."""


@app.command("remove")
def remove(config: ConfigOption = None) -> None:
    """Remove the network and its firewall rules, before the platform is uninstalled."""
    configure_logging(logging.WARNING)
    settings = settings_or_exit(config)

    async def work() -> None:
        runtime = engine_of(settings)
        try:
            await runtime.remove_network()
        finally:
            await runtime.aclose()

    try:
        asyncio.run(work())
    except LaunchpadError as error:
        fail(error)
    err.print("The network was removed.")
