"""Files of a home through real nginx and the real portal: bodies larger than any other page or call may send."""

from __future__ import annotations

import hashlib
import random

import pytest

from support.live import LivePlatform

MB = 1024**2
PIECE = 16 * MB  # what the page sends at once
pytestmark = [pytest.mark.root]  # files are their owners'


async def test_uploads_of_all_sizes_pass_nginx_and_come_back_as_they_were(shared_platform: LivePlatform) -> None:
    """Whole, in the pieces of the page, and by a form as browsers without scripts send it."""
    content = random.Random(1).randbytes(PIECE + 2 * MB)
    async with shared_platform.person("uma@example.org") as uma:
        http = uma.http

        async def assert_whole(path: str, size: int) -> None:
            answer = await http.get("/api/v1/home/files", params={"path": path})
            assert answer.status_code == 200, answer.text
            assert len(answer.content) == size
            assert hashlib.sha256(answer.content).digest() == hashlib.sha256(content[:size]).digest()

        for size in (2 * MB, PIECE):
            path = f"whole-{size}"
            put = await http.put("/api/v1/home/files", params={"path": path}, content=content[:size])
            assert put.status_code == 200, put.text
            await assert_whole(path, size)

        begun = await http.post("/api/v1/home/uploads", json={"path": "pieces", "size_bytes": len(content)})
        assert begun.status_code == 201, begun.text
        way = f"/api/v1/home/uploads/{begun.json()['id']}"
        for offset, complete in ((0, "?0"), (PIECE, "?1")):
            piece = content[offset : offset + PIECE]
            sent = await http.patch(way, content=piece, headers={"Upload-Offset": str(offset)})
            assert sent.status_code == 204, sent.text
            assert sent.headers["Upload-Offset"] == str(offset + len(piece))
            assert sent.headers["Upload-Complete"] == complete
        await assert_whole("pieces", len(content))

        for size in (2 * MB, PIECE):
            name = f"form-{size}"
            form = {"csrf_token": uma.me["csrf_token"], "path": ""}
            posted = await http.post("/files/upload", data=form, files={"file": (name, content[:size])})
            assert posted.status_code == 303, posted.text
            await assert_whole(name, size)
        too_large = await http.post("/files/upload", data=form, files={"file": ("larger", content)})
        assert too_large.status_code == 413
        assert "text/html" in too_large.headers["content-type"]
        listed = (await http.get("/api/v1/home/entries", params={"path": ""})).json()["entries"]
        assert "larger" not in {one["name"] for one in listed}
