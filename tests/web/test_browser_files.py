"""The pages of files in a real browser: uploads over a line that is cut, downloads, keys, the treemap, Undo."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Dialog, Page, expect

from .pages_client import Person, Portal
from .served_portal import browser_of, serve_portal

MB = 1024**2
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
PATIENCE_MS = 90_000
pytestmark = [pytest.mark.root]  # files are their owners'


class Wire:
    """The way from the browser to the portal, which can be cut after so many bytes, or for a while."""

    def __init__(self) -> None:
        self.port = 0
        self.target = 0
        self.cut_after: list[int] = []  # bytes from the browser, each since the cut before
        self.is_down = False
        self.stays_down = False  # after the next cut
        self.cuts = 0
        self._passed = 0
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def cut_later(self, *after: int) -> None:
        """Args: bytes from the browser, from now on and then since the cut before."""
        self.cut_after, self._passed = list(after), 0

    def cut(self) -> None:
        self.cuts += 1
        self.is_down = self.stays_down
        self._passed = 0
        for writer in self._open:
            writer.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_down:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        ends = {writer, back}
        self._open |= ends
        with suppress(OSError):
            await asyncio.gather(self._pass(reader, back, counts=True), self._pass(there, writer, counts=False))
        self._open -= ends
        for end in ends:
            end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counts: bool) -> None:
        while piece := await reader.read(64 * 1024):
            writer.write(piece)
            await writer.drain()
            self._passed += len(piece) if counts else 0
            if counts and self.cut_after and self._passed >= self.cut_after[0]:
                del self.cut_after[0]
                self.cut()
        writer.close()


@asynccontextmanager
async def wire() -> AsyncIterator[Wire]:
    made = Wire()
    server = await asyncio.start_server(made.carry, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    made.cut()


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Portal, Wire]]:
    async with (
        wire() as line,
        serve_portal(tmp_path_factory.mktemp("browser-files"), {"public_url": line.url}) as portal,
    ):
        line.target = urlsplit(portal.url).port or 0
        portal.url = line.url
        yield portal, line


@pytest.fixture(autouse=True)
def whole_line(served: tuple[Portal, Wire]) -> None:
    """Whatever the test before left."""
    _, line = served
    line.is_down, line.stays_down, line.cut_after = False, False, []


@pytest.fixture(scope="module")
async def ada(served: tuple[Portal, Wire]) -> Person:
    person = await served[0].signed_in("ada@example.org")
    await person.get("/files")
    return person


def put(portal: Portal, path: str, content: bytes = b"x") -> Path:
    """A file of Ada's."""
    home = portal.homes.path_of("ada")
    uid, at = home.stat().st_uid, home
    for name in path.split("/")[:-1]:
        at /= name
        if not at.exists():
            at.mkdir()
            os.chown(at, uid, uid)
    file = home / path
    file.write_bytes(content)
    os.chown(file, uid, uid)
    return file


async def page_of(browser: Browser, person: Person, path: str, size: str = "desktop", **how: Any) -> Page:
    context = await browser_of(browser, person, viewport=SIZES[size], reduced_motion="reduce", **how)
    page = await context.new_page()
    await page.goto(path)
    return page


def large_file(folder: Path, name: str, megabytes: int) -> Path:
    file = folder / name
    with file.open("wb") as into:
        for turn in range(megabytes):
            into.write(random.Random(turn).randbytes(MB))
    return file


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def choose(page: Page, *files: Path) -> None:
    """By the button and the dialog."""
    await page.get_by_role("button", name="Upload", exact=True).first.click()
    dialog = page.get_by_role("dialog", name="Upload")
    await dialog.get_by_label("Files").set_input_files(list(files))
    await dialog.get_by_role("button", name="Upload").click()
    await expect(dialog).to_be_hidden()


@pytest.mark.parametrize("size", SIZES)
async def test_an_upload_continues_after_its_connection_was_cut_twice(
    served: tuple[Portal, Wire], ada: Person, browser: Browser, tmp_path: Path, size: str
) -> None:
    portal, line = served
    file = large_file(tmp_path, f"measurements {size}.bin", 40)
    put(portal, f"up-{size}/other")
    page = await page_of(browser, ada, f"/files?path=up-{size}", size)
    before = line.cuts
    line.cut_later(6 * MB, 20 * MB)
    await choose(page, file)
    upload = page.locator(".upload", has_text=file.name)
    await expect(upload).to_contain_text("Uploaded, 40 MB", timeout=PATIENCE_MS)
    assert line.cuts == before + 2, "nothing was cut"
    there = portal.homes.path_of("ada") / f"up-{size}" / file.name
    assert digest(there) == digest(file)
    assert abs(there.stat().st_mtime - file.stat().st_mtime) < 2
    await expect(page.locator("table.files")).to_contain_text(file.name)  # without a reload
    await page.context.close()


