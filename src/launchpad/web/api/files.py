"""A user's own files, reached without an instance; each call acts with the user's own rights on the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel
from starlette.requests import ClientDisconnect

from ...domain.file_paths import encoded
from ...errors import Conflict, InvalidInput
from ..deps import CurrentUser, HomeFiles
from ..file_answers import drawn_answer, file_answer, zip_answer
from ..file_query import PATH, At, FileCursor, FileLimit, FromSnapshot, paths_in
from ..files_schemas import (
    CopiedView,
    CopyBody,
    DeletedView,
    EntryView,
    FolderBody,
    FolderView,
    FoundView,
    MoveBody,
    NotebookView,
    TableView,
    TextView,
)
from ..streams import BYTES, LOCKED
from .responses import HOME_PROBLEMS, PROBLEMS, ROOT

router = APIRouter(prefix=f"{ROOT}/home", tags=["files"], responses=HOME_PROBLEMS)

MOST_PATHS = 1000


async def paths_of(request: Request, path: Annotated[list[str], PATH]) -> list[str]:
    if len(path) > MOST_PATHS:
        text = f"name {MOST_PATHS} at most; their folder holds them all"
        raise InvalidInput(f"These are too many paths: {text}.", fields={"path": text})
    found = paths_in(request)
    if not found:
        raise InvalidInput("Say what the archive should hold.", fields={"path": "name one or more"})
    return found


Several = Annotated[list[str], Depends(paths_of)]


async def body_of(request: Request) -> AsyncIterator[bytes]:
    """As it comes.

    Raises:
        Conflict: whoever sends it hung up before its end.
    """
    try:
        async for part in request.stream():
            yield part
    except ClientDisconnect:
        raise Conflict("The connection was closed before everything had come.") from None


BINARY = {"schema": {"type": "string", "format": "binary"}}
CONTENT = {"requestBody": {"required": True, "content": {BYTES: BINARY}}}


@router.get("/entries")
async def entries(
    visitor: CurrentUser,
    files: HomeFiles,
    path: At,
    cursor: FileCursor | None = None,
    limit: FileLimit = 200,
    sort: Literal["name", "size", "modified"] = "name",
    order: Literal["asc", "desc"] = "asc",
    hidden: bool = True,
    snapshot: FromSnapshot = "",
) -> FolderView:
    """What lies in a folder, folders first. `hidden=false` leaves out names that begin with a dot."""
    found = await files.entries(
        visitor.user,
        path,
        cursor=cursor,
        limit=limit,
        sort=sort,
        order=order,
        hidden=hidden,
        snapshot=snapshot,
    )
    return FolderView.of(path, found)


@router.get("/search")
async def search(
    visitor: CurrentUser,
    files: HomeFiles,
    path: At,
    name: Annotated[str, Query(min_length=1, max_length=255, description="A part of a name, or one with * and ?.")],
    cursor: FileCursor | None = None,
    limit: FileLimit = 100,
    snapshot: FromSnapshot = "",
) -> FoundView:
    """What has such a name below a folder. It looks for a few seconds, and says when that was not enough."""
    found = await files.search(visitor.user, path, name, cursor=cursor, limit=limit, snapshot=snapshot)
    return FoundView.of(path, found)


PREVIEWS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file; with `preview` what may be shown of it.",
        "model": TextView | TableView | NotebookView,
        "content": {
            BYTES: BINARY,
            **dict.fromkeys(("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf"), BINARY),
        },
    },
    206: {"description": "The part that Range asks for.", "content": {BYTES: BINARY}},
    304: {"description": "It is still what If-None-Match says."},
    416: PROBLEMS[404],
}
VIEWS: dict[str, type[BaseModel]] = {"text": TextView, "csv": TableView, "notebook": NotebookView}


@router.get("/files", response_class=Response, responses=PREVIEWS)
async def download(
    visitor: CurrentUser,
    files: HomeFiles,
    request: Request,
    path: At,
    preview: Literal["text", "csv", "image", "notebook", "pdf"] | None = None,
    snapshot: FromSnapshot = "",
) -> Response:
    """A file to be saved, in parts on demand (Range, If-Range, ETag). With `preview` what may be shown of it: text,
    rows or cells as JSON, images and PDF as bytes. HTML, SVG and the like are never sent as what they are."""
    if preview in ("image", "pdf"):
        return await drawn_answer(files.drawn(visitor.user, path, preview, snapshot), path.rpartition("/")[2], preview)
    if preview is not None:
        told = await files.preview(visitor.user, path, preview, snapshot)
        view = VIEWS[preview].model_validate({"size_bytes": told["size"], **told})
        return JSONResponse(view.model_dump(mode="json"), headers=LOCKED)
    return await file_answer(request, files.opened(visitor.user, path, snapshot))


@router.put("/files", openapi_extra=CONTENT)
async def upload_whole(
    visitor: CurrentUser,
    files: HomeFiles,
    request: Request,
    path: At,
    modified_at: AwareDatetime | None = None,
) -> EntryView:
    """Makes or replaces a file; it appears once it is complete, and until then nothing has changed.

    `If-None-Match: *`: only where nothing has the name; `If-Match`: only in place of the file that has this ETag.
    """
    if_match = request.headers.get("if-match")
    length = request.headers.get("content-length", "")
    entry = await files.write(
        visitor.user,
        path,
        body_of(request),
        size=int(length) if length.isdecimal() else None,
        replace=request.headers.get("if-none-match") != "*",
        if_match=if_match.strip('"') if if_match else None,
        modified_at=modified_at,
    )
    return EntryView.of(entry, _folder_of(path))


@router.delete("/files")
async def delete(visitor: CurrentUser, files: HomeFiles, path: At, forever: bool = False) -> DeletedView:
    """Into the Trash; with `forever` permanently, which also works in a home that is full."""
    if forever:
        await files.delete(visitor.user, path)
        return DeletedView(id=None)
    return DeletedView(id=encoded(await files.put_into_trash(visitor.user, path, visitor.now)))


ZIP: dict[int | str, dict[str, Any]] = {200: {"description": "A zip.", "content": {"application/zip": BINARY}}}


@router.get("/archives", response_class=Response, responses=ZIP)
async def archive(visitor: CurrentUser, files: HomeFiles, paths: Several, snapshot: FromSnapshot = "") -> Response:
    """Files and folders as a zip, made while it is sent. Links are links in it; its last entry, launchpad-notes.txt,
    says what could not be read or changed meanwhile, where there is such."""
    return await zip_answer(files.archive(visitor.user, paths, snapshot), visitor.user.username)


@router.post("/folders", status_code=201)
async def make_folder(body: FolderBody, visitor: CurrentUser, files: HomeFiles) -> EntryView:
    """Creates a folder in an existing one."""
    path = body.inside(body.path)
    return EntryView.of(await files.make_folder(visitor.user, path), _folder_of(path))


@router.post("/moves")
async def move(body: MoveBody, visitor: CurrentUser, files: HomeFiles) -> EntryView:
    """Another name or place. 409 where something has it, unless `replace`."""
    target = body.inside(body.target)
    entry = await files.move(visitor.user, body.inside(body.source), target, replace=body.replace)
    return EntryView.of(entry, _folder_of(target))


@router.post("/copies", status_code=201)
async def copy(body: CopyBody, visitor: CurrentUser, files: HomeFiles) -> CopiedView:
    """A file or a whole folder under a name that is free; without room for all of it nothing is copied."""
    target = body.inside(body.target)
    told = await files.copy(visitor.user, body.inside(body.source), target)
    entry = EntryView.of(told["entry"], _folder_of(target))
    return CopiedView.model_validate({**told, "entry": entry})


def _folder_of(path: str) -> str:
    return path.strip("/").rpartition("/")[0]
