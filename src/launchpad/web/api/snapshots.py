"""Snapshots of one's own home, and restoring from them. They are read with `snapshot=` of the calls for files."""

from __future__ import annotations

from fastapi import APIRouter

from ..deps import CurrentUser, SnapshotsOfHomes
from ..files_schemas import EntryView, RestoreBody, RestoredCopyView
from ..snapshot_schemas import SnapshotsView, SnapshotView
from .responses import HOME_PROBLEMS, ROOT

router = APIRouter(prefix=f"{ROOT}/home", tags=["files"], responses=HOME_PROBLEMS)


@router.get("/snapshots")
async def snapshots(visitor: CurrentUser, snapshots: SnapshotsOfHomes) -> SnapshotsView:
    """Those there are, the newest first; `obstacle` says why no more are taken, where none are."""
    obstacle = await snapshots.obstacle()
    return SnapshotsView(
        snapshots=[SnapshotView.of(one) for one in await snapshots.of(visitor.user)],
        obstacle=obstacle.why if obstacle is not None else None,
    )


@router.post("/restores", status_code=201)
async def restore(body: RestoreBody, visitor: CurrentUser, snapshots: SnapshotsOfHomes) -> RestoredCopyView:
    """Puts a file or folder into the home as it was in a snapshot: all of it, or nothing."""
    in_place = body.to == "in place"
    path = body.inside(body.path)
    told = await snapshots.restore(visitor.user, body.snapshot, path, visitor.now, in_place=in_place)
    entry = EntryView.of(told["entry"], told["path"].rpartition("/")[0])
    return RestoredCopyView.of(told, entry)
