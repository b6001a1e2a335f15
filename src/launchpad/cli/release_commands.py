"""`launchpad release …`: what install.sh asks of the program when its version changes."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import LaunchpadError
from ..services import releases
from .context import ConfigOption, give_up_root, settings_or_exit
from .output import configure_logging, err, fail, out

app = typer.Typer(help="Changes of the program's version; for install.sh.", no_args_is_help=True, add_completion=False)


@app.command("check")
def check(
    installed: Annotated[str, typer.Option("--installed", help="The version that runs now.")],
    config: ConfigOption = None,
) -> None:
    """Whether this version may take the place of the installed one."""
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
    again: Annotated[bool, typer.Option("--again", help="For an upgrade that was broken off and goes on.")] = False,
) -> None:
    """Copy the database, for the way back."""
    configure_logging()
    settings = settings_or_exit(config)
    give_up_root(settings)
    try:
        releases.keep(settings, again=again)
    except LaunchpadError as error:
        fail(error)


@app.command("back")
def back(config: ConfigOption = None) -> None:
    """Put the database back to where this version understands it; the portal must not run."""
    configure_logging()
    settings = settings_or_exit(config)
    give_up_root(settings)
    try:
        out.print(releases.go_back(settings), markup=False)
    except LaunchpadError as error:
        fail(error)
