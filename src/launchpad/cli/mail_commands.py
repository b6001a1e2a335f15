"""`launchpad mail`: what did not arrive, and reports of it from a mail server on this machine."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ..errors import SettingsError
from ..mail.bounces import REPORT_BYTES
from ..platform import Platform
from ..web.admin_schemas import MailFailureView
from .context import ConfigOption, JsonOption, ask_portal, settings_or_exit, with_platform
from .output import fail, out, show_table

app = typer.Typer(
    help="Delivery problems: list, remove from list, read bounces.", no_args_is_help=True, add_completion=False
)

MANY = 10_000
PIECE_BYTES = 64 * 1024


@app.command("failures")
def failures(
    search: Annotated[str, typer.Option(help="Part of an address.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the addresses that mail could not be delivered to, and why, the newest failure first."""

    async def work(platform: Platform) -> list[Mapping[str, Any]]:
        found = await platform.mail_failures.page(search=search, limit=MANY)
        users = await platform.users.by_emails({failure.address for failure in found})
        return [MailFailureView.of(one, users.get(one.address)).model_dump() for one in found]

    rows = with_platform(config, work)
    columns = ("address", "kind", "reason", "status", "count", "first_at", "last_at")
    show_table(rows, columns, as_json=as_json, empty="No known delivery problems.")


@app.command("forget")
def forget(
    address: Annotated[str, typer.Argument(help="The address, as shown in the list.")], config: ConfigOption = None
) -> None:
    """Remove an address from the list."""
    ask_portal(config, "forget_mail_failure", address=address)
    out.print(f"{address}: removed from the list", markup=False)


@app.command("read-bounces")
def read_bounces(config: ConfigOption = None) -> None:
    """Look into the mailbox of `[mail.bounces]` now, as the portal does every five minutes."""
    if not settings_or_exit(config).mail.bounces.host:
        fail(SettingsError("mail.bounces names no mailbox."))
    out.print(f"Undelivered mails reported: {ask_portal(config, 'read_bounces')}.")


@app.command("take-bounce")
def take_bounce(config: ConfigOption = None) -> None:
    """Read one report of undelivered mail from standard input, as piped by an alias of the mail server.

    Anything else is ignored. The exit code is 75 if it should be tried again later.
    """
    message = sys.stdin.buffer.read(REPORT_BYTES)
    while sys.stdin.buffer.read(PIECE_BYTES):
        pass  # the mail server may take a pipe that is not read to its end for a failure

    try:
        taken = ask_portal(config, "take_bounce", message=base64.b64encode(message).decode("ascii"))
    except SystemExit as refused:
        raise typer.Exit(os.EX_TEMPFAIL) from refused
    out.print(f"Undelivered mails reported: {taken}.")
