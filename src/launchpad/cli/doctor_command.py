"""`launchpad doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ..ops.doctor import Finding, Level
from ..platform import Platform
from ..settings.file import config_path
from .context import ConfigOption, JsonOption, with_platform
from .output import out, show_json

SIGNS = {Level.OK: ("green", "ok"), Level.WARN: ("yellow", "note"), Level.BAD: ("red", "bad")}

app = typer.Typer(help="Find problems, and what to do about them.", invoke_without_command=True, add_completion=False)


@app.callback()
def doctor(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check everything the platform depends on; the exit code is 1 if there is a problem."""
    if context.invoked_subcommand is not None:
        return

    settings_file = config_path(config, os.environ)

    async def work(platform: Platform) -> list[Finding]:
        findings = await platform.doctor.examine(platform.now(), settings_file)
        _show(findings, as_json=as_json)
        if any(finding.unanswered for finding in findings):
            # A file system that does not answer (NFS) holds a thread of ours for ever, and the command would wait for
            # it. The kernel closes what is open.
            sys.stdout.flush()
            os._exit(1)
        return findings

    findings = with_platform(config, work, whatever_the_database=True)
    if any(finding.level is Level.BAD for finding in findings):
        raise typer.Exit(1)


@app.command("mail")
def mail(
    to: Annotated[str, typer.Option("--to", help="Address that the test mail goes to.")],
    config: ConfigOption = None,
) -> None:
    """Send a test mail now, without retries, and report the result."""

    async def work(platform: Platform) -> str:
        return await platform.doctor.send_mail(to, platform.now())

    out.print(with_platform(config, work), markup=False)


def _show(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        fields = ("level", "subject", "text", "remedy")
        show_json([{name: getattr(finding, name) for name in fields} for finding in findings])
    else:
        for finding in findings:
            colour, word = SIGNS[finding.level]
            out.print(f"[{colour}]{word:<5}[/]", end="")
            out.print(f"{finding.subject}: {finding.text} {finding.remedy}".rstrip(), markup=False)
