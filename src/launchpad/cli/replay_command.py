"""`launchpad policy replay`: what an idle rule would have ended."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer

from ..domain.activity import Step
from ..domain.policy import IdleAction, IdleRule
from ..domain.policy_codec import scope_of
from ..domain.replay import Totals
from ..domain.times import parse_span, span_in_words
from ..errors import InvalidInput
from ..platform import Platform
from ..services.audit import CLI
from ..services.policy_replay import ReplayReport, ReplayRequest
from ..web.replay_schemas import ReplayedEndView, ReplayView, as_csv
from .context import ConfigOption, JsonOption, with_platform
from .output import fail, out, show_json, show_table

SHOWN = 50


class ReplayAction(StrEnum):
    STOP = "stop"
    FREEZE = "freeze"


def replay(
    idle: Annotated[str, typer.Option(help="Idle time: 90m, 4h, 2d.")] = "4h",
    days: Annotated[int, typer.Option(help="Of how many days up to now.")] = 30,
    action: Annotated[ReplayAction, typer.Option(help="What the rule does.")] = ReplayAction.STOP,
    environment: Annotated[str, typer.Option(help="Only of this environment.")] = "",
    lab: Annotated[str, typer.Option(help="Only of this lab.")] = "",
    user: Annotated[str, typer.Option(help="Only of this user, by e-mail address.")] = "",
    every: Annotated[bool, typer.Option("--all", help=f"Show all ends, not the first {SHOWN}.")] = False,
    as_table: Annotated[bool, typer.Option("--csv", help="Print all ends as CSV.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what an idle rule would have ended, from recorded activity. Changes nothing."""
    try:
        minutes = round(parse_span(idle).total_seconds() / 60)
    except ValueError as error:
        fail(InvalidInput(f"--idle: {error}."))
    rule = IdleRule(IdleAction(action.value), max(1, minutes))
    request = ReplayRequest(rule, days, scope_of(environment, lab, user))

    async def work(platform: Platform) -> ReplayReport:
        report = await platform.policy_replay.replay(request, platform.now())
        await platform.ledger.looked_at_people(CLI, report.owners, "idle_policy.replayed", platform.now())
        return report

    report = with_platform(config, work)
    if as_table:
        print(as_csv(report.ends), end="")
    elif as_json:
        show_json(ReplayView.of(report, len(report.ends)).model_dump(mode="json"))
    else:
        _show(report, len(report.ends) if every else SHOWN)


def _show(report: ReplayReport, limit: int) -> None:
    rows = [ReplayedEndView.of(end).model_dump() for end in report.ends[:limit]]
    columns = ("instance", "owner", "environment", "at", "gb_hours", "afterwards", "evidence")
    show_table(rows, columns, as_json=False, empty="Nothing would have been ended.")
    if len(report.ends) > limit:
        out.print(f"… and {len(report.ends) - limit} more (--all)", markup=False)
    out.print()
    for line in summary_of(report):
        out.print(line, markup=False)


def summary_of(report: ReplayReport) -> list[str]:
    """What all of it comes to, in lines for people."""
    totals, frozen = report.totals, report.request.rule.action is IdleAction.FREEZE
    done = "frozen" if frozen else "stopped"
    rule = f"{done} after {span_in_words(report.request.rule.idle_time)} without a person and without work"
    lines = [
        f"Rule: {report.request.scope.in_words}, {rule}",
        f"Time: {report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC",
        f"Instances: {totals.instances} of {report.instances} would have been {done}, {totals.ends} times in all, "
        f"of {_people(totals.people)}",
        f"Freed: {totals.gb_hours:.1f} GB-hours of memory, {totals.core_hours:.1f} core-hours",
        f"At work: {totals.working} worked again within an hour with nobody there, {totals.worked_later} later",
        f"Missed: {_back(totals, frozen)}",
    ]
    if report.recorded_since is None:
        lines.append("Nothing was recorded of this time.")
    elif report.recorded_since - report.since > timedelta(hours=1):
        lines.append(f"Recorded since {report.recorded_since:%Y-%m-%d %H:%M} UTC only.")
    first = report.recorded_since or report.until
    coarse = [part for part in report.resolutions if part.step is not Step.MINUTE and first < part.until]
    if coarse:
        known = ", ".join(
            f"{span_in_words(timedelta(seconds=part.step))} until {part.until:%Y-%m-%d %H:%M}" for part in coarse
        )
        lines.append(
            f"Known in steps of {known}: ends there may be shown two steps late, shorter idle times not at all."
        )
    return lines


def _people(number: int) -> str:
    return f"{number} {'person' if number == 1 else 'people'}"


def _back(totals: Totals, frozen: bool) -> str:
    would = "have waited for a thaw" if frozen else "have had to launch again"
    times = "once" if totals.came_back == 1 else f"{totals.came_back} times"
    return f"{_people(totals.people_back)} would {would}, {times}"
