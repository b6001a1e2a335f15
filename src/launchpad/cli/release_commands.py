"""`launchpad release …`: what install.sh asks of the program when its version changes."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import LaunchpadError
from ..ops import releases
from .context import ConfigOption, give_up_root, settings_or_exit
from .logs import configure_logging
from .output import err, fail, out

app = typer.Typer(help="Steps of an upgrade; used by install.sh.", no_args_is_help=True, add_completion=False)


@app.command("check")
def check(
    installed: Annotated[str, typer.Option("--installed", help="The version that is running now.")],
    config: ConfigOption = None,
) -> None:
    """Check whether this version can replace the installed one."""
    configure_logging()
    settings = settings_or_exit(config)
    give_up_root(settings)
    try:
        for line in releases.check(settings, installed):
            err.print(line, markup=False)
    except LaunchpadError as error:
        fail(error)


@app.command("keep")
def keep(
    config: ConfigOption = None,
    again: Annotated[
        bool, typer.Option("--again", help="For an upgrade that was interrupted and is continued.")
    ] = False,
) -> None:
    """Copy the database, so that the upgrade can be rolled back."""
    configure_logging()
    settings = settings_or_exit(config)
    give_up_root(settings)
    try:
        releases.keep(settings, again=again)
    except LaunchpadError as error:
        fail(error)


@app.command("back")
def back(config: ConfigOption = None) -> None:
    """Restore the database to a state that this version understands; the portal must be stopped."""
    configure_logging()
    settings = settings_or_exit(config)
    give_up_root(settings)
    try:
        out.print(releases.go_back(settings), markup=False)
    except LaunchpadError as error:
        fail(error)
