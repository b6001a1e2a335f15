"""The commands of `launchpad`."""

from __future__ import annotations

import typer

from .. import __version__
from . import (
    admin_commands,
    backup_commands,
    doctor_command,
    helper_command,
    image_commands,
    import_command,
    mail_commands,
    network_commands,
    nginx_commands,
    quickstart,
    release_commands,
    serve_command,
    sweep_command,
)
from .output import out

app = typer.Typer(
    name="launchpad",
    help="RStudio and JupyterLab for everyone on your own server.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("serve")(serve_command.serve)
app.command("sweep")(sweep_command.sweep)
app.add_typer(doctor_command.app, name="doctor")
app.command("helper", hidden=True)(helper_command.helper)
app.command("quickstart", hidden=True)(quickstart.quickstart)
app.add_typer(nginx_commands.app, name="nginx")
app.add_typer(image_commands.app, name="images")
app.add_typer(network_commands.app, name="network", hidden=True)
app.add_typer(release_commands.app, name="release", hidden=True)
app.add_typer(admin_commands.users, name="user")
app.add_typer(admin_commands.instances, name="instance")
app.add_typer(admin_commands.limits, name="limits")
app.add_typer(mail_commands.app, name="mail")
app.command("audit")(admin_commands.audit)
app.command("backup")(backup_commands.backup)
app.command("restore")(backup_commands.restore)
app.command("import-original")(import_command.import_original)
app.command("drill")(backup_commands.drill)
app.command("report-failure", hidden=True)(backup_commands.report_failure)


@app.command("version")
def version() -> None:
    """Print the version."""
    out.print(__version__)


def main() -> None:
    app()
