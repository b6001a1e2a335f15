"""Administrators' page that shows what an idle rule would have ended, before anybody turns it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from ...domain.activity import Step, cores_in_words
from ...domain.environments import Environment
from ...domain.policy import IdleAction, IdleRule
from ...domain.policy_codec import scope_of
from ...domain.replay import Afterwards, ReplayedEnd
from ...domain.sizes import describe_bytes
from ...domain.times import parse_span
from ...errors import InvalidInput
from ...services.ledger import LedgerService
from ...services.policy_replay import MOST_DAYS, PolicyReplayService, ReplayReport, ReplayRequest
from ..deps import Catalogue, CurrentAdmin, Ledger, PolicyReplays, Visitor
from ..replay_schemas import as_csv
from ..views.idle import scope_in_words
from ..views.values import Problems
from ..views.words import span_in_words
from .rendering import page

router = APIRouter(prefix="/admin/policies/replay", include_in_schema=False)

SHOWN = 100


@dataclass(frozen=True)
class Wanted:
    """What was asked for, as it was written."""

    idle: str = "4h"
    days: str = "30"
    action: str = "stop"
    environment: str = ""
    lab: str = ""
    user: str = ""
    asked: bool = False

    @property
    def query_text(self) -> str:
        names = ("idle", "days", "action", "environment", "lab", "user")
        return urlencode({name: value for name in names if (value := getattr(self, name))})

    def request(self) -> ReplayRequest:
        """Raises InvalidInput, with what is wrong by field."""
        problems = {}
        minutes, days = 0, 0
        try:
            minutes = round(parse_span(self.idle).total_seconds() / 60)
        except ValueError as error:
            problems["idle"] = str(error)
        try:
            days = int(self.days)
        except ValueError:
            problems["days"] = f"choose from 1 to {MOST_DAYS} days"
        if problems:
            raise InvalidInput("This cannot be replayed.", fields=problems)
        action = IdleAction.FREEZE if self.action == IdleAction.FREEZE else IdleAction.STOP
        return ReplayRequest(IdleRule(action, max(1, minutes)), days, scope_of(self.environment, self.lab, self.user))


@dataclass(frozen=True)
class Figure:
    """One number of the summary. `tone` is empty, or "bad" or "warn" where it should make one think."""

    number: str
    label: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Row:
    """One end, in words. `label` and `tone` are of what came then, and `after` says it whole."""

    end: ReplayedEnd
    title: str
    idle: str
    label: str
    tone: str
    after: str
    freed: str
    cores: str


@dataclass(frozen=True)
class Coarse:
    """Until when activity is known only in coarse steps, and what that means."""

    until: datetime
    text: str


@dataclass(frozen=True)
class Shown:
    """The answer, ready for the page.

    Attributes:
        is_late: the records begin later than the time that was asked for.
        whose: the instances that the rule is about, in words.
    """

    figures: tuple[Figure, ...]
    rows: tuple[Row, ...]
    left_out: int
    coarse: tuple[Coarse, ...]
    done: str
    is_late: bool
    whose: str
    report: ReplayReport


@router.get("")
async def replay(
    request: Request,
    visitor: CurrentAdmin,
    replays: PolicyReplays,
    ledger: Ledger,
    catalogue: Catalogue,
    idle: str | None = None,
    days: str = "30",
    action: str = "stop",
    environment: str = "",
    lab: str = "",
    user: str = "",
) -> Response:
    """The form, and what a rule would have done as soon as one is asked for."""
    wanted = Wanted(
        (idle or "4h")[:40], days[:10], action[:10], environment[:31], lab[:100], user[:254], idle is not None
    )
    problems = Problems()
    shown = None
    if wanted.asked:
        try:
            report = await _report(replays, ledger, wanted, visitor)
            shown = _shown(report, catalogue)
        except InvalidInput as error:
            problems = Problems(error.fields or {"": error.detail})
    return page(
        request,
        "admin/policy_replay.html",
        visitor,
        query=wanted,
        errors=problems,
        shown=shown,
        environments=[(one.name, one.title) for one in catalogue.values()],
    )


@router.get("/ends.csv")
async def ends(
    visitor: CurrentAdmin,
    replays: PolicyReplays,
    ledger: Ledger,
    idle: str = "4h",
    days: str = "30",
    action: str = "stop",
    environment: str = "",
    lab: str = "",
    user: str = "",
) -> Response:
    """All of them as a table for a spreadsheet."""
    wanted = Wanted(idle[:40], days[:10], action, environment, lab, user)
    report = await _report(replays, ledger, wanted, visitor)
    headers = {"Content-Disposition": 'attachment; filename="policy-replay.csv"'}
    return Response(as_csv(report.ends), media_type="text/csv", headers=headers)


async def _report(
    replays: PolicyReplayService, ledger: LedgerService, wanted: Wanted, visitor: Visitor
) -> ReplayReport:
    report = await replays.replay(wanted.request(), visitor.now)
    await ledger.looked_at_people(visitor.actor, report.owners, "idle_policy.replayed", visitor.now)
    return report


def _shown(report: ReplayReport, catalogue: Mapping[str, Environment]) -> Shown:
    totals, freezes = report.totals, report.request.rule.action is IdleAction.FREEZE
    done = "frozen" if freezes else "stopped"
    again = "waited a moment for the thaw" if freezes else "had to launch again"
    lost = "would have stood still" if freezes else "would have been lost"
    later = f", {totals.worked_later} more after a longer time" if totals.worked_later else ""
    figures = (
        Figure(
            str(totals.instances),
            f"of {report.instances} instance{'' if report.instances == 1 else 's'} {done}",
            f"{_times(totals.ends)} in all, {_people(totals.people)}",
        ),
        Figure(f"{totals.gb_hours:,.0f}", "GB-hours of memory freed", f"and {totals.core_hours:,.0f} core-hours"),
        Figure(
            str(totals.people_back),
            f"{'person' if totals.people_back == 1 else 'people'} would have {again}",
            f"{_times(totals.came_back)} in all",
            "warn" if totals.came_back else "",
        ),
        Figure(
            str(totals.working),
            "at work: it worked again within an hour, with nobody there",
            f"that work {lost}{later}" if totals.working or totals.worked_later else "",
            "bad" if totals.working or totals.worked_later else "",
        ),
    )
    titles = {one.name: one.title for one in catalogue.values()}
    rows = tuple(_row(end, titles) for end in report.ends[:SHOWN])
    is_late = report.recorded_since is not None and report.recorded_since - report.since > timedelta(hours=1)
    whose = scope_in_words(report.request.scope, catalogue)
    return Shown(figures, rows, max(0, len(report.ends) - SHOWN), _coarse(report), done, is_late, whose, report)


def _row(end: ReplayedEnd, titles: Mapping[str, str]) -> Row:
    label, tone = {
        Afterwards.NOTHING: ("not used again", "idle"),
        Afterwards.PERSON: ("somebody returned", "warn"),
        Afterwards.WORK: ("worked again", "bad"),
    }[end.afterwards]
    held = f"{describe_bytes(end.memory_bytes)} of {describe_bytes(end.instance.memory_bytes)} in use"
    return Row(
        end,
        titles.get(end.instance.environment, end.instance.environment),
        f"no person and no work for {span_in_words(end.at - end.idle_since)}; {cores_in_words(end.cpu_cores)}, {held}",
        "at work" if end.was_working else label,
        tone,
        end.after_in_words,
        f"{end.gb_hours:,.0f} GB-hours",
        f"{end.core_hours:,.0f} core-hours",
    )


def _coarse(report: ReplayReport) -> tuple[Coarse, ...]:
    return tuple(
        Coarse(
            part.until,
            f"{span_in_words(timedelta(seconds=part.step))}: an end is shown up to "
            f"{span_in_words(timedelta(seconds=2 * part.step))} late there, and shorter idle times are not seen.",
        )
        for part in report.resolutions
        if part.step is not Step.MINUTE and report.recorded_since is not None and report.recorded_since < part.until
    )


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _people(number: int) -> str:
    return f"{number} {'person' if number == 1 else 'people'}"
