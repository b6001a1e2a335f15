"""What homes take up: one's own, and everybody's for administrators."""

from __future__ import annotations

from fastapi import APIRouter, Response

from ...domain.home_lists import Sort
from ...errors import HomeUnavailable
from ..deps import CurrentAdmin, CurrentUser, HomeUses, Ledger, Present, SnapshotsOfHomes
from ..home_schemas import AdminHomeView, DiskView, HomeView, LabHomesView
from ..paging import Limit, LongCursor, home_place_of, tell_next
from .responses import PROBLEMS, ROOT

router = APIRouter(prefix=ROOT, responses=PROBLEMS)


@router.get("/home", tags=["home"])
async def home(visitor: CurrentUser, present: Present, snapshots: SnapshotsOfHomes) -> HomeView:
    """What one's home folder takes up, as measured last. Null: not measured yet, or nobody limits it. And what can be
    restored from; nothing while that cannot be told.
    """
    use = await present.home_use(visitor.user)
    try:
        found = await snapshots.of(visitor.user)
    except HomeUnavailable:
        found = []
    return HomeView.of(use, found)


@router.get("/admin/homes", tags=["admin"])
async def homes(
    visitor: CurrentAdmin,
    uses: HomeUses,
    ledger: Ledger,
    response: Response,
    search: str = "",
    sort: Sort = Sort.USED,
    limit: Limit = 100,
    cursor: LongCursor | None = None,
) -> list[AdminHomeView]:
    """What everybody's home takes up: the largest first (`used`), or by `share` of the limit, by `limit`, by growth in
    the last `week` or `month`, or by `email`. `X-Next-Cursor` continues a long list.
    """
    found = await uses.page(sort, search=search, limit=limit, after=home_place_of(sort, cursor))
    await ledger.looked_at_list(visitor.actor, {one.user.id for one in found}, "home.listed", visitor.now)
    tell_next(response, found, limit, lambda one: one.place)
    return [AdminHomeView.of(one) for one in found]


@router.get("/admin/homes/labs", tags=["admin"])
async def labs(visitor: CurrentAdmin, uses: HomeUses) -> list[LabHomesView]:
    """The same by lab, the one that takes up most first."""
    return [LabHomesView.of(one) for one in await uses.by_lab()]


@router.get("/admin/homes/disk", tags=["admin"])
async def disk(visitor: CurrentAdmin, uses: HomeUses) -> DiskView:
    """The disk that homes lie on."""
    return DiskView.of(await uses.disk())
