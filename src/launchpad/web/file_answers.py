"""How content of users' files is answered: in parts on demand, as images and PDF, as a zip; never as active content."""

from __future__ import annotations

from contextlib import AsyncExitStack

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from ..domain.file_paths import download_header
from ..errors import NoSuchRange
from ..services.files import Opening, modified_at
from .problems import MEDIA_TYPE, problem
from .streams import LOCKED, LOCKED_IMAGE, LOCKED_PDF, Streamed, part_of


async def file_answer(request: Request, opening: Opening, name: str = "") -> Response:
    """A file to be saved: all of it, or the part that Range asks for. `name`: where the file has none of its own."""
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(opening)
        about = opened.header
        etag = f'"{about["etag"]}"'
        headers = {
            **LOCKED,
            "ETag": etag,
            "Last-Modified": f"{modified_at(about):%a, %d %b %Y %H:%M:%S GMT}",
            "Content-Disposition": download_header(about["name"] or name),
        }
        if request.headers.get("if-none-match") in (etag, "*"):
            return Response(status_code=304, headers=headers)
        part = part_of(request.headers, about)
        if part is None:
            whole = {"Content-Range": f"bytes */{about['size']}"}
            refusal = NoSuchRange(f"The file has {about['size']} bytes.")
            return JSONResponse(problem(refusal), status_code=416, headers=LOCKED | whole, media_type=MEDIA_TYPE)
        await opened.choose(offset=part.offset, length=part.length)
        status = 200 if part.is_all else 206
        return Streamed(opened.pieces(), stack.pop_all(), headers | part.headers, status_code=status)


async def drawn_answer(opening: Opening, name: str, kind: str) -> Response:
    """An image or a PDF, which is what its first bytes say."""
    async with AsyncExitStack() as stack:
        drawn = await stack.enter_async_context(opening)
        about = drawn.header
        headers = {
            **(LOCKED_IMAGE if kind == "image" else LOCKED_PDF),
            "Content-Disposition": download_header(name, inline=True),
            "Content-Length": str(about["size"]),
        }
        return Streamed(drawn.pieces(), stack.pop_all(), headers, media_type=about["media_type"])


async def zip_answer(opening: Opening, own_name: str) -> Response:
    """Args: own_name: what the archive is called where it holds everything there is."""
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(opening)
        names = made.header["names"]
        name = (names[0] or own_name) if len(names) == 1 else "files"
        headers = {
            **LOCKED,
            "Content-Disposition": download_header(f"{name}.zip"),
        }
        return Streamed(made.pieces(), stack.pop_all(), headers, media_type="application/zip")
