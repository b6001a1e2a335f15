"""What an idle rule would have ended, for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from ..deps import CurrentAdmin, Ledger, PolicyReplays
from ..replay_schemas import ReplayBody, ReplayView, as_csv
from .responses import PROBLEMS, ROOT

router = APIRouter(prefix=f"{ROOT}/admin/policies", tags=["admin"], responses=PROBLEMS)
CSV = "text/csv"


@router.post("/replay", response_model=ReplayView, responses={200: {"content": {CSV: {"schema": {"type": "string"}}}}})
async def replay(
    body: ReplayBody,
    visitor: CurrentAdmin,
    replays: PolicyReplays,
    ledger: Ledger,
    limit: Annotated[int, Query(ge=0, le=10_000)] = 1000,
    accept: Annotated[str, Header()] = "",
) -> Response | ReplayView:
    """What an idle rule would have ended, from recorded activity, and which of that was at work or missed. Changes
    nothing. With `Accept: text/csv` all ends as a table.
    """
    report = await replays.replay(body.request(), visitor.now)
    await ledger.looked_at_people(visitor.actor, report.owners, "idle_policy.replayed", visitor.now)
    if accept.split(",")[0].split(";")[0].strip() == CSV:
        return Response(as_csv(report.ends), media_type=CSV)
    return ReplayView.of(report, limit)
