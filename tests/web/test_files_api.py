"""A user's files over the API: what is answered, and with which headers. The workers: `contract/test_files.py`."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from web.api_client import Portal, Visitor, open_api, problem

pytestmark = [pytest.mark.root]  # files are their owners'
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def portal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Portal]:
    async with open_api(tmp_path_factory.mktemp("files"), {"files": {"upload_max": "1m"}}) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def anna(portal: Portal) -> Visitor:
    return await portal.signed_in("anna@example.org")


@pytest.fixture
def home(portal: Portal, anna: Visitor, request: pytest.FixtureRequest) -> str:
    """A folder of its own for each test, in Anna's home; its path there."""
    name = "".join(one for one in request.node.name if one.isascii() and one.isalnum())[:60]
    root = portal.world.homes_root / anna.me["username"]
    _own(portal, anna, root)
    _own(portal, anna, root / name)
    return name


def _own(portal: Portal, anna: Visitor, folder: Path) -> None:
    (uid,) = portal.world.rows("SELECT uid FROM users WHERE id = ?", anna.me["id"])[0]
    folder.mkdir(mode=0o700, exist_ok=True)
    os.chown(folder, uid, uid)


def on_disk(portal: Portal, anna: Visitor, path: str) -> Path:
    return portal.world.homes_root / str(anna.me["username"]) / path


def put(portal: Portal, anna: Visitor, path: str, content: bytes) -> Path:
    file = on_disk(portal, anna, path)
    file.write_bytes(content)
    status = file.parent.stat()
    os.chown(file, status.st_uid, status.st_gid)
    return file


async def raw(visitor: Visitor, method: str, address: str, content: Any = None, **headers: str) -> httpx.Response:
    """A call whose path and body are sent as they are."""
    given = {"X-CSRF-Token": visitor.csrf or "", **headers}
    return await visitor.http.request(method, f"/api/v1/home{address}", content=content, headers=given)


async def test_a_home_that_was_never_launched_into_is_made_at_the_first_look(portal: Portal) -> None:
    zoe = await portal.signed_in("zoe@example.org")
    assert not (portal.world.homes_root / "zoe").exists()
    assert await zoe.get("/home/entries") == {"path": "", "entries": [], "cursor": None, "total": 0}
    assert (portal.world.homes_root / "zoe").stat().st_mode & 0o777 == 0o700
    assert portal.world.home_limits["zoe"] == 64 * 1024**3, "as a launch that chooses nothing"
    assert set(await zoe.get("/home")) >= {"used_bytes", "limit_bytes", "measured_at", "snapshots"}


async def test_upload_list_download_and_delete(portal: Portal, anna: Visitor, home: str) -> None:
    answer = await raw(anna, "PUT", f"/files?path={home}/a.txt", b"hello there")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["name"], answer.json()["size_bytes"]) == ("a.txt", 11)
    listed = await anna.get("/home/entries", path=home)
    assert [(one["name"], one["kind"], one["path"], one["mode"]) for one in listed["entries"]] == [
        ("a.txt", "file", f"{home}/a.txt", "0600")
    ]
    answer = await raw(anna, "GET", f"/files?path={home}/a.txt")
    assert answer.content == b"hello there"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="a.txt"')
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert (await anna.call("DELETE", f"/home/files?path={home}/a.txt")).json() == {"id": "a.txt"}
    assert not on_disk(portal, anna, f"{home}/a.txt").exists()
    problem(await raw(anna, "GET", f"/files?path={home}/a.txt"), 404, "not-found")