async def test_an_upload_continues_after_a_reload_with_the_same_file(
    served: tuple[Portal, Wire], ada: Person, browser: Browser, tmp_path: Path
) -> None:
    portal, line = served
    file = large_file(tmp_path, "large.bin", 40)
    (tmp_path / "elsewhere").mkdir()
    other = large_file(tmp_path / "elsewhere", "large.bin", 39)
    put(portal, "reload/other")
    page = await page_of(browser, ada, "/files?path=reload")
    line.stays_down = True
    line.cut_later(24 * MB)
    await choose(page, file)
    upload = page.locator(".upload", has_text="large.bin")
    await expect(upload).to_contain_text("Connection lost", timeout=PATIENCE_MS)
    await upload.get_by_role("button", name="Pause").click()
    await expect(upload).to_contain_text("Paused at")
    line.is_down = line.stays_down = False

    async def leave(dialog: Dialog) -> None:
        await dialog.accept()

    page.on("dialog", leave)
    await page.reload()
    await expect(upload).to_contain_text("Interrupted at")
    async with page.expect_file_chooser() as chooser:
        await upload.get_by_role("button", name="Choose file").click()
    await (await chooser.value).set_files(other)
    await expect(upload).to_contain_text("is not the file that this upload began with")
    async with page.expect_file_chooser() as chooser:
        await upload.get_by_role("button", name="Choose file").click()
    await (await chooser.value).set_files(file)
    await expect(upload).to_contain_text("Uploaded, 40 MB", timeout=PATIENCE_MS)
    assert digest(portal.homes.path_of("ada") / "reload/large.bin") == digest(file)
    await page.reload()
    await expect(page.locator("#uploads")).to_be_hidden()
    await page.context.close()


async def test_taken_names_are_asked_about(
    served: tuple[Portal, Wire], ada: Person, browser: Browser, tmp_path: Path
) -> None:
    portal, _ = served
    files = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt", "empty.txt")]
    for file in files:
        file.write_text("" if file.stem == "empty" else f"new {file.name}")
        put(portal, f"taken/{file.name}", b"old")
    page = await page_of(browser, ada, "/files?path=taken")
    await choose(page, *files)
    line = page.locator(".upload", has_text="a.txt")
    await line.get_by_role("button", name="Keep both").click()
    await expect(line).to_contain_text("Uploaded")
    await page.locator(".upload", has_text="b.txt").get_by_role("button", name="Skip").click()
    await page.locator(".upload", has_text="c.txt").get_by_role("button", name="Replace").click()
    await page.locator(".upload", has_text="empty.txt").get_by_role("button", name="Replace").click()
    await expect(page.locator(".upload", has_text="Uploaded")).to_have_count(3)
    folder = portal.homes.path_of("ada") / "taken"
    assert {one.name: one.read_text() for one in folder.iterdir()} == {
        "a.txt": "old", "a (2).txt": "new a.txt", "b.txt": "old", "c.txt": "new c.txt", "empty.txt": "",
    }  # fmt: skip
    await page.context.close()


async def test_files_and_folders_are_dropped(
    served: tuple[Portal, Wire], ada: Person, browser: Browser, tmp_path: Path
) -> None:
    portal, _ = served
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/deep/b.txt").write_text("B")
    (tmp_path / "tree/a.txt").write_text("A")
    (tmp_path / "c ü.txt").write_text("C")
    put(portal, "drop/other")
    page = await page_of(browser, ada, "/files?path=drop")
    session = await page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(tmp_path / "tree"), str(tmp_path / "c ü.txt")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver"):
        await session.send("Input.dispatchDragEvent", {"type": kind, "x": 500, "y": 500, "data": data})
    await expect(page.get_by_text("Drop to upload")).to_be_visible()
    await session.send("Input.dispatchDragEvent", {"type": "drop", "x": 500, "y": 500, "data": data})
    await expect(page.locator(".upload", has_text="Uploaded")).to_have_count(3)
    folder = portal.homes.path_of("ada") / "drop"
    assert (folder / "tree/deep/b.txt").read_text() == "B"
    assert (folder / "tree/a.txt").read_text() == "A"
    assert (folder / "c ü.txt").read_text() == "C"
    await expect(page.get_by_text("Drop to upload")).to_be_hidden()
    await page.context.close()


