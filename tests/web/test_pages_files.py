"""The pages of files in a browser without scripts: every form and what it leaves, hostile names and contents."""

from __future__ import annotations

import io
import json
import os
import subprocess
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from launchpad.domain.file_paths import encoded

from .pages_client import Page, Person, Portal, open_portal

pytestmark = [pytest.mark.root]  # files are their owners'
MB = 1024**2
HOSTILE = (
    "two\nlines",
    "\"quotes\" & 'more' <b>bold<b>",
    "right \u202eot tfel",
    "<script>alert(1)<!--.html",
    "{{ 7 * 7 }}",
    "a%20b+c?d#e=f&g",
    "bad\udcff\udc80",
    "-rf",
    " blanks around ",
    "\x01\x1b[31mcontrol\x7f",
    "ä" * 127,
)


class Folder:
    """A folder of Ada's for one test, and her browser."""

    def __init__(self, portal: Portal, person: Person, name: str) -> None:
        self.portal, self.person, self.name = portal, person, name
        self.home = portal.homes.path_of("ada")
        self.path = self.home / name
        self.uid = self.home.stat().st_uid
        self.folder("")

    def put(self, name: str, content: bytes = b"x") -> Path:
        file = self.path / name
        self.folder(os.path.dirname(name))
        file.write_bytes(content)
        os.chown(file, self.uid, self.uid)
        return file

    def folder(self, name: str) -> Path:
        at = self.home
        for part in [self.name, *(name.split("/") if name else ())]:
            at /= part
            if not at.exists():
                at.mkdir()
                os.chown(at, self.uid, self.uid)
        return at

    def names(self, folder: str = "") -> list[str]:
        return sorted(os.listdir(self.path / folder))

    @property
    def address(self) -> str:
        return f"/files?path={encoded(self.name)}"

    async def page(self, **query: str) -> Page:
        return await self.person.get("&".join([self.address, *(f"{name}={value}" for name, value in query.items())]))

    async def act(self, do: str, *names: str, at: str = "", **fields: str) -> Page:
        """Selects some and presses a button, on the page of the folder."""
        page = await self.person.get(at or self.address)
        form = page.form("/files/act")
        entries = [encoded(f"{self.name}/{name}") for name in names]
        return await self.post(form.action, {**form.fields, "do": do, "entry": entries, **fields}, at)

    async def post(self, action: str, fields: dict[str, Any], at: str = "") -> Page:
        headers = {"Origin": self.portal.url, "Referer": self.portal.url + (at or self.address)}
        return Page(await self.person.http.post(action, data=fields, headers=headers))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def portal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path_factory.mktemp("files")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ada(portal: Portal) -> Person:
    person = await portal.signed_in("ada@example.org")
    assert (await person.get("/files")).status == 200  # makes the home
    return person


@pytest.fixture
def here(portal: Portal, ada: Person, request: pytest.FixtureRequest) -> Folder:
    return Folder(portal, ada, "".join(one for one in request.node.name if one.isalnum())[:40])


def listed(page: Page) -> list[str]:
    return [
        str(one.attributes["data-name"]) for one in page.elements if one.tag == "tr" and "data-entry" in one.attributes
    ]


# -- looking -----------------------------------------------------------------------------------------------------------


async def test_a_listing_has_folders_first_and_is_sorted_by_a_click(here: Folder) -> None:
    for name, size in (("b.txt", 5), ("A.txt", 2000), ("c.txt", 1), (".hidden", 1)):
        os.utime(here.put(name, b"x" * size), (size, size))
    here.folder("zebra")
    page = await here.page()
    assert listed(page) == ["zebra", "A.txt", "b.txt", "c.txt"]
    assert "4 entries" in page.words
    heads = {one.text.strip(" ↑↓"): str(one.attributes["href"]) for one in page.elements
             if one.tag == "a" and "sort=" in str(one.attributes.get("href"))}  # fmt: skip
    assert listed(await here.person.get(heads["Size"])) == ["zebra", "A.txt", "b.txt", "c.txt"]
    assert listed(await here.person.get(heads["Modified"]))[1:] == ["A.txt", "b.txt", "c.txt"]
    back = await here.person.get(heads["Name"])
    assert listed(back) == ["zebra", "c.txt", "b.txt", "A.txt"]
    assert [one.attributes.get("aria-sort") for one in back.elements if "aria-sort" in one.attributes] == ["descending"]
    shown = await here.page(hidden="true")
    assert ".hidden" in listed(shown)
    assert "Do not show hidden files" in shown.words


