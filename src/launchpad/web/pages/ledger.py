"""The page of one's own access ledger: who looked at or changed what is one's own."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from ..deps import Catalogue, CurrentUser, Ledger
from ..paging import NumberCursor
from ..views.ledger import ledger_rows
from .rendering import page

router = APIRouter(prefix="/account/ledger", include_in_schema=False)

PAGE = 50


@router.get("")
async def ledger(
    request: Request,
    visitor: CurrentUser,
    records: Ledger,
    catalogue: Catalogue,
    everyone: bool = False,
    before: NumberCursor = None,
) -> Response:
    """Newest first; with `everyone` also what concerned everybody at once."""
    found, further = await records.page(visitor.user, limit=PAGE, before_id=before, everyone=everyone)
    wanted = {"everyone": "true"} if everyone else {}
    more = urlencode({**wanted, "before": further}) if further is not None else None
    return page(
        request,
        "ledger.html",
        visitor,
        entries=ledger_rows(found, catalogue),
        everyone=everyone,
        is_first=before is None,
        next_page=f"/account/ledger?{more}" if more else None,
        export="/api/v1/me/ledger/export?" + urlencode({**wanted, "format": ""}),
    )