async def test_a_folder_is_downloaded_as_zip(served: tuple[Portal, Wire], ada: Person, browser: Browser) -> None:
    portal, _ = served
    put(portal, "zip/folder/a.txt", b"A" * 100_000)
    put(portal, "zip/folder/deep/b.txt", b"B")
    put(portal, "zip/c.txt", b"C")
    page = await page_of(browser, ada, "/files?path=zip")
    await page.get_by_label("Select folder").check()
    await page.get_by_label("Select c.txt").check()
    async with page.expect_download() as download:
        await page.get_by_role("group", name="Selected files").get_by_role("button", name="Download").click()
    with zipfile.ZipFile(await (await download.value).path()) as archive:
        assert archive.read("folder/a.txt") == b"A" * 100_000
        assert {"folder/deep/b.txt", "c.txt"} <= set(archive.namelist())
    await expect(page.locator("[data-count]")).to_have_text("2 selected")
    await page.context.close()


async def test_everything_is_done_by_keys(served: tuple[Portal, Wire], ada: Person, browser: Browser) -> None:
    portal, _ = served
    for name in ("a", "b", "c", "d", "e"):
        put(portal, f"keys/{name}")
    put(portal, "keys/folder/x")
    folder = portal.homes.path_of("ada") / "keys"
    page = await page_of(browser, ada, "/files?path=keys")
    bar = page.get_by_role("group", name="Selected files")
    await expect(bar.get_by_role("button", name="Delete")).to_be_disabled()
    first = page.get_by_label("Select folder")
    for _ in range(40):  # from the top of the page
        await page.keyboard.press("Tab")
        if await first.evaluate("(it) => it === document.activeElement"):
            break
    await expect(first).to_be_focused()
    await page.keyboard.press("ArrowDown")
    await expect(page.get_by_label("Select a", exact=True)).to_be_focused()
    await page.keyboard.press("Shift+ArrowDown")
    await page.keyboard.press("Shift+ArrowDown")
    await expect(page.locator("[data-count]")).to_have_text("3 selected")
    await page.keyboard.press("Escape")
    await expect(page.locator("[data-count]")).to_have_text("None selected")
    await page.keyboard.press("Space")  # on c
    await page.keyboard.press("F2")
    field = page.get_by_label("New name")
    await expect(field).to_be_focused()
    await expect(field).to_have_value("c")
    await page.keyboard.type("renamed")
    await page.keyboard.press("Enter")
    await expect(page.locator("tr[data-name=renamed]")).to_be_visible()
    assert sorted(os.listdir(folder)) == ["a", "b", "d", "e", "folder", "renamed"]
    await page.get_by_label("Select a", exact=True).focus()
    await page.keyboard.press("Shift+ArrowDown")
    await page.keyboard.press("Delete")
    note = page.locator("#files-note")
    await expect(note).to_contain_text("“a” and “b” moved to the Trash.")
    assert sorted(os.listdir(folder)) == ["d", "e", "folder", "renamed"]
    await note.get_by_role("button", name="Undo").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("tr[data-entry]")).to_have_count(6)
    await page.get_by_label("Select a", exact=True).focus()
    await page.keyboard.press("Control+a")
    await expect(page.locator("[data-count]")).to_have_text("6 selected")
    await page.keyboard.press("Escape")
    await page.get_by_label("Select d", exact=True).focus()
    await page.keyboard.press("Space")
    await bar.get_by_role("button", name="Move or copy").focus()
    await page.keyboard.press("Enter")
    target = page.get_by_label("To folder")
    await target.focus()
    await page.keyboard.type("keys/folder")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Move", exact=True)).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("tr[data-entry]")).to_have_count(5)
    assert sorted(os.listdir(folder / "folder")) == ["d", "x"]
    await page.context.close()


async def test_what_is_selected_stays_selected_while_an_upload_renews_the_list(
    served: tuple[Portal, Wire], ada: Person, browser: Browser, tmp_path: Path
) -> None:
    portal, _ = served
    put(portal, "stay/one")
    put(portal, "stay/two")
    (tmp_path / "new.txt").write_text("x")
    page = await page_of(browser, ada, "/files?path=stay")
    await page.get_by_label("Select one").check()
    await choose(page, tmp_path / "new.txt")
    await expect(page.locator("tr[data-name='new.txt']")).to_be_visible()
    await expect(page.get_by_label("Select one")).to_be_checked()
    await expect(page.locator("[data-count]")).to_have_text("1 selected")
    await page.context.close()


