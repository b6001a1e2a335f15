"""`launchpad doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import typer

from ..services.doctor import Finding, Level
from ..services.platform import Platform
from .context import ConfigOption, JsonOption, with_platform
from .output import out, show_json

SIGNS = {Level.OK: "[green]ok[/]", Level.WARN: "[yellow]note[/]", Level.BAD: "[red]bad[/]"}


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Look at everything the platform depends on; the exit code is 1 when something is bad."""

    async def work(platform: Platform) -> list[Finding]:
        return await platform.doctor.examine()

    findings = with_platform(config, work)
    if as_json:
        show_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            out.print(f"{SIGNS[finding.level]:<18}", end=" ")
            out.print(f"{finding.subject}: {finding.text} {finding.remedy}".rstrip(), markup=False)
    if any(finding.level is Level.BAD for finding in findings):
        raise typer.Exit(1)
