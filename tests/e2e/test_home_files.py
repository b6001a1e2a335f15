"""Files of a home through real nginx and the real portal: bodies larger than any other page or call may send."""

from __future__ import annotations

import asyncio
import hashlib
import random
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, expect

from support.browsing import sign_in
from support.live import LivePlatform

MB = 1024**2
GB = 1024**3
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


async def test_three_gigabytes_arrive_whole_though_the_connection_is_cut_twice(
    shared_platform: LivePlatform, browser: Browser, tmp_path: Path
) -> None:
    """From a browser on a phone: nginx, and with it every connection, is gone for a while, twice."""
    file = tmp_path / "measurements.bin"
    with file.open("wb") as into:  # each 16 MB are others
        block = random.Random(1).randbytes(PIECE - 8)
        for number in range(3 * GB // PIECE):
            into.write(number.to_bytes(8, "big") + block)
    context = await browser.new_context(viewport={"width": 390, "height": 844})
    page = await context.new_page()
    try:
        await sign_in(shared_platform, page, "gina@example.org")
        await page.goto(f"{shared_platform.public_url}/files")
        await page.get_by_role("button", name="Upload", exact=True).first.click()
        dialog = page.get_by_role("dialog", name="Upload")
        await dialog.get_by_label("Files").set_input_files(file)
        await dialog.get_by_role("button", name="Upload").click()
        upload = page.locator(".upload")
        for cut_at in (GB // 2, 2 * GB):
            await _reaches(upload, cut_at)
            assert shared_platform.nginx is not None
            shared_platform.nginx.terminate()
            await shared_platform.nginx.wait()
            await expect(upload).not_to_have_attribute("data-state", "done")
            await shared_platform.start_nginx()
        await expect(upload).to_contain_text("Uploaded, 3 GB", timeout=600_000)
        there = shared_platform.homes / "gina" / file.name
        assert there.stat().st_size == file.stat().st_size
        with there.open("rb") as one, file.open("rb") as other:
            while (piece := one.read(PIECE)) or other.peek(1):
                assert piece == other.read(PIECE)
        there.unlink()
    finally:
        await context.close()
        file.unlink()


async def _reaches(upload: Locator, size: int) -> None:
    """Until so many bytes are shown to have arrived."""
    async with asyncio.timeout(600):
        while float(await upload.locator("progress").evaluate("bar => bar.value")) < size:
            await asyncio.sleep(0.1)