async def test_parts_and_conditions(portal: Portal, anna: Visitor, home: str) -> None:
    put(portal, anna, f"{home}/digits", b"0123456789")
    address = f"/files?path={home}/digits"
    whole = await raw(anna, "GET", address)
    etag = whole.headers["ETag"]
    for asked, status, content, place in (
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=5-500", 206, b"56789", "bytes 5-9/10"),
        ("bytes=-500", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=4-2", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ):
        answer = await raw(anna, "GET", address, Range=asked)
        assert (answer.status_code, answer.headers.get("Content-Range")) == (status, place)
        assert answer.content == content if status != 416 else problem(answer, 416, "no-such-range")
    assert (await raw(anna, "GET", address, Range="bytes=0-0", **{"If-Range": etag})).content == b"0"
    assert (await raw(anna, "GET", address, Range="bytes=0-0", **{"If-Range": '"other"'})).status_code == 200
    assert (await raw(anna, "GET", address, **{"If-None-Match": etag})).status_code == 304
    problem(await raw(anna, "PUT", address, b"x", **{"If-None-Match": "*"}), 409, "conflict")
    problem(await raw(anna, "PUT", address, b"x", **{"If-Match": '"other"'}), 412, "changed")
    assert (await raw(anna, "PUT", address, b"x", **{"If-Match": etag})).status_code == 200
    problem(await raw(anna, "PUT", f"/files?path={home}/none", b"x", **{"If-Match": etag}), 412, "changed")


async def test_an_upload_that_goes_on(portal: Portal, anna: Visitor, home: str) -> None:
    begun = await anna.call("POST", "/home/uploads", {"path": f"{home}/big", "size_bytes": 10})
    assert begun.status_code == 201, begun.text
    place = f"/uploads/{begun.json()['id']}"
    assert begun.json()["offset"] == 0
    answer = await raw(anna, "PATCH", place, b"0123", **{"Upload-Offset": "0"})
    assert (answer.status_code, answer.headers["Upload-Offset"], answer.headers["Upload-Complete"]) == (204, "4", "?0")
    assert (await raw(anna, "HEAD", place)).headers["Upload-Offset"] == "4"
    problem(await raw(anna, "PATCH", place, b"xx", **{"Upload-Offset": "0"}), 409, "conflict")
    problem(await raw(anna, "PATCH", place, b"xx"), 422, "invalid-input", "Upload-Offset")
    problem(await raw(anna, "PATCH", place, b"4567890", **{"Upload-Offset": "4"}), 422, "invalid-input")
    shown = (await anna.get("/home/uploads"))["uploads"]
    assert [(one["path"], one["offset"], one["size_bytes"]) for one in shown] == [(f"{home}/big", 4, 10)]
    assert not on_disk(portal, anna, f"{home}/big").exists()
    answer = await raw(anna, "PATCH", place, b"456789", **{"Upload-Offset": "4"})
    assert (answer.status_code, answer.headers["Upload-Complete"]) == (204, "?1")
    assert on_disk(portal, anna, f"{home}/big").read_bytes() == b"0123456789"
    problem(await raw(anna, "GET", place), 404, "not-found")
    empty = await anna.call("POST", "/home/uploads", {"path": f"{home}/empty", "size_bytes": 0})
    assert empty.json()["done"] is True
    dropped = (await anna.call("POST", "/home/uploads", {"path": f"{home}/x", "size_bytes": 3})).json()["id"]
    assert (await anna.call("DELETE", f"/home/uploads/{dropped}")).status_code == 204
    assert (await anna.get("/home/uploads"))["uploads"] == []


async def test_an_upload_that_breaks_off_in_the_middle_keeps_what_came(
    portal: Portal, anna: Visitor, home: str
) -> None:
    begun = (await anna.call("POST", "/home/uploads", {"path": f"{home}/cut", "size_bytes": 6})).json()

    await cut_off(portal, anna, "PATCH", f"/uploads/{begun['id']}", b"012", {"Upload-Offset": "0"})
    await cut_off(portal, anna, "PUT", f"/files?path={home}/whole", b"012", {})
    assert os.listdir(on_disk(portal, anna, home)) == []
    offset = int((await raw(anna, "HEAD", f"/uploads/{begun['id']}")).headers["Upload-Offset"])
    assert offset == 3
    rest = b"012345"[offset:]
    answer = await raw(anna, "PATCH", f"/uploads/{begun['id']}", rest, **{"Upload-Offset": str(offset)})
    assert answer.status_code == 204, answer.text
    assert on_disk(portal, anna, f"{home}/cut").read_bytes() == b"012345"


async def cut_off(
    portal: Portal, visitor: Visitor, method: str, address: str, content: bytes, headers: dict[str, str]
) -> None:
    """A request whose client is gone in the middle of the body."""
    path, _, query = f"/api/v1/home{address}".partition("?")
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.http.cookies.items())
    given = {"host": "localhost:8080", "cookie": cookies, "x-csrf-token": visitor.csrf or "", **headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": (visitor.client, 4711),
        "server": ("localhost", 8080),
    }
    coming: Iterator[dict[str, Any]] = iter(
        [{"type": "http.request", "body": content, "more_body": True}, {"type": "http.disconnect"}]
    )
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return next(coming)

    async def send(message: dict[str, Any]) -> None:
        statuses.extend([message["status"]] if message["type"] == "http.response.start" else [])

    await portal.app(scope, receive, send)
    assert statuses == [409]


async def test_what_is_too_large_is_refused_before_and_while_it_comes(portal: Portal, anna: Visitor, home: str) -> None:
    body = {"path": f"{home}/large", "size_bytes": 2 * 1024**2}
    problem(await anna.call("POST", "/home/uploads", body), 413, "too-large")
    problem(await raw(anna, "PUT", f"/files?path={home}/large", b"x" * (1024**2 + 1)), 413, "too-large")

    async def unsaid() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 64 * 1024

    problem(await raw(anna, "PUT", f"/files?path={home}/large", unsaid()), 413, "too-large")
    assert os.listdir(on_disk(portal, anna, home)) == []


async def test_folders_moves_and_copies(portal: Portal, anna: Visitor, home: str) -> None:
    made = await anna.call("POST", "/home/folders", {"path": f"{home}/one"})
    assert (made.status_code, made.json()["kind"]) == (201, "folder")
    problem(await anna.call("POST", "/home/folders", {"path": f"{home}/one"}), 409, "conflict")
    put(portal, anna, f"{home}/one/a", b"a")
    moved = await anna.call("POST", "/home/moves", {"from": f"{home}/one", "to": f"{home}/two"})
    assert moved.json()["path"] == f"{home}/two"
    copied = await anna.call("POST", "/home/copies", {"from": f"{home}/two", "to": f"{home}/three"})
    assert copied.status_code == 201, copied.text
    assert (copied.json()["files"], copied.json()["left"]) == (1, [])
    assert on_disk(portal, anna, f"{home}/three/a").read_bytes() == b"a"
    problem(await anna.call("POST", "/home/copies", {"from": f"{home}/two", "to": f"{home}/three"}), 409, "conflict")
    put(portal, anna, f"{home}/b", b"b")
    taken = {"from": f"{home}/b", "to": f"{home}/two/a"}
    problem(await anna.call("POST", "/home/moves", taken), 409, "conflict")
    assert (await anna.call("POST", "/home/moves", taken | {"replace": True})).status_code == 200
    assert on_disk(portal, anna, f"{home}/two/a").read_bytes() == b"b"
    problem(await anna.call("POST", "/home/moves", {"from": home, "to": f"{home}/two/x"}), 409, "conflict")


@pytest.mark.parametrize(
    "name", [b"a b+c%20&d=e#f?.txt", b"\xff\xfe.bin", "Ünï-\u202egnp.txt".encode(), b"new\nline", b"\"'<b>", b"x" * 255]
)
async def test_any_name_can_be_addressed(portal: Portal, anna: Visitor, home: str, name: bytes) -> None:
    where = os.fsencode(on_disk(portal, anna, home)) + b"/" + name
    with open(where, "wb") as file:
        file.write(b"content")
    os.chown(where, os.stat(os.path.dirname(where)).st_uid, -1)
    (entry,) = (await anna.get("/home/entries", path=home))["entries"]
    assert entry["path"] == f"{quote(home)}/{quote(name, safe=SAFE)}"
    assert (entry["encoded_name"] is None) is (b"\xff" not in name)
    assert (await raw(anna, "GET", f"/files?path={entry['path']}")).content == b"content"
    found = await anna.get("/home/search", path=home, name="*")
    assert [one["path"] for one in found["entries"]] == [entry["path"]]
    body = {"from": entry["path"], "to": f"{home}/plain", "encoded": True}
    assert (await anna.call("POST", "/home/moves", body)).status_code == 200
    assert on_disk(portal, anna, f"{home}/plain").read_bytes() == b"content"
    body = {"from": f"{home}/plain", "to": entry["path"], "encoded": True}
    assert (await anna.call("POST", "/home/moves", body)).json()["path"] == entry["path"]
    trashed = (await anna.call("DELETE", f"/home/files?path={entry['path']}")).json()["id"]
    (kept,) = [one for one in (await anna.get("/home/trash"))["entries"] if one["id"] == trashed]
    assert kept["path"] == entry["path"]
    restored = (await anna.call("POST", "/home/trash/restore", {"ids": [trashed]})).json()
    assert restored == {"restored": [{"id": trashed, "path": entry["path"], "kind": "file"}], "failed": []}
    assert (await anna.call("DELETE", f"/home/files?path={entry['path']}&forever=true")).json() == {"id": None}
    assert os.listdir(on_disk(portal, anna, home)) == []


SAFE = "/-._~!$'()*,;:@"


async def test_pages_of_a_folder_are_stable_while_it_changes(portal: Portal, anna: Visitor, home: str) -> None:
    for number in range(25):
        put(portal, anna, f"{home}/f{number:02}", b"x" * number)
    for sort, order in (("name", "asc"), ("name", "desc"), ("size", "asc"), ("size", "desc"), ("modified", "asc")):
        names: list[str] = []
        cursor: str | None = None
        while True:
            query = {"cursor": cursor} if cursor else {}
            page = await anna.get("/home/entries", path=home, limit=7, sort=sort, order=order, **query)
            assert page["total"] in (25, 26)
            names += [one["name"] for one in page["entries"] if one["name"] != "between"]
            put(portal, anna, f"{home}/between", b"")
            cursor = page["cursor"]
            if cursor is None:
                break
        on_disk(portal, anna, f"{home}/between").unlink()
        assert sorted(names) == [f"f{number:02}" for number in range(25)], (sort, order)
        assert sort == "modified" or names == sorted(names, reverse=order == "desc")
    for odd in ("x", "!!", "W10", "WzEsMl0", "bnVsbA"):
        answer = await anna.call("GET", "/home/entries", path=home, cursor=odd)
        assert answer.status_code in (200, 422), odd


async def test_what_takes_the_room_and_what_can_be_emptied(portal: Portal, anna: Visitor, home: str) -> None:
    root = on_disk(portal, anna, "")
    for place in (".cache", ".cache/pip", ".cache/foo", f"{home}/deep"):
        _own(portal, anna, root / place)
    put(portal, anna, ".cache/pip/wheel", b"x" * 50_000)
    put(portal, anna, ".cache/foo/thing", b"x" * 90_000)
    put(portal, anna, f"{home}/deep/large", b"x" * 200_000)
    space = await anna.get("/home/space", path=home)
    assert space["complete"] is True
    assert [(one["name"], one["files"]) for one in space["folder"]["inside"]] == [("deep", 1)]
    assert space["folder"]["inside"][0]["inside"][0]["path"] == f"{home}/deep/large"
    caches = {one["name"]: one for one in space["caches"]}
    assert caches["pip"]["bytes"] >= 50_000
    assert 90_000 <= caches["other"]["bytes"] < 140_000
    assert caches["pip"]["cost"]
    assert (await anna.call("POST", "/home/caches/pip/empty")).status_code == 204
    assert (root / ".cache/pip").is_dir()
    assert not (root / ".cache/pip/wheel").exists()
    assert (root / ".cache/foo/thing").exists()
    assert (await anna.call("POST", "/home/caches/other/empty")).status_code == 204
    assert os.listdir(root / ".cache") == ["pip"]
    problem(await anna.call("POST", "/home/caches/etc/empty"), 404, "not-found")


async def test_a_zip_of_several_places(portal: Portal, anna: Visitor, home: str) -> None:
    for place in ("x", "x/data", "y", "y/data"):
        _own(portal, anna, on_disk(portal, anna, f"{home}/{place}"))
    put(portal, anna, f"{home}/x/data/one", b"1" * 100_000)
    put(portal, anna, f"{home}/y/data/two", b"2")
    answer = await raw(anna, "GET", f"/archives?path={home}/x/data&path={home}/y/data")
    assert answer.headers["Content-Type"] == "application/zip"
    assert 'filename="files.zip"' in answer.headers["Content-Disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["data/", "data/one", "data (2)/", "data (2)/two"]
        assert archive.read("data/one") == b"1" * 100_000
    problem(await raw(anna, "GET", f"/archives?path={home}/none"), 404, "not-found")
    problem(await raw(anna, "GET", "/archives"), 422, "invalid-input", "path")


EVIL = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"


async def test_h3_nothing_is_sent_as_what_a_browser_would_run(portal: Portal, anna: Visitor, home: str) -> None:
    """Whatever it is called and holds; the positive control is an image and a PDF that are shown."""
    for name in ("page.html", "draw.svg", "feed.xml", "a.js", "page.xhtml", "a.png", "a.pdf"):
        put(portal, anna, f"{home}/{name}", EVIL)
        answer = await raw(anna, "GET", f"/files?path={home}/{name}")
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        text = await raw(anna, "GET", f"/files?path={home}/{name}&preview=text")
        assert text.headers["Content-Type"] == "application/json"
        assert text.json()["text"] == EVIL.decode()
        for kind in ("image", "pdf"):
            problem(await raw(anna, "GET", f"/files?path={home}/{name}&preview={kind}"), 409, "conflict")
    put(portal, anna, f"{home}/real.html", PNG)
    shown = await raw(anna, "GET", f"/files?path={home}/real.html&preview=image")
    assert (shown.headers["Content-Type"], shown.content) == ("image/png", PNG)
    put(portal, anna, f"{home}/real.pdf", b"%PDF-1.7\n...")
    shown = await raw(anna, "GET", f"/files?path={home}/real.pdf&preview=pdf")
    assert shown.headers["Content-Type"] == "application/pdf"
    assert shown.headers["Content-Disposition"].startswith("inline")
    assert "sandbox" in shown.headers["Content-Security-Policy"]
    assert shown.headers["X-Content-Type-Options"] == "nosniff"


async def test_previews(portal: Portal, anna: Visitor, home: str) -> None:
    put(portal, anna, f"{home}/t.csv", b'a;b\n1;"x;y"\n')
    table = await anna.get("/home/files", path=f"{home}/t.csv", preview="csv")
    assert (table["rows"], table["delimiter"], table["encoding"]) == ([["a", "b"], ["1", "x;y"]], ";", "utf-8")
    put(portal, anna, f"{home}/l.txt", b"caf\xe9")
    text = await anna.get("/home/files", path=f"{home}/l.txt", preview="text")
    assert (text["text"], text["encoding"], text["cut"]) == ("café", "latin-1", False)
    put(portal, anna, f"{home}/n.ipynb", json.dumps(NOTEBOOK).encode())
    notebook = await anna.get("/home/files", path=f"{home}/n.ipynb", preview="notebook")
    assert [cell["kind"] for cell in notebook["cells"]] == ["markdown", "code"]
    kinds = [(one["kind"], one["media_type"]) for one in notebook["cells"][1]["outputs"]]
    assert kinds == [("text", "text/plain"), ("image", "image/png"), ("text", "text/html"), ("error", "text/plain")]
    assert notebook["cells"][1]["outputs"][3]["text"] == "Boom"
    problem(await anna.call("GET", "/home/files", path=f"{home}/l.txt", preview="notebook"), 409, "conflict")


NOTEBOOK = {
    "nbformat": 4,
    "metadata": {"language_info": {"name": "python"}},
    "cells": [
        {"cell_type": "markdown", "source": ["# Title"]},
        {
            "cell_type": "code",
            "source": "print(1)",
            "execution_count": 3,
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["1\n"]},
                {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"}},
                {"output_type": "execute_result", "data": {"text/html": "<script>alert(1)</script>"}},
                {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[31mBoom\x1b[0m"]},
            ],
        },
    ],
}


async def test_only_ones_own_home_is_reached(portal: Portal, anna: Visitor, home: str) -> None:
    put(portal, anna, f"{home}/secret", b"mine")
    bert = await portal.signed_in("bert@example.org")
    for path in (f"{home}/secret", f"../anna/{home}/secret", f"/../anna/{home}/secret", f"%2e%2e/anna/{home}/secret"):
        problem(await raw(bert, "GET", f"/files?path={path}"), 404, "not-found")
    assert (await raw(anna, "GET", f"/files?path=/{home}//./secret")).content == b"mine"


async def test_a_token_reaches_files_and_nobody_else_does(portal: Portal, anna: Visitor, home: str) -> None:
    token = (await anna.call("POST", "/tokens", {"name": "script"})).json()["token"]
    script = portal.visitor()
    answer = await script.http.put(
        f"/api/v1/home/files?path={home}/by-script", content=b"x", headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.status_code == 200
    problem(await raw(portal.visitor(), "GET", f"/files?path={home}/by-script"), 401, "not-signed-in")
    without = await anna.http.put(f"/api/v1/home/files?path={home}/by-script", content=b"x")
    problem(without, 403, "forbidden")