async def test_a_large_folder_comes_in_pages_and_each_name_once(here: Folder) -> None:
    names = [f"{number:04}" for number in range(450)]
    for name in names:
        here.put(name)
    page, seen, turns = await here.page(), [], 0
    while True:
        seen += listed(page)
        turns += 1
        following = [one for one in page.elements if one.tag == "a" and one.text.strip() == "Next page"]
        if not following:
            break
        page = await here.person.get(str(following[0].attributes["href"]))
    assert (seen, turns) == (names, 3)
    assert "450 entries" in page.words
    assert "First page" in page.words


async def test_search_finds_below_the_folder_and_says_where(here: Folder) -> None:
    here.put("one/two/Report-2026.csv")
    here.put("report.txt")
    here.put("other")
    page = await here.page()
    form = page.form("/files")
    found = Page(await here.person.http.get("/files", params={**form.fields, "name": "report"}))
    assert sorted(listed(found)) == ["Report-2026.csv", "report.txt"]
    assert "in two" in found.words
    assert "Nothing found." in (await here.page(name="nowhere")).words


async def test_times_are_those_of_the_user(here: Folder) -> None:
    os.utime(here.put("a"), (1_780_000_000, 1_780_000_000))  # 28 May 2026, 20:26:40 UTC
    assert "28 May 2026, 20:26" in (await here.page()).words
    user = await here.portal.platform.users.by_email(here.person.address)
    zone = await here.person.get("/account")
    await here.person.send(zone.form("/account/time-zone"), time_zone="Asia/Singapore")
    assert "29 May 2026, 04:26" in (await here.page()).words
    await here.person.send(zone.form("/account/time-zone"), time_zone=user.time_zone or "UTC")


async def test_what_is_used_stands_above_and_a_home_that_is_nearly_full_says_what_helps(portal: Portal) -> None:
    fay = await portal.signed_in("fay@example.org")
    portal.homes.used_bytes, portal.homes.limit_bytes = 93 * MB, 100 * MB
    try:
        await portal.measure_homes()
        for address in ("/files", "/files/space", "/files/trash"):
            assert "Used 93 MB of 100 MB" in (await fay.get(address)).words
        page = await fay.get("/files")
        assert "Nearly full: 7 MB left." in page.words
        assert "Deleting still works. See what takes the space" in page.words
    finally:
        portal.homes.used_bytes = portal.homes.limit_bytes = None


async def test_dashboard_and_navigation_lead_there(here: Folder) -> None:
    page = await here.person.get("/dashboard")
    links = [str(one.attributes.get("href")) for one in page.elements if one.tag == "a"]
    assert links.count("/files") == 2
    assert "/files/space" in links


async def test_what_is_not_there_is_said_in_words(here: Folder) -> None:
    for address in (
        "/files?path=nowhere",
        "/files/item?path=nowhere",
        "/files/space?path=nowhere",
        "/files?path=..",
        "/files?path=%00",
    ):
        page = await here.person.get(address)
        assert page.status in (404, 422), address
        assert page.words, address


# -- hostile names -----------------------------------------------------------------------------------------------------


async def test_hostile_names_are_escaped_seen_and_addressed(here: Folder) -> None:
    for name in HOSTILE:
        here.put(name, b"content of it")
    page = await here.page()
    assert len(listed(page)) == len(HOSTILE)
    text = page.response.text
    assert "<script>alert" not in text
    assert "<b>bold" not in text
    assert not set(text) & set("\u202e\x01\x1b\x7f"), "a mark of direction or a control character is in the page"
    assert "two↵lines" in text
    assert "[U+202E]" in text
    assert "49" not in listed(page)
    items = [
        str(one.attributes["href"])
        for one in page.elements
        if str(one.attributes.get("href", "")).startswith("/files/item?")
    ]
    assert len(set(items)) == len(HOSTILE)
    for address in set(items):
        item = await here.person.get(address)
        assert item.status == 200, address
        assert "content of it" in item.words
        assert "<script>alert" not in item.response.text


