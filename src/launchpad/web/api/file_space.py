"""What takes up the room in a home, what can be emptied, and the Trash."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from ..deps import Configured, CurrentUser, HomeFiles
from ..file_query import At
from ..files_schemas import (
    CacheView,
    IdsBody,
    RestoringView,
    SomeIdsBody,
    SpaceNode,
    SpaceView,
    TrashedView,
    TrashView,
)
from .responses import HOME_PROBLEMS, ROOT

router = APIRouter(prefix=f"{ROOT}/home", tags=["files"], responses=HOME_PROBLEMS)


@router.get("/space")
async def space(
    visitor: CurrentUser, files: HomeFiles, path: At, depth: Annotated[int, Query(ge=1, le=3)] = 2
) -> SpaceView:
    """The largest of what lies in a folder and in its folders, and the caches that are safe to empty."""
    found = await files.space(visitor.user, path, depth)
    folder, _, name = path.strip("/").rpartition("/")
    return SpaceView(
        folder=SpaceNode.of(found | {"name": name}, folder),
        complete=found["complete"],
        caches=[CacheView.of(cache, size) for cache, size in await files.caches(visitor.user)],
    )


@router.post("/caches/{name}/empty", status_code=204)
async def empty_cache(name: str, visitor: CurrentUser, files: HomeFiles) -> None:
    """Deletes what lies in a cache permanently."""
    await files.empty_cache(visitor.user, name)


@router.get("/trash")
async def trash(visitor: CurrentUser, files: HomeFiles, settings: Configured) -> TrashView:
    """What was deleted, the newest first. What is older than `days` is removed permanently."""
    found = await files.trash(visitor.user, visitor.now)
    entries = [TrashedView.of(entry) for entry in found["entries"]]
    return TrashView(entries=entries, total=found["total"], days=settings.files.trash_days)


@router.post("/trash/restore")
async def restore(body: IdsBody, visitor: CurrentUser, files: HomeFiles) -> RestoringView:
    """Back to where it was, by the ids of the Trash. Nothing is replaced; removed folders are created again."""
    return RestoringView.of(await files.restore(visitor.user, body.inside))


@router.post("/trash/empty", status_code=204)
async def empty_trash(body: SomeIdsBody, visitor: CurrentUser, files: HomeFiles) -> None:
    """Deletes everything in the Trash permanently, or only what has one of the ids."""
    ids = None if body.ids is None else IdsBody(ids=body.ids).inside
    await files.empty_trash(visitor.user, ids)
