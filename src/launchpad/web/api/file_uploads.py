"""Uploads that continue where they broke off."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Request, Response

from ..deps import CurrentUser, HomeFiles
from ..files_schemas import UploadBody, UploadsView, UploadView
from .files import CONTENT, body_of
from .responses import HOME_PROBLEMS, ROOT

router = APIRouter(prefix=f"{ROOT}/home/uploads", tags=["files"], responses=HOME_PROBLEMS)

OFFSET = "Upload-Offset"
UploadId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
Offset = Annotated[int, Header(alias=OFFSET, ge=0, lt=2**62, description="Where the body begins.")]


@router.post("", status_code=201)
async def begin(body: UploadBody, visitor: CurrentUser, files: HomeFiles) -> UploadView:
    """Begins one; its bytes follow with PATCH. The file gets its name when the upload is complete."""
    path = body.inside(body.path)
    upload = await files.begin_upload(
        visitor.user, path, body.size_bytes, replace=body.replace, modified_at=body.modified_at
    )
    return UploadView.of(upload)


@router.get("")
async def uploads(visitor: CurrentUser, files: HomeFiles) -> UploadsView:
    """Those that are not whole yet. What nobody continued for a week is removed."""
    return UploadsView(uploads=[UploadView.of(one) for one in await files.uploads(visitor.user)])


@router.get("/{upload_id}")
async def upload(upload_id: UploadId, visitor: CurrentUser, files: HomeFiles, response: Response) -> UploadView:
    """How far it is. 404 when it is whole, or was removed."""
    found = UploadView.of(await files.upload(visitor.user, upload_id))
    response.headers[OFFSET] = str(found.offset)
    return found


@router.head("/{upload_id}", status_code=204)
async def look(upload_id: UploadId, visitor: CurrentUser, files: HomeFiles) -> Response:
    """How far it is, in `Upload-Offset`."""
    found = await files.upload(visitor.user, upload_id)
    return Response(status_code=204, headers={OFFSET: str(found["offset"]), "Upload-Length": str(found["size"])})


@router.patch("/{upload_id}", status_code=204, openapi_extra=CONTENT)
async def go_on(
    upload_id: UploadId, visitor: CurrentUser, files: HomeFiles, request: Request, offset: Offset
) -> Response:
    """The next bytes, from `Upload-Offset` on; what comes before a connection breaks stays. 409 elsewhere."""
    done = await files.go_on(visitor.user, upload_id, offset, body_of(request))
    said = {OFFSET: str(done["offset"]), "Upload-Complete": "?1" if done["done"] else "?0"}
    return Response(status_code=204, headers=said)


@router.delete("/{upload_id}", status_code=204)
async def drop(upload_id: UploadId, visitor: CurrentUser, files: HomeFiles) -> None:
    """Gives it up; what has come of it is removed."""
    await files.drop_upload(visitor.user, upload_id)
