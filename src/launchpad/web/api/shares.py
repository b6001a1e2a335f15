"""Files and folders that people share: one's own, and what others let one read."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from ...domain.file_paths import shown
from ...services.share_reading import new_secret
from ...services.shares import SharedByMe
from ..deps import Configured, CurrentUser, Shares
from ..file_answers import drawn_answer, file_answer, zip_answer
from ..file_query import At, FileCursor, FileLimit
from ..files_schemas import FolderView
from ..share_schemas import GivenShareView, OwnShareView, ShareBody, SharesView
from ..streams import LOCKED
from ..views.shares import link_path
from .files import PREVIEWS, VIEWS, ZIP
from .responses import HOME_PROBLEMS, ROOT

router = APIRouter(prefix=f"{ROOT}/shares", tags=["shares"], responses=HOME_PROBLEMS)


@router.get("")
async def listed(visitor: CurrentUser, shares: Shares, settings: Configured) -> SharesView:
    """What one shares, and what others share with one."""
    url = settings.public_url
    return SharesView(
        by_me=[OwnShareView.of(one, url) for one in await shares.by_me(visitor.user, visitor.now)],
        with_me=[GivenShareView.of(one, url) for one in await shares.with_me(visitor.user, visitor.now)],
    )


@router.post("", status_code=201)
async def share(body: ShareBody, visitor: CurrentUser, shares: Shares, settings: Configured) -> OwnShareView:
    """Lets other people of the platform read a file or folder of one's home, until a date."""
    secret = new_secret() if body.link else None
    made = await shares.share(
        visitor.user,
        body.inside,
        body.people,
        lab=(visitor.user.lab or "") if body.lab else None,
        days=body.days,
        actor=visitor.actor,
        now=visitor.now,
        secret=secret,
    )
    link = None if secret is None else settings.public_url + link_path(made.id, secret)
    return OwnShareView.of(SharedByMe(made, ()), settings.public_url, link)


@router.delete("/{share_id}", status_code=204)
async def stop(share_id: str, visitor: CurrentUser, shares: Shares) -> None:
    """Nobody else can read it from now on; downloads of it that are under way stop."""
    await shares.stop(visitor.user, share_id, visitor.actor, visitor.now)


@router.get("/{share_id}/entries")
async def entries(
    share_id: str,
    visitor: CurrentUser,
    shares: Shares,
    path: At,
    cursor: FileCursor | None = None,
    limit: FileLimit = 200,
    sort: Literal["name", "size", "modified"] = "name",
    order: Literal["asc", "desc"] = "asc",
    hidden: bool = True,
) -> FolderView:
    """What lies in a shared folder, or in one in it: `path` is below what is shared."""
    shared = await shares.get(visitor.user, share_id, visitor.now)
    found = await shares.entries(
        visitor.user, share_id, path, visitor.now, cursor=cursor, limit=limit, sort=sort, order=order, hidden=hidden
    )
    await shares.note_opened(visitor.user, shared.share, visitor.now)
    return FolderView.of(path, found)


@router.get("/{share_id}/files", response_class=Response, responses=PREVIEWS)
async def download(
    share_id: str,
    visitor: CurrentUser,
    shares: Shares,
    request: Request,
    path: At,
    preview: Literal["text", "csv", "image", "notebook", "pdf"] | None = None,
) -> Response:
    """A file of a shared folder, or the shared file (an empty `path`): as `GET /api/v1/home/files`."""
    shared = await shares.get(visitor.user, share_id, visitor.now)
    name = path.rpartition("/")[2] or shared.share.name
    asking = visitor.user, share_id
    await shares.note_opened(visitor.user, shared.share, visitor.now)
    if preview in ("image", "pdf"):
        opening = shares.received(*asking, "preview", visitor.now, path=path, kind=preview)
        return await drawn_answer(opening, name, preview)
    if preview is not None:
        told = await shares.preview(*asking, path, preview, visitor.now)
        view = VIEWS[preview].model_validate({"size_bytes": told["size"], **told})
        return JSONResponse(view.model_dump(mode="json"), headers=LOCKED)
    return await file_answer(request, shares.received(*asking, "read", visitor.now, path=path), name)


@router.get("/{share_id}/archives", response_class=Response, responses=ZIP)
async def archive(share_id: str, visitor: CurrentUser, shares: Shares, path: At) -> Response:
    """A shared folder, or something in it, as a zip."""
    shared = await shares.get(visitor.user, share_id, visitor.now)
    await shares.note_opened(visitor.user, shared.share, visitor.now)
    opening = shares.received(visitor.user, share_id, "archive", visitor.now, paths=[path])
    return await zip_answer(opening, shown(shared.share.name))