@pytest.mark.parametrize("name", HOSTILE)
async def test_every_act_works_with_hostile_names(here: Folder, name: str) -> None:
    here.put(name, b"content")
    done = await here.act("rename", name, name="plain")
    assert here.names() == ["plain"]
    assert "Renamed to “plain”" in done.words
    here.put(name, b"content")
    await here.act("trash", "plain")
    page = await here.act("trash", name)
    assert here.names() == []
    assert "moved to the Trash" in page.words
    undo = page.form("/files/trash", here="yes")
    page = await here.post(undo.action, {**undo.fields, "do": "restore"})
    assert here.names() == [name]
    folder = here.folder(f"in {name}"[:100])
    await here.act("move", name, to=f"{here.name}/{folder.name}" if "\udcff" not in name else here.name)
    assert (folder / name).exists() or "\udcff" in name
    space = await here.person.get(f"/files/space?path={encoded(here.name)}")
    assert space.status == 200
    assert "<script>alert" not in space.response.text


async def test_a_folder_without_a_utf8_name_can_be_worked_in(here: Folder) -> None:
    here.put("bad\udcff/a.txt")
    at = f"/files?path={encoded(here.name + '/bad' + chr(0xDCFF))}"
    page = await here.person.get(at)
    assert listed(page) == ["a.txt"]
    form = page.form("/files/folders")
    done = await here.post(form.action, {**form.fields, "name": "new"}, at)
    assert listed(done) == ["new", "a.txt"], "it came back to another folder"
    page = await here.act("rename", "bad\udcff/a.txt", at=at, name="b.txt")
    assert listed(page) == ["new", "b.txt"]


# -- changes -----------------------------------------------------------------------------------------------------------


async def test_a_folder_is_made_and_a_taken_or_impossible_name_is_refused(here: Folder) -> None:
    form = (await here.page()).form("/files/folders")
    page = await here.post(form.action, {**form.fields, "name": "new"})
    assert "Folder “new” created" in page.words
    assert here.path.joinpath("new").stat().st_uid == here.uid
    for name in ("new", "a/b", "..", ".", "", "x" * 256):
        page = await here.post(form.action, {**form.fields, "name": name})
        assert page.by_id("files-note").attributes["role"] == "alert" or "flash" in page.response.text, name
        assert page.status >= 400, name
    assert here.names() == ["new"]


async def test_renaming_onto_a_taken_name_leaves_the_choice(here: Folder) -> None:
    here.put("a.txt", b"A")
    here.put("b.txt", b"B")
    page = await here.act("rename", "a.txt", name="b.txt")
    assert page.status == 409
    assert "There is already something with the name “b.txt” in this folder." in page.words
    assert here.names() == ["a.txt", "b.txt"]
    choice = page.form("/files/act", do="rename")
    page = await here.post(choice.action, {**choice.fields, "taken": "both"})
    assert here.names() == ["b (2).txt", "b.txt"]
    assert "Renamed to “b (2).txt”" in page.words
    choice.fields["entry"] = encoded(f"{here.name}/b (2).txt")
    await here.post(choice.action, {**choice.fields, "taken": "replace"})
    assert here.names() == ["b.txt"]
    assert (here.path / "b.txt").read_bytes() == b"A"


async def test_enter_in_a_field_does_what_was_typed(here: Folder) -> None:
    here.put("a")
    here.put("folder/x")
    await here.act("", "a", name="b")
    assert here.names() == ["b", "folder"]
    page = await here.act("", "b", name="c", to=f"{here.name}/folder")
    assert "Choose what to do with the selected files." in page.words
    await here.act("", "b", name="b", to=f"{here.name}/folder")
    assert here.names("folder") == ["b", "x"]


