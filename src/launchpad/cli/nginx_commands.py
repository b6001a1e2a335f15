"""`launchpad nginx render`: the one source of nginx's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import LaunchpadError
from ..ops.nginx.site import rendered
from .context import ConfigOption, settings_or_exit
from .output import err, fail

app = typer.Typer(help="nginx's configuration.", no_args_is_help=True, add_completion=False)


@app.callback()
def group() -> None:
    """nginx's configuration."""


@app.command("render")
def render_command(
    config: ConfigOption = None,
    form: Annotated[
        str, typer.Option(help="full: a complete nginx.conf; site: for sites-enabled of an existing nginx.")
    ] = "full",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
) -> None:
    """Write the complete configuration."""
    if form not in ("full", "site"):
        raise typer.BadParameter("choose full or site", param_hint="--form")
    settings = settings_or_exit(config)
    try:
        text = rendered(settings, None, "site" if form == "site" else "full")
    except LaunchpadError as error:
        fail(error)
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
        err.print(f"Written to {output}; check it with: nginx -t -c {output}", markup=False)
