"""Content of what is shared by links for everybody; the page of such a link is `pages.shares`."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request, Response

from ...domain.file_paths import shown as plain
from ..deps import FromClient, Now, Public, Shares
from ..file_answers import drawn_answer, file_answer, zip_answer
from ..file_query import At
from ..streams import secretly

router = APIRouter(include_in_schema=False)

Secret = Annotated[str, Path(max_length=100)]


@router.get("/s/{share_id}/{secret}/files", dependencies=[Public])
async def file_by_link(
    share_id: str,
    secret: Secret,
    request: Request,
    client: FromClient,
    now: Now,
    shares: Shares,
    path: At,
    preview: Literal["image", "pdf"] | None = None,
) -> Response:
    """A file to be saved; with `preview` an image or a PDF."""
    holder = shares.by_link(secret, client.address, now)
    found = await shares.get(holder, share_id, now)
    await shares.note_opened(holder, found.share, now)
    name = path.rpartition("/")[2] or found.share.name
    if preview is not None:
        opening = shares.received(holder, share_id, "preview", now, path=path, kind=preview)
        return secretly(await drawn_answer(opening, name, preview))
    opening = shares.received(holder, share_id, "read", now, path=path)
    return secretly(await file_answer(request, opening, name))


@router.get("/s/{share_id}/{secret}/archives", dependencies=[Public])
async def archive_by_link(
    share_id: str, secret: Secret, client: FromClient, now: Now, shares: Shares, path: At
) -> Response:
    """A folder as a zip."""
    holder = shares.by_link(secret, client.address, now)
    found = await shares.get(holder, share_id, now)
    await shares.note_opened(holder, found.share, now)
    opening = shares.received(holder, share_id, "archive", now, paths=[path])
    return secretly(await zip_answer(opening, plain(found.share.name)))
