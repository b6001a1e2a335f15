"""Homes and requests that somebody prepared against whoever looks: none of them is an error of the server's."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

import pytest

from launchpad.storage.fileworker.notebooks import TEXT_CHARACTERS
from launchpad.storage.fileworker.space import MOST_SHOWN
from launchpad.web.files_schemas import CellView
from launchpad.web.views.files import MOST_CRUMBS, MOST_HEADINGS, blocks, crumb, crumbs
from web.api_client import Portal, Visitor
from web.test_files_api import anna, home, on_disk, portal, put, raw

__all__ = ["anna", "home", "portal"]  # fixtures

pytestmark = [pytest.mark.root]

JSON = {"Content-Type": "application/json"}
STAGING = ".local/share/launchpad-uploads"


async def test_half_characters_of_a_notebook_are_shown_as_replaced(portal: Portal, anna: Visitor, home: str) -> None:
    outputs = [
        {"output_type": "stream", "text": "half \udc80"},
        {"output_type": "display_data", "data": {"text/plain": "half \ud800"}},
        {"output_type": "error", "traceback": ["half \udfff"]},
    ]
    cell = {"cell_type": "code", "source": "x = '\ud800'", "outputs": outputs}
    notebook = {"cells": [cell], "metadata": {"kernelspec": {"language": "\ud800"}}}
    put(portal, anna, f"{home}/a.ipynb", json.dumps(notebook).encode())
    answer = await raw(anna, "GET", f"/files?path={home}/a.ipynb&preview=notebook")
    assert answer.status_code == 200, answer.text
    shown = answer.json()["cells"][0]
    assert shown["source"] == "x = '\ufffd'"
    assert [one["text"] for one in shown["outputs"]] == ["half \ufffd"] * 3
    page = await anna.http.get(f"/files/item?path={home}/a.ipynb", headers={"Accept": "text/html"})
    assert page.status_code == 200


async def test_what_cannot_be_deleted_or_copied_is_told_whatever_its_name(
    portal: Portal, anna: Visitor, home: str
) -> None:
    top = on_disk(portal, anna, f"{home}/d")
    closed = os.fsencode(top) + b"/\xff\xfe"
    os.makedirs(closed + b"/x")
    os.mkfifo(os.fsencode(top) + b"/pipe\xfd")
    owner = top.parent.stat()
    for one in (os.fsencode(top), closed):
        os.chown(one, owner.st_uid, owner.st_gid)
    os.chmod(closed, 0)
    answer = await raw(anna, "POST", "/copies", json.dumps({"from": f"{home}/d", "to": f"{home}/e"}), **JSON)
    assert answer.status_code == 201, answer.text
    assert sorted(one.partition(":")[0] for one in answer.json()["left"]) == ["pipe\ufffd", "\ufffd\ufffd"]
    answer = await raw(anna, "DELETE", f"/files?path={home}/d&forever=true")
    assert answer.status_code == 409, answer.text
    assert "\ufffd\ufffd: Its permissions do not allow it." in answer.json()["detail"]


@pytest.mark.parametrize(
    "spec",
    [
        '{"size": 5, "path": "\\ud800"}',
        '{"size": 5}',
        '{"size": -5, "path": "a"}',
        '{"size": 1' + "0" * 4000 + ', "path": "a"}',
        '{"size": true, "path": "a"}',
        '{"size": 5, "path": "../../etc/passwd"}',
    ],
)
async def test_an_upload_whose_note_was_changed_is_none(portal: Portal, anna: Visitor, home: str, spec: str) -> None:
    bodies = [json.dumps({"path": f"{home}/{name}", "size_bytes": 9}) for name in "uv"]
    begun = [(await raw(anna, "POST", "/uploads", body, **JSON)).json()["id"] for body in bodies]
    changed, other = begun
    on_disk(portal, anna, f"{STAGING}/{changed}.json").write_text(spec)
    listed = await raw(anna, "GET", "/uploads")
    assert listed.status_code == 200, listed.text
    ids = [one["id"] for one in listed.json()["uploads"]]
    assert other in ids
    assert changed not in ids
    for method in ("GET", "HEAD", "PATCH", "DELETE"):
        answer = await raw(anna, method, f"/uploads/{changed}", b"12345", **{"Upload-Offset": "0"})
        assert answer.status_code == 404, (method, answer.text)


@pytest.mark.parametrize(
    "told",
    [
        '{"a":1}',
        '[0,1e999,"a","b"]',
        '[true,true,"a","b"]',
        '"\\ud800"',
        '"../x"',
        '"\\u0000"',
        "[" * 2900 + "]" * 2900,
        "NaN",
        "[0, " + "9" * 4000 + ',"a","b"]',
        "[[],[],[],[]]",
    ],
)
async def test_any_cursor_is_used_or_refused(portal: Portal, anna: Visitor, home: str, told: str) -> None:
    cursor = base64.urlsafe_b64encode(told.encode()).decode().rstrip("=")
    for address in ("/entries?", "/entries?sort=size&order=desc&", "/search?name=a&"):
        answer = await raw(anna, "GET", f"{address}path={home}&cursor={cursor}")
        assert answer.status_code in (200, 404, 422), answer.text
    page = await anna.http.get(f"/files?path={home}&cursor={cursor}", headers={"Accept": "text/html"})
    assert page.status_code in (200, 422)


async def test_queries_of_too_many_parts_are_refused(portal: Portal, anna: Visitor, home: str) -> None:
    many = "&".join(["x=1"] * 1200)
    for address in (f"/entries?path={home}&{many}", f"/archives?path={home}&{many}", f"/search?name=a&{many}"):
        answer = await raw(anna, "GET", address)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input")
    for page in ("/files", "/files/item", "/files/space"):
        assert (await anna.http.get(f"{page}?{many}", headers={"Accept": "text/html"})).status_code == 422


async def test_a_huge_notebook_is_shown_in_part(portal: Portal, anna: Visitor, home: str) -> None:
    """The portal would be busy with all of it, and with nothing else."""
    words = {"cell_type": "markdown", "source": "a\n" * 50_000}
    output = {"output_type": "stream", "text": "b" * 50_000}
    code = {"cell_type": "code", "source": "c" * 100_000, "outputs": [output] * 50}
    notebook = json.dumps({"cells": [words, code] * 10}).encode()
    put(portal, anna, f"{home}/huge.ipynb", notebook)
    shown = (await raw(anna, "GET", f"/files?path={home}/huge.ipynb&preview=notebook")).json()
    text = sum(len(cell["source"]) + sum(len(one["text"]) for one in cell["outputs"]) for cell in shown["cells"])
    assert (text, shown["cut"]) == (TEXT_CHARACTERS, True)
    assert shown["cells"][0]["source"] == words["source"]
    assert shown["cells"][-1]["cut"] or shown["cells"][-1]["outputs"][-1]["cut"]


async def test_space_of_very_many_files_is_told_of_the_largest(portal: Portal, anna: Visitor, home: str) -> None:
    top = on_disk(portal, anna, home)
    for number in range(45):
        for inner in range(45):
            (top / f"{number:02}" / f"{inner:02}").mkdir(parents=True)
    (top / "44/44/large").write_bytes(bytes(4_000_000))
    (top / "44/44/less").write_bytes(bytes(1_000_000))
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            os.chown(os.path.join(folder, name), top.stat().st_uid, top.stat().st_gid)

    def number_in(node: dict[str, Any]) -> int:
        return sum(1 + number_in(one) for one in node["inside"])

    answer = await raw(anna, "GET", f"/space?path={home}&depth=3")
    folder = answer.json()["folder"]
    assert 1000 < number_in(folder) <= MOST_SHOWN < 45 * 45
    assert len(folder["inside"]) == 45
    largest = folder["inside"][0]["inside"][0]
    assert largest["path"] == f"{home}/44/44"
    assert [one["name"] for one in largest["inside"]] == ["large", "less"]


async def test_pages_of_very_deep_folders_say_the_end_of_the_way(portal: Portal, anna: Visitor, home: str) -> None:
    path = "/".join([home, *("deep",) * 300])
    on_disk(portal, anna, path).mkdir(parents=True)
    at = on_disk(portal, anna, home)
    for _ in range(300):
        at /= "deep"
        os.chown(at, at.parent.stat().st_uid, at.parent.stat().st_gid)
    found = crumbs(path)
    assert [found[0], found[-1]] == [crumb(""), crumb(path)]
    assert len(found) == MOST_CRUMBS + 1
    assert found[-2] == crumb(path.rpartition("/")[0])
    page = await anna.http.get(f"/files?path={path}", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert page.text.count(found[-1].href.replace("&", "&amp;")) >= 1


def test_blocks_of_markdown_are_headings_and_lines() -> None:
    def told(source: str) -> list[tuple[bool, str]]:
        cell = CellView(kind="markdown", source=source, outputs=[], cut=False)
        return [(one.heading, one.text) for one in blocks(cell)]

    assert told("# One\n\n\na\n\nb\n## Two\n# Three\nc\n") == [
        (True, "One"),
        (False, "a\n\nb"),
        (True, "Two"),
        (True, "Three"),
        (False, "c"),
    ]
    assert told("a\n" * 5) == [(False, "a\na\na\na\na")]
    assert len(told("# a\nb\n" * 5000)) <= 2 * MOST_HEADINGS + 2
    assert told("") == []


async def test_emptying_a_cache_signs_nobody_out(portal: Portal, anna: Visitor, home: str) -> None:
    """Beside the models of Hugging Face lies the token that people have there."""
    top = on_disk(portal, anna, ".cache/huggingface/hub")
    top.mkdir(parents=True, exist_ok=True)
    owner = on_disk(portal, anna, "").stat()
    for folder in (top, top.parent, top.parent.parent):
        os.chown(folder, owner.st_uid, owner.st_gid)
    model = put(portal, anna, ".cache/huggingface/hub/model", b"x" * 100_000)
    token = put(portal, anna, ".cache/huggingface/token", b"hf_secret")
    for name in ("huggingface", "other"):
        assert (await raw(anna, "POST", f"/caches/{name}/empty")).status_code == 204
    assert (model.exists(), token.read_bytes()) == (False, b"hf_secret")
