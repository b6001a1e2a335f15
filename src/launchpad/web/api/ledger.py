"""One's own access ledger: what others did with one's instances, files and account, or looked at."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from ..deps import Catalogue, CurrentUser, Ledger
from ..ledger_schemas import ExportFormat, LedgerView, as_csv, as_json
from ..paging import NEXT, Limit, NumberCursor
from ..spreadsheets import CSV
from .responses import PROBLEMS, ROOT

router = APIRouter(prefix=f"{ROOT}/me/ledger", tags=["account"], responses=PROBLEMS)

JSON = "application/json"
Everyone = Annotated[bool, Query(description="Also what concerned everybody at once, such as lists of all instances.")]


@router.get("")
async def ledger(
    visitor: CurrentUser,
    records: Ledger,
    catalogue: Catalogue,
    response: Response,
    everyone: Everyone = False,
    limit: Limit = 100,
    cursor: NumberCursor = None,
) -> list[LedgerView]:
    """What administrators, and commands on the server, did with one's things or looked at, newest first.

    `X-Next-Cursor` continues a long list. Looking again within an hour is one entry, which counts.
    """
    found, further = await records.page(visitor.user, limit=limit, before_id=cursor, everyone=everyone)
    if further is not None:
        response.headers[NEXT] = str(further)
    return [LedgerView.of(entry, catalogue) for entry in found]


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {CSV: {"schema": {"type": "string"}}, JSON: {"schema": {"type": "array"}}}}},
)
async def export(
    visitor: CurrentUser,
    records: Ledger,
    catalogue: Catalogue,
    format: ExportFormat = ExportFormat.CSV,
    everyone: Everyone = False,
) -> StreamingResponse:
    """The whole ledger as a file: CSV for a spreadsheet, or JSON."""
    pages = records.everything(visitor.user, everyone=everyone)
    content = (as_csv if format is ExportFormat.CSV else as_json)(pages, catalogue)
    headers = {"Content-Disposition": f'attachment; filename="launchpad-access-ledger.{format}"'}
    return StreamingResponse(content, media_type=CSV if format is ExportFormat.CSV else JSON, headers=headers)