async def test_moving_several_keeps_what_is_taken_and_asks(here: Folder) -> None:
    for name in ("a", "b", "c", "there/b"):
        here.put(name, name.encode())
    page = await here.act("move", "a", "b", "c", to=f"/home/ada/{here.name}/there/")
    assert (here.names(), here.names("there")) == (["b", "there"], ["a", "b", "c"])
    assert "already something with the name of “b” in “there”" in page.words
    assert "“a” and “c” moved" in page.words
    choice = page.form("/files/act", do="move")
    await here.post(choice.action, {**choice.fields, "taken": "both"})
    assert here.names("there") == ["a", "b", "b (2)", "c"]
    here.put("b", b"new")
    page = await here.act("move", "b", to=f"~/{here.name}/there", taken="replace")
    assert (here.path / "there/b").read_bytes() == b"new"
    assert "“b” → “there”: moved" in page.words
    page = await here.act("move", "there", to="nowhere")
    assert "There is no folder “nowhere” in your home folder." in page.words
    page = await here.act("move", "there", to=f"{here.name}/there")
    assert "“there”:" in page.words, "a folder was moved into itself"
    assert here.names() == ["there"]


async def test_copies_have_another_name_beside_the_original(here: Folder) -> None:
    here.put("data.tar.gz", b"1")
    here.put("folder/inside", b"2")
    page = await here.act("copy", "data.tar.gz", "folder", to=here.name)
    assert "copied" in page.words
    assert here.names() == ["data.tar (2).gz", "data.tar.gz", "folder", "folder (2)"]
    assert (here.path / "folder (2)/inside").read_bytes() == b"2"
    here.put("folder/data.tar.gz", b"other")
    page = await here.act("copy", "data.tar.gz", to=f"{here.name}/folder")
    choice = page.form("/files/act", do="copy")
    assert "Replace" not in [one.text.strip() for one in page.elements if one.attributes.get("name") == "taken"
                             and one.tag == "button"]  # fmt: skip
    await here.post(choice.action, {**choice.fields, "taken": "both"})
    assert here.names("folder") == ["data.tar (2).gz", "data.tar.gz", "inside"]


async def test_a_deletion_can_be_undone_and_the_trash_restored_erased_and_emptied(here: Folder) -> None:
    for name in ("a", "b", "c", "d"):
        here.put(name)
    page = await here.act("trash", "a", "b", "c", "d")
    assert here.names() == []
    assert "“a”, “b”, “c” and 1 more moved to the Trash." in page.words
    undo = page.form("/files/trash", here="yes")
    ids = [
        one.attributes["value"] for one in page.elements if one.attributes.get("name") == "id" and one.tag == "input"
    ]
    page = await here.post(undo.action, {**undo.fields, "do": "restore", "id": ids})
    assert here.names() == ["a", "b", "c", "d"]
    assert page.path.startswith("/files?")
    assert "restored" in page.words
    await here.act("trash", "a", "b", "c", "d")
    page = await here.person.get("/files/trash")
    assert {"a", "b", "c", "d"} <= set(listed(page))
    assert f"from {here.name}" in page.words
    of = {
        str(one.attributes["data-name"]): str(one.attributes["data-entry"])
        for one in page.elements
        if one.tag == "tr" and "data-entry" in one.attributes
    }
    form = page.form("/files/trash")
    here.put("b", b"in the way")
    page = await here.post(form.action, {**form.fields, "do": "restore", "id": [of["a"], of["b"]]}, "/files/trash")
    assert page.status == 409
    assert "“a” restored." in page.words
    assert "There is already something with this name." in page.words
    assert (here.path / "b").read_bytes() == b"in the way"
    page = await here.post(form.action, {**form.fields, "do": "erase", "id": [of["c"]]}, "/files/trash")
    assert "c" not in listed(page)
    page = await here.post(form.action, {**form.fields, "do": "empty"}, "/files/trash")
    assert "The Trash is empty." in page.words
    assert os.listdir(here.home / ".local/share/Trash/files") == []


async def test_deleting_permanently_and_what_cannot_be_selected(here: Folder) -> None:
    here.put("folder/inside")
    page = await here.act("erase", "folder")
    assert "“folder” deleted permanently" in page.words
    assert here.names() == []
    here.put("a")
    here.put("b")
    for do, names, fields in (
        ("trash", [], {}),
        ("rename", ["a", "b"], {"name": "c"}),
        ("", ["a"], {}),
        ("trash", ["nowhere"], {}),
    ):
        page = await here.act(do, *names, **fields)
        assert page.status >= 400
        assert page.by_id("files-note").text.strip()
    assert here.names() == ["a", "b"]
    page = await here.post("/files/act", {**page.form("/files/act").fields, "do": "erase", "entry": [""]})
    assert here.names() == ["a", "b"], "the home folder itself"


