"""What one shares and what others share with one; a shared folder or file itself; and the form that shares."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response
from pydantic import Field

from ...domain.file_paths import decoded, encoded
from ...errors import Conflict, InvalidInput, NotFound, TooLarge
from ...services.shares import ShareService
from ..deps import Configured, CurrentUser, Present, Shares, Visitor
from ..file_query import At, FileCursor
from ..policy import page_policy
from ..views import files as views
from ..views import shares as share_views
from .after_form import stands_on
from .file_acts import FolderForm
from .files import PAGE, frame_of_files
from .forms import MaybeCount
from .rendering import page, saying, see_other

router = APIRouter(include_in_schema=False)


class ShareForm(FolderForm):
    """`path` is the folder that holds it, and `entry` what is shared; `people` as typed."""

    entry: Annotated[str, Field(max_length=12_000)] = ""
    people: Annotated[str, Field(max_length=20_000)] = ""
    lab: str = ""
    days: MaybeCount = None


@router.post("/files/share")
async def share(request: Request, visitor: CurrentUser, shares: Shares, form: Annotated[ShareForm, Form()]) -> Response:
    """Shares a file or folder."""
    stands_on(request, views.item_address(form.entry))
    target = decoded(form.entry).strip("/")
    made = await shares.share(
        visitor.user,
        target,
        form.people.replace(",", " ").replace(";", " ").split(),
        lab=visitor.user.lab if form.lab else None,
        days=form.days,
        actor=visitor.actor,
        now=visitor.now,
    )
    return see_other(f"/shared?{_said(visitor, 'shared', share_views.name_of(made))}")


@router.post("/shared/{share_id}/stop")
async def stop(share_id: str, visitor: CurrentUser, shares: Shares) -> Response:
    """Stops sharing it."""
    await shares.stop(visitor.user, share_id, visitor.actor, visitor.now)
    return see_other(f"/shared?{_said(visitor, 'not-shared')}")


@router.get("/shared")
async def listed(
    request: Request, visitor: CurrentUser, shares: Shares, present: Present, settings: Configured
) -> Response:
    """Both lists."""
    return page(
        request,
        "files/shared.html",
        visitor,
        mine=share_views.own_rows(await shares.by_me(visitor.user, visitor.now), settings.public_url),
        given=share_views.given_rows(await shares.with_me(visitor.user, visitor.now)),
        enabled=settings.sharing.enabled,
        **await frame_of_files(request, visitor, present),
    )


@router.get("/shared/{share_id}")
async def shown(
    share_id: str,
    request: Request,
    visitor: CurrentUser,
    shares: Shares,
    present: Present,
    settings: Configured,
    path: At,
    cursor: FileCursor | None = None,
    hidden: bool = False,
) -> Response:
    """A shared folder, or one in it, or a file: what may be shown of it, as of one's own."""
    found = await shares.get(visitor.user, share_id, visitor.now)
    entry = await shares.entry(visitor.user, share_id, path, visitor.now)
    await shares.note_opened(visitor.user, found.share, visitor.now)
    above, _, _ = path.strip("/").rpartition("/")
    at = encoded(path.strip("/"))
    context = {
        "share": found.share,
        "name": share_views.name_of(found.share),
        "owner": found.owner,
        "crumbs": share_views.crumbs(found.share, path),
        "is_mine": found.owner.id == visitor.user.id,
        **await frame_of_files(request, visitor, present),
    }
    if entry["kind"] == "folder":
        listing = await shares.entries(
            visitor.user,
            share_id,
            path,
            visitor.now,
            cursor=cursor,
            limit=PAGE,
            sort="name",
            order="asc",
            hidden=hidden,
        )
        kept = {"hidden": "true" if hidden else ""}
        return page(
            request,
            "files/shared_folder.html",
            visitor,
            rows=[share_views.row(found.share, one, path) for one in listing["entries"]],
            total=listing["total"],
            archive=share_views.archive_address(share_id, at),
            more=share_views.shared_address(share_id, at, **kept, cursor=listing["cursor"])
            if listing["cursor"]
            else "",
            hidden=hidden,
            hidden_address=share_views.shared_address(share_id, at, hidden="" if hidden else "true"),
            **context,
        )
    row = share_views.row(found.share, entry if path.strip("/") else {**entry, "name": found.share.name}, above)
    preview = await _preview(shares, visitor, share_id, path, row)
    response = page(
        request,
        "files/shared_item.html",
        visitor,
        row=row,
        download=share_views.file_address(share_id, at),
        preview=preview,
        blocks=views.blocks,
        **context,
    )
    if preview.kind == "pdf":
        response.headers["Content-Security-Policy"] = page_policy(settings.instances.pattern, frames=True)
    return response


async def _preview(shares: ShareService, visitor: Visitor, share_id: str, path: str, row: views.Row) -> views.Preview:
    if row.kind == "other":
        return views.Preview("none")
    kind = views.preview_kind(row.name)
    if kind in ("image", "pdf"):
        return views.Preview(kind, share_views.file_address(share_id, encoded(path.strip("/")), kind))
    try:
        told = await shares.preview(visitor.user, share_id, path, kind, visitor.now)
        return views.told_preview(kind, told)
    except (Conflict, InvalidInput, NotFound, TooLarge) as refusal:
        return views.Preview("none", problem=refusal.detail)


def _said(visitor: Visitor, code: str, about: str = "") -> str:
    return urlencode(saying(visitor, code, about))
