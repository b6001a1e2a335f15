"""`launchpad serve`: the portal, on its Unix socket, with nginx in front."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import LaunchpadError
from .context import ConfigOption
from .output import fail


def serve(
    config: ConfigOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log warnings and errors only.")] = False,
) -> None:
    """Run the portal until it is stopped. Only nginx should connect to it, by a Unix socket."""
    from .portal import run  # the pages take a moment to load, and the other commands need none of them

    try:
        run(config, quiet=quiet)
    except LaunchpadError as error:
        fail(error)