async def test_downloads_are_a_file_or_a_zip(here: Folder) -> None:
    here.put("a.html", b"<script>alert(1)</script>")
    here.put("folder/b", b"B")
    one = await here.act("download", "a.html")
    assert one.response.headers["Content-Type"] == "application/octet-stream"
    assert one.response.headers["Content-Disposition"].startswith("attachment")
    several = await here.act("download", "a.html", "folder")
    assert several.response.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(several.response.content)) as archive:
        assert {"a.html", "folder/b"} <= set(archive.namelist())


async def test_small_uploads_without_scripts(here: Folder) -> None:
    form = (await here.page()).form("/files/upload")
    del form.fields["file"]  # is sent as a file
    headers = {"Origin": here.portal.url, "Referer": here.portal.url + here.address}

    async def send(contents: dict[str, bytes], taken: str = "") -> Page:
        given = [("file", (name, io.BytesIO(content))) for name, content in contents.items()]
        return Page(
            await here.person.http.post(form.action, data={**form.fields, "taken": taken}, files=given, headers=headers)
        )

    page = await send({"a.txt": b"A", "C:\\x\\b.txt": b"", "../../c.txt": b"C" * 3_000_000})
    assert here.names() == ["a.txt", "b.txt", "c.txt"]
    assert "“a.txt”, “b.txt” and “c.txt” uploaded" in page.words
    assert (here.path / "c.txt").stat().st_size == 3_000_000
    assert (here.path / "c.txt").stat().st_uid == here.uid
    page = await send({"a.txt": b"other", "d": b"D"})
    assert page.status == 409
    assert "There is already something with this name, so it was not uploaded." in page.words
    assert (here.path / "a.txt").read_bytes() == b"A"
    await send({"a.txt": b"second"}, "both")
    assert (here.path / "a (2).txt").read_bytes() == b"second"
    await send({"a.txt": b"third"}, "replace")
    assert (here.path / "a.txt").read_bytes() == b"third"
    nothing = "".join(
        f'--cut\r\nContent-Disposition: form-data; name="{name}"{kind}\r\n\r\n{value}\r\n'
        for name, value, kind in (
            *((name, value, "") for name, value in form.fields.items()),
            ("file", "", '; filename=""\r\nContent-Type: application/octet-stream'),
        )
    )
    kind = {"Content-Type": "multipart/form-data; boundary=cut", **headers}
    answer = await here.person.http.post(form.action, content=f"{nothing}--cut--\r\n", headers=kind)
    assert "Choose one or more files first." in Page(answer).words


async def test_no_form_does_anything_without_its_token(here: Folder) -> None:
    """Nor with one of another login; with the right one each of them works."""
    here.put("a", b"A")
    trashed = here.put("t")
    await here.act("trash", trashed.name)
    other = (
        (await (await here.portal.signed_in("bob@example.org")).get("/files"))
        .form("/files/folders")
        .fields["csrf_token"]
    )
    path = encoded(here.name)
    entry = encoded(f"{here.name}/a")
    forms: list[tuple[str, dict[str, Any]]] = [
        ("/files/act", {"do": do, "entry": entry, "path": path, "name": "b", "to": ""})
        for do in ("rename", "move", "copy", "trash", "erase")
    ]
    forms += [
        ("/files/folders", {"path": path, "name": "new"}),
        ("/files/upload", {"path": path}),
        ("/files/trash", {"do": "restore", "id": "t"}),
        ("/files/trash", {"do": "empty"}),
        ("/files/caches/trash/empty", {}),
    ]
    before = sorted(str(one) for one in here.home.rglob("*"))
    for action, fields in forms:
        for token in ({}, {"csrf_token": ""}, {"csrf_token": "0" * 64}, {"csrf_token": other}):
            page = await here.post(action, {**fields, **token})
            assert page.status in (403, 409), f"{action} with {token}: {page.status}"
            assert sorted(str(one) for one in here.home.rglob("*")) == before, action
    assert "t" in listed(await here.person.get("/files/trash"))


