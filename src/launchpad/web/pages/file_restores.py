"""What people do with what a snapshot shows: download it, or restore it. The form is answered with a redirect."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from pydantic import Field

from ...domain.file_paths import decoded, encoded
from ...errors import InvalidInput
from ..deps import CurrentUser, HomeFiles, SnapshotsOfHomes
from ..file_query import SNAPSHOT
from ..views import files as views
from .after_form import AfterForm, leave, page_of, stands_on
from .file_acts import ADDRESS_MAX, FolderForm, Text, each, told_refused, with_said
from .rendering import saying, see_other

router = APIRouter(prefix="/files", include_in_schema=False)


class RestoreForm(FolderForm):
    """`snapshot` is what the page shows; it has no entries where all of the home is meant."""

    snapshot: Annotated[str, Field(pattern=SNAPSHOT)] = ""
    do: str = ""
    entry: list[Text] = Field(default_factory=list, max_length=1000)

    def stands(self, request: Request) -> None:
        stands_on(request, views.folder_address(self.path, snapshot=self.snapshot))


@router.post("/restore")
async def restore(
    request: Request,
    visitor: CurrentUser,
    files: HomeFiles,
    snapshots: SnapshotsOfHomes,
    form: Annotated[RestoreForm, Form()],
) -> Response:
    """Downloads what is selected as it was then, or restores it: beside what is there now, or in its place."""
    form.stands(request)
    paths = [decoded(one).strip("/") for one in form.entry]
    if not form.snapshot or not paths or not all(paths):
        raise InvalidInput("Select one or more files or folders first.")
    if form.do == "download":
        return see_other(await _download_of(visitor, files, paths, form.snapshot))
    if form.do not in ("beside", "in-place"):
        raise InvalidInput("Choose what to do with the selected files.")
    in_place = form.do == "in-place"
    restored, kept, left = [], [], 0

    async def one(path: str) -> bool:
        nonlocal left
        told = await snapshots.restore(visitor.user, form.snapshot, path, visitor.now, in_place=in_place)
        restored.append(told["path"])
        kept.append(told["trashed"])
        left += told["left_count"]
        return True

    result = await each(paths, one)
    page = page_of(request)
    result.done = restored
    if not result.is_all:
        return told_refused(request, visitor, page, result, "restored")
    if left:
        text = f"{result.said('restored')} {views.items(left)} could not be, such as pipes or what is closed to you."
        return leave(request, visitor, page, AfterForm("/files/restore", {}, 200, "", text))
    code = "restored-in-place" if any(kept) else "restored"
    return see_other(with_said(page, saying(visitor, code, views.some_names(restored))))


async def _download_of(visitor: CurrentUser, files: HomeFiles, paths: list[str], snapshot: str) -> str:
    those = [encoded(path) for path in paths]
    if len(those) == 1 and (await files.entry(visitor.user, paths[0], snapshot))["kind"] != "folder":
        return views.file_address(those[0], snapshot=snapshot)
    address = views.archive_address(those, snapshot)
    if len(address) > ADDRESS_MAX:
        raise InvalidInput("These are too many for one download. Select fewer, or download the folder that holds them.")
    return address
