"""Administrators' page about what home folders take up, by user and by lab."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from ...domain.home_lists import Sort
from ..deps import CurrentAdmin, HomeUses, Ledger, Present
from ..paging import home_place_of
from ..views.home import HomeRow, LabRow, columns, disk_card, path_of
from .rendering import page

router = APIRouter(prefix="/admin/storage", include_in_schema=False)

PAGE = 50
LABS_SHOWN = 20


@router.get("")
async def storage(
    request: Request,
    visitor: CurrentAdmin,
    homes: HomeUses,
    ledger: Ledger,
    present: Present,
    q: str = "",
    sort: Sort = Sort.USED,
    after: Annotated[str | None, Query(max_length=400)] = None,
) -> Response:
    """Everybody's, as it was measured last, in the order that is asked for; the disk, and labs before them."""
    search = q.strip()[:200]
    disk = await homes.disk()
    found = await homes.page(sort, search=search, limit=PAGE + 1, after=home_place_of(sort, after))
    shown = {one.user.id for one in found[:PAGE]}
    await ledger.looked_at_list(visitor.actor, shown, "home.listed", visitor.now)
    further = found[PAGE - 1].place if len(found) > PAGE else None
    is_first = after is None and not search
    labs = await homes.by_lab() if is_first else []
    return page(
        request,
        "admin/storage.html",
        visitor,
        disk=disk_card(disk),
        counts=await homes.counts(),
        enforced=await present.size_is_enforced(),
        labs=[LabRow.of(one, disk) for one in labs[:LABS_SHOWN]] if any(one.lab for one in labs) else [],
        more_labs=max(0, len(labs) - LABS_SHOWN),
        rows=[HomeRow.of(one, disk) for one in found[:PAGE]],
        columns=columns(sort, search),
        next_page=path_of(sort, search, after=str(further)) if further is not None else None,
        query={"q": search, "sort": sort.value},
    )