async def test_a_page_that_is_old_says_what_is_no_longer_there(here: Folder) -> None:
    here.put("a")
    form = (await here.page()).form("/files/act")
    (here.path / "a").unlink()
    entry = encoded(f"{here.name}/a")
    for do in ("rename", "move", "copy", "trash", "erase", "download"):
        page = await here.post("/files/act", {**form.fields, "do": do, "entry": entry, "name": "b", "to": ""})
        assert page.status == 404, do
        assert "There is no file or folder of this name" in page.words, do


@contextmanager
def full_home(portal: Portal, username: str, uid: int) -> Iterator[Path]:
    """A home on a disk of its own without any space left."""
    home = portal.homes.path_of(username)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=64k,mode=0700,uid={uid},gid={uid}", "full", home], check=True)
    try:
        (home / "large").write_bytes(b"")
        with suppress(OSError), (home / "large").open("ab", buffering=0) as file:  # until there is no space left
            while True:
                file.write(b"x" * 4096)
        os.chown(home / "large", uid, uid)
        yield home
    finally:
        subprocess.run(["umount", "-l", home], check=True)


async def test_a_full_home_can_be_tidied(portal: Portal) -> None:
    """Where even the Trash has no space to note anything, deleting permanently is offered, and works."""
    eve = await portal.signed_in("eve@example.org")
    uid = (await portal.platform.users.by_email(eve.address)).uid
    await portal.homes.prepare("eve", uid, None)
    with full_home(portal, "eve", uid) as home:
        page = await eve.get("/files")
        assert listed(page) == ["large"]
        form = page.form("/files/act")
        page = await eve.send(form, do="trash", entry="large")
        assert "There is no space left, not even for the Trash" in page.words
        assert os.listdir(home).count("large") == 1
        choice = page.form("/files/act", entry="large")
        page = await eve.send(choice, do="erase")
        assert "“large” deleted permanently" in page.words
        assert not (home / "large").exists()


# -- previews ----------------------------------------------------------------------------------------------------------


async def preview(here: Folder, name: str, content: bytes) -> Page:
    here.put(name, content)
    page = await here.person.get(f"/files/item?path={encoded(f'{here.name}/{name}')}")
    assert page.status == 200, name
    return page


SCRIPT = b"<html><script>alert(1)</script><img src=x onerror=alert(2)></html>"


async def test_h3_markup_and_scripts_are_shown_as_text(here: Folder) -> None:
    for name in ("a.html", "a.svg", "a.xhtml", "a.js", "a.xml", "a.md", "a.txt", "a", "a.csv", "a.HTML"):
        page = await preview(here, name, SCRIPT)
        assert "alert(1)" in page.words, name
        assert "<script>alert" not in page.response.text, name
        assert (
            "onerror=alert" not in page.response.text.replace("&gt;", "").replace("x onerror", "")
            or "<img src=x" not in page.response.text
        )
        assert "unsafe" not in page.response.headers["Content-Security-Policy"], name
    for name in ("a.png", "a.pdf"):
        page = await preview(here, name, SCRIPT)
        assert "alert(1)" not in page.response.text
        (src,) = [str(one.attributes["src"]) for one in page.elements if one.tag in ("img", "iframe")]
        assert (await here.person.http.get(src)).status_code == 409, "no image and no PDF"


async def test_h3_a_notebook_is_cells_of_text(here: Folder) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "<script>alert(1)</script> text"]},
        {"cell_type": "code", "execution_count": 3, "source": "print('x')", "outputs": [
            {"output_type": "display_data", "data": {"text/html": "<script>alert(2)</script>", "text/plain": "plain"}},
            {"output_type": "display_data", "data": {"image/svg+xml": "<svg onload=alert(3)>"}},
            {"output_type": "stream", "name": "stdout", "text": "printed"},
        ]},
    ]  # fmt: skip
    page = await preview(here, "a.ipynb", json.dumps({"nbformat": 4, "cells": cells, "metadata": {}}).encode())
    assert "Title" in page.words
    assert "[3]" in page.words
    assert "print('x')" in page.words
    assert "printed" in page.words
    assert "<script>alert" not in page.response.text
    assert "<svg onload" not in page.response.text
    page = await preview(here, "b.ipynb", b"no notebook")
    assert "This is not a notebook that can be shown here." in page.words


