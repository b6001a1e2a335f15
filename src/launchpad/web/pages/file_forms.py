"""Forms of the pages of files: new folders, uploads without scripts, the Trash, caches. Each is answered with a
redirect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from pydantic import Field

from ...domain.file_caches import CACHES, OTHER_CACHES
from ...domain.file_paths import decoded, joined
from ...errors import Conflict, InvalidInput
from ..deps import CurrentUser, HomeFiles
from ..files_schemas import PATH_MAX
from ..views import files as views
from .after_form import AfterForm, leave, page_of, stands_on
from .file_acts import Done, FolderForm, Text, each, exists, free, good_name, told_refused, with_said
from .rendering import saying, see_other

router = APIRouter(prefix="/files", include_in_schema=False)

PIECE = 256 * 1024
FILES_MAX = 100


class NameForm(FolderForm):
    name: Annotated[str, Field(max_length=255)] = ""


@router.post("/folders")
async def make_folder(
    request: Request, visitor: CurrentUser, files: HomeFiles, form: Annotated[NameForm, Form()]
) -> Response:
    """Creates a folder in the one that is shown."""
    form.stands(request)
    name = good_name(form.name)
    try:
        await files.make_folder(visitor.user, joined(form.folder, name))
    except Conflict as error:
        raise Conflict(f"“{views.told_name(name)}”: {error.detail}", fields={"name": error.detail}) from error
    return see_other(with_said(page_of(request), saying(visitor, "folder-made", views.told_name(name))))


@router.post("/upload")
async def upload(
    request: Request,
    visitor: CurrentUser,
    files: HomeFiles,
    file: Annotated[list[UploadFile], File(max_length=FILES_MAX)] = [],  # noqa: B006  (FastAPI copies it)
    path: Annotated[str, Form(max_length=PATH_MAX)] = "",
    taken: Annotated[str, Form()] = "",
) -> Response:
    """Takes small files, whole: what a browser without scripts can do."""
    form = FolderForm(path=path)
    form.stands(request)
    given = {_file_name(one): one for one in file if one.filename}
    if not given:
        raise InvalidInput("Choose one or more files first.")

    async def one(path: str) -> bool:
        content = given[path.rpartition("/")[2]]
        if taken != "replace" and await exists(files, visitor, path):
            if taken != "both":
                raise Conflict("There is already something with this name, so it was not uploaded.")
            path = await free(files, visitor, path)
        await files.write(
            visitor.user, path, _content(content), size=content.size, replace=taken == "replace", if_match=None
        )
        return True

    result = await each([joined(form.folder, name) for name in given], one)
    page = page_of(request)
    if result.is_all:
        return see_other(with_said(page, saying(visitor, "uploaded", views.some_names(result.done))))
    return told_refused(request, visitor, page, result, "uploaded")


def _file_name(file: UploadFile) -> str:
    return good_name((file.filename or "").replace("\\", "/").rpartition("/")[2])


async def _content(file: UploadFile) -> AsyncIterator[bytes]:
    while piece := await file.read(PIECE):
        yield piece


class TrashForm(FolderForm):
    """`here` says that it stands on the page of a folder, as Undo does."""

    do: str = ""
    id: list[Text] = Field(default_factory=list, max_length=1000)
    here: str = ""


@router.post("/trash")
async def trash(
    request: Request, visitor: CurrentUser, files: HomeFiles, form: Annotated[TrashForm, Form()]
) -> Response:
    """Restores or deletes what is selected, or everything in the Trash."""
    stands_on(request, views.folder_address(form.path) if form.here else "/files/trash")
    if form.do == "empty":
        await files.empty_trash(visitor.user)
        return see_other(with_said(page_of(request), saying(visitor, "trash-emptied")))
    ids = [decoded(one) for one in form.id]
    if not ids:
        raise InvalidInput("Select one or more files or folders first.")
    if form.do == "erase":
        await files.empty_trash(visitor.user, ids)
        return see_other(with_said(page_of(request), saying(visitor, "erased", views.items(len(ids)))))
    if form.do != "restore":
        raise InvalidInput("Choose what to do with the selected files.")
    answer = await files.restore(visitor.user, ids)
    restored = [one["path"] for one in answer["restored"]]
    if not answer["failed"]:
        return see_other(with_said(page_of(request), saying(visitor, "restored", views.some_names(restored))))
    result = Done(restored, refused=[(one["id"], Conflict(one["detail"])) for one in answer["failed"]])
    return leave(request, visitor, page_of(request), AfterForm("/files/trash", {}, 409, "", result.said("restored")))


@router.post("/caches/{name}/empty")
async def empty_cache(name: str, request: Request, visitor: CurrentUser, files: HomeFiles) -> Response:
    """Deletes what lies in a cache permanently."""
    stands_on(request, "/files/space")
    await files.empty_cache(visitor.user, name)
    title = next(one.title for one in (*CACHES, OTHER_CACHES) if one.name == name)
    return see_other(with_said(page_of(request), saying(visitor, "cache-emptied", title)))