async def test_the_treemap_at_both_widths(served: tuple[Portal, Wire], ada: Person, browser: Browser) -> None:
    portal, _ = served
    put(portal, "map/large/a", b"x" * 3_000_000)
    put(portal, "map/middle/b", b"x" * 1_000_000)
    put(portal, "map/small", b"x" * 200_000)
    page = await page_of(browser, ada, "/files/space?path=map")
    areas = [await one.bounding_box() for one in await page.locator(".treemap-tile").all()]
    sizes = [box["width"] * box["height"] for box in areas if box]
    assert len(sizes) == 3
    assert 2.5 < sizes[0] / sizes[1] < 3.5
    link = page.get_by_role("link", name="large, 2.9 MB")
    await link.focus()
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/files/space?path=map/large")
    await page.context.close()
    page = await page_of(browser, ada, "/files/space?path=map", "phone")
    await expect(page.locator(".treemap")).to_be_hidden()
    await expect(page.locator(".space-table tbody tr")).to_have_count(3)
    await page.context.close()


async def test_h3_a_hostile_file_runs_nothing(served: tuple[Portal, Wire], ada: Person, browser: Browser) -> None:
    """Neither its preview nor its address; a page of our own that ran it would set `window.hit` (the control)."""
    portal, _ = served
    script = "<script>window.hit = 1; fetch('/api/v1/me', {method: 'PATCH'})</script><img src=x onerror='window.hit=1'>"
    svg = f"<svg xmlns='http://www.w3.org/2000/svg' onload='window.hit=1'>{script}</svg>"
    names = {"a.html": script, "a.svg": svg, "a.csv": script, "a.md": script, "a.png": svg, "a.pdf": script}
    for name, content in names.items():
        put(portal, f"hostile/{name}", content.encode())
    put(portal, "hostile/<img src=x onerror=window.hit=1>.txt")
    page = await page_of(browser, ada, "/files?path=hostile")
    for name in names:
        await page.goto(f"/files/item?path=hostile/{name}")
        assert await page.evaluate("window.hit") is None, name
        for kind in ("", "&preview=text", "&preview=image", "&preview=pdf"):
            with suppress(Exception):  # what is a download opens no page
                await page.goto(f"/api/v1/home/files?path=hostile/{name}{kind}")
            assert await page.evaluate("window.hit") is None, name
    await page.goto("/files?path=hostile")
    assert await page.evaluate("window.hit") is None
    page = await page.context.new_page()
    await page.set_content(script)
    assert await page.evaluate("window.hit") == 1
    await page.context.close()


PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj "
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"
)


async def test_a_pdf_is_shown_in_its_frame(served: tuple[Portal, Wire], ada: Person, whole_browser: Browser) -> None:
    portal, _ = served
    put(portal, "pdf/paper.pdf", PDF)
    page = await page_of(whole_browser, ada, "/files/item?path=pdf/paper.pdf")
    async with asyncio.timeout(PATIENCE_MS / 1000):
        while not any(frame.url.startswith("chrome-extension://") for frame in page.frames):  # Chromium's own program
            await asyncio.sleep(0.1)
    await page.context.close()


async def test_without_scripts_everything_but_large_uploads_works(
    served: tuple[Portal, Wire], ada: Person, browser: Browser, tmp_path: Path
) -> None:
    portal, _ = served
    put(portal, "plain/a.txt", b"A")
    (tmp_path / "b.txt").write_text("B")
    folder = portal.homes.path_of("ada") / "plain"
    page = await page_of(browser, ada, "/files?path=plain", java_script_enabled=False)
    await page.get_by_role("button", name="New folder").click()
    await page.get_by_role("dialog").get_by_label("Name").fill("made")
    await page.get_by_role("button", name="Create folder").click()
    await expect(page.locator("tr[data-name=made]")).to_be_visible()
    await page.get_by_role("button", name="Upload", exact=True).first.click()
    await page.get_by_role("dialog").get_by_label("Files").set_input_files(tmp_path / "b.txt")
    await page.get_by_role("dialog").get_by_role("button", name="Upload").click()
    await expect(page.locator("tr[data-name='b.txt']")).to_be_visible()
    await page.get_by_label("Select a.txt").check()
    await page.get_by_role("button", name="Delete", exact=True).click()
    await expect(page.locator("#files-note")).to_contain_text("“a.txt” moved to the Trash.")
    await page.get_by_role("button", name="Undo").click()
    await expect(page.locator("tr[data-name='a.txt']")).to_be_visible()
    assert sorted(os.listdir(folder)) == ["a.txt", "b.txt", "made"]
    await page.get_by_role("link", name="a.txt", exact=True).click()
    await expect(page.locator(".preview-text")).to_have_text("A")
    await page.context.close()