async def test_tables_text_binaries_and_what_is_no_file(here: Folder) -> None:
    page = await preview(here, "a.csv", b"name;size\n<b>x</b>;1\n" + b"y;2\n" * 500)
    assert [one.text.strip() for one in page.elements if one.tag == "th" and one.attributes.get("scope") == "col"][
        1:
    ] == ["name", "size"]
    assert "<b>x" not in page.response.text
    assert "The first rows and columns." in page.words
    assert "(empty)" in (await preview(here, "empty", b"")).words
    assert "This file is not text" in (await preview(here, "a.bin", b"\0\1\2")).words
    assert "The beginning of the file." in (await preview(here, "long", b"x" * 400_000)).words
    os.mkfifo(here.path / "pipe")
    os.symlink("/etc/passwd", here.path / "out")
    os.symlink("nowhere", here.path / "lost")
    for name, said in (
        ("pipe", "Pipe, socket or device"),
        ("out", "Leads to /etc/passwd"),
        ("lost", "Leads to nowhere"),
    ):
        page = await here.person.get(f"/files/item?path={encoded(f'{here.name}/{name}')}")
        assert page.status == 200, name
        assert said in page.words
        assert "root:" not in page.words


async def test_h3_a_pdf_alone_may_be_framed_and_by_this_page_alone(here: Folder) -> None:
    page = await preview(here, "a.pdf", b"%PDF-1.4 x")
    assert "frame-src 'self'" in page.response.headers["Content-Security-Policy"]
    (frame,) = [one for one in page.elements if one.tag == "iframe"]
    answer = await here.person.http.get(str(frame.attributes["src"]))
    assert answer.headers["Content-Type"] == "application/pdf"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    for name in ("a.txt", "a.png"):
        assert "frame-src" not in (await preview(here, name, b"x")).response.headers["Content-Security-Policy"]
    assert (await here.person.http.get("/files")).headers["X-Frame-Options"] == "DENY"


# -- space -------------------------------------------------------------------------------------------------------------


async def test_what_takes_the_space_is_drawn_and_tabled(here: Folder) -> None:
    here.put("small/a", b"x" * 8192)
    here.put("large/deep/b", b"x" * 400_000)
    here.put("file.bin", b"x" * 100_000)
    page = await here.person.get(f"/files/space?path={encoded(here.name)}")
    cells = [" ".join(one.text.split()) for one in page.elements if one.tag == "td"]
    assert cells[0::3] == ["large", "file.bin", "small"]
    assert cells[1].endswith("KB")
    rects = {
        one.attributes["data-kind"]: float(str(one.attributes["width"])) * float(str(one.attributes["height"]))
        for one in page.elements
        if one.tag == "rect"
        and one.attributes.get("class") == "treemap-tile"
        and one.attributes["data-tone"] in ("0", "1")
    }
    assert 3 < rects["folder"] / rects["file"] < 5.5
    assert "style=" not in page.response.text
    drawn = [str(one.attributes["href"]) for one in page.elements if one.tag == "a" and "aria-label" in one.attributes]
    deeper = await here.person.get(drawn[0])
    assert "deep" in deeper.words


async def test_a_cache_is_emptied_by_its_button(portal: Portal) -> None:
    kim = await portal.signed_in("kim@example.org")
    await kim.get("/files")
    home = portal.homes.path_of("kim")
    uid = home.stat().st_uid
    for name in (".cache/pip/x", ".cache/other/y", "kept/z"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"x" * 200_000)
    subprocess.run(["chown", "-R", f"{uid}:{uid}", home], check=True)
    page = await kim.get("/files/space")
    assert "What is installed stays." in page.words
    page = await kim.send(page.form("/files/caches/pip/empty"))
    assert "pip emptied" in page.words
    assert os.listdir(home / ".cache/pip") == []
    page = await kim.send(page.form("/files/caches/other/empty"))
    assert os.listdir(home / ".cache") == ["pip"]
    assert (home / "kept/z").exists()
    assert "Nothing: neither package managers nor the Trash take up space." in page.words
    assert (
        await kim.send(
            page.form("/files/folders") if page.has("new") else (await kim.get("/files")).form("/files/folders"),
            name="x",
        )
    ).status == 200
