"""What the API takes and gives of a policy replay; the command and the console's table have the same columns."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from ..domain.policy import IdleAction, IdleRule
from ..domain.policy_codec import scope_of
from ..domain.replay import Afterwards, ReplayedEnd, Totals
from ..services.policy_replay import MOST_DAYS, ReplayReport, ReplayRequest, Resolution
from .schemas import Body
from .spreadsheets import csv_rows

COLUMNS = (
    *("instance", "owner", "lab", "environment", "action", "at", "idle_since", "until", "afterwards"),
    *("was_working", "gb_hours", "core_hours", "step_seconds", "evidence"),
)


class ReplayBody(Body):
    idle_hours: Annotated[float, Field(gt=0, le=1440)]
    days: int = Field(30, ge=1, le=MOST_DAYS)
    action: IdleAction = IdleAction.STOP
    environment: str | None = Field(None, max_length=31)
    lab: str | None = Field(None, max_length=100)
    user: str | None = Field(None, max_length=254, description="An e-mail address.")

    def request(self) -> ReplayRequest:
        rule = IdleRule(self.action, max(1, round(self.idle_hours * 60)))
        return ReplayRequest(rule, self.days, scope_of(self.environment, self.lab, self.user))


class ReplayedEndView(BaseModel):
    """One end, or freeze, that the rule would have brought."""

    instance: str
    owner: str
    lab: str | None
    environment: str
    action: IdleAction
    at: datetime
    idle_since: datetime
    until: datetime = Field(description="Up to when it stood there for nothing.")
    afterwards: Afterwards = Field(description="What came then: `nothing`, a `person`, or `work` with nobody there.")
    was_working: bool = Field(description="It worked again within an hour, with nobody there.")
    gb_hours: float
    core_hours: float
    step_seconds: int = Field(description="How finely activity is known of then; `at` may be two steps too late.")
    evidence: str

    @classmethod
    def of(cls, end: ReplayedEnd) -> ReplayedEndView:
        return cls(
            instance=end.instance.id,
            owner=end.instance.owner_email,
            lab=end.instance.lab,
            environment=end.instance.environment,
            action=end.action,
            at=end.at,
            idle_since=end.idle_since,
            until=end.until,
            afterwards=end.afterwards,
            was_working=end.was_working,
            gb_hours=round(end.gb_hours, 2),
            core_hours=round(end.core_hours, 2),
            step_seconds=end.step_seconds,
            evidence=end.evidence,
        )


class TotalsView(BaseModel):
    ends: int
    instances: int
    people: int
    gb_hours: float
    core_hours: float
    working: int = Field(description="Ends of instances that worked again within an hour, with nobody there.")
    worked_later: int = Field(description="Likewise after more than an hour.")
    came_back: int = Field(description="Ends after which a person returned.")
    people_back: int = Field(description="How many people would have had to launch again, or wait for a thaw.")

    @classmethod
    def of(cls, totals: Totals) -> TotalsView:
        values = dict(vars(totals))
        values |= {"gb_hours": round(totals.gb_hours, 1), "core_hours": round(totals.core_hours, 1)}
        return cls(**values)


class ResolutionView(BaseModel):
    step_seconds: int
    since: datetime
    until: datetime

    @classmethod
    def of(cls, part: Resolution) -> ResolutionView:
        return cls(step_seconds=int(part.step), since=part.since, until=part.until)


class ReplayView(BaseModel):
    """`ends` has those first that were at work or missed; `left_out` says how many more there are."""

    since: datetime
    until: datetime
    recorded_since: datetime | None = Field(description="Of when the first record is.")
    resolutions: list[ResolutionView]
    instances: int = Field(description="How many were recorded that the rule is about.")
    totals: TotalsView
    ends: list[ReplayedEndView]
    left_out: int = 0

    @classmethod
    def of(cls, report: ReplayReport, limit: int) -> ReplayView:
        return cls(
            since=report.since,
            until=report.until,
            recorded_since=report.recorded_since,
            resolutions=[ResolutionView.of(part) for part in report.resolutions],
            instances=report.instances,
            totals=TotalsView.of(report.totals),
            ends=[ReplayedEndView.of(end) for end in report.ends[:limit]],
            left_out=max(0, len(report.ends) - limit),
        )


def as_csv(ends: Iterable[ReplayedEnd]) -> str:
    """All ends as a table that spreadsheets read; nothing in it is a formula to them."""
    rows = (ReplayedEndView.of(end).model_dump(mode="json") for end in ends)
    return csv_rows([COLUMNS, *([row[name] for name in COLUMNS] for row in rows)])
