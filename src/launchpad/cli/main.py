"""The commands of `launchpad`."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from .. import __version__
from .output import out

# Each command's module and what it is there: a function, or a Typer of commands. A module is loaded when its command is
# asked for: most need the whole platform, and the helper, which is not to know it, is one of them.
COMMANDS = {
    "serve": ("serve_command", "serve"),
    "sweep": ("sweep_command", "sweep"),
    "doctor": ("doctor_command", "app"),
    "helper": ("helper_command", "helper"),
    "quickstart": ("quickstart", "quickstart"),
    "prepare": ("quickstart", "prepare"),
    "stop-instances": ("quickstart", "stop_instances"),
    "nginx": ("nginx_commands", "app"),
    "images": ("image_commands", "app"),
    "network": ("network_commands", "app"),
    "release": ("release_commands", "app"),
    "user": ("admin_commands", "users"),
    "instance": ("admin_commands", "instances"),
    "home": ("home_commands", "app"),
    "lab": ("lab_commands", "app"),
    "limits": ("admin_commands", "limits"),
    "policy": ("policy_commands", "app"),
    "announce": ("announce_command", "announce"),
    "mail": ("mail_commands", "app"),
    "audit": ("audit_commands", "app"),
    "backup": ("backup_commands", "backup"),
    "restore": ("backup_commands", "restore"),
    "import-original": ("import_command", "import_original"),
    "drill": ("backup_commands", "drill"),
    "report-failure": ("backup_commands", "report_failure"),
}
# Called by units and scripts, not by people.
HIDDEN = {"helper", "quickstart", "prepare", "stop-instances", "network", "release", "report-failure"}


class Commands(TyperGroup):
    """What is written here as a command, and `COMMANDS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, name = COMMANDS[cmd_name]
        made: Any = getattr(import_module(f".{module}", __package__), name)
        if not isinstance(made, typer.Typer):
            function, made = made, typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            made.command(cmd_name)(function)
        command = typer.main.get_command(made)
        command.name, command.hidden = cmd_name, cmd_name in HIDDEN
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Typer's own suggestions know only what is loaded."""
        if args and args[0] not in (known := self.list_commands(ctx)) and (near := get_close_matches(args[0], known)):
            ctx.fail(f"No such command '{args[0]}'. Did you mean {' or '.join(map(repr, near))}?")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="launchpad",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def launchpad() -> None:
    """RStudio and JupyterLab for everyone on your own server."""


@app.command("version")
def version() -> None:
    """Print the version."""
    out.print(__version__)


def main() -> None:
    app()
