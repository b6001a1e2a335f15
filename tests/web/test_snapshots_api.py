"""Snapshots over the API: listed, read and restored from. What takes them: `contract/test_snapshots.py`."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from launchpad.domain.snapshots import Cause
from launchpad.web.metrics import measured
from support.snapshots import CopiedSnapshots
from web.api_client import Portal, Visitor, open_api, problem

pytestmark = [pytest.mark.root]  # files are their owners'


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def portal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Portal]:
    async with open_api(tmp_path_factory.mktemp("snapshots"), copied=True) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def anna(portal: Portal) -> Visitor:
    visitor = await portal.signed_in("anna@example.org")
    await visitor.get("/home/entries")
    return visitor


def put(portal: Portal, visitor: Visitor, path: str, content: bytes) -> Path:
    home: Path = portal.world.homes_root / visitor.me["username"]
    file, uid = home / path, home.stat().st_uid
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    for one in (file, *(one for one in file.parents if one.is_relative_to(home))):
        os.chown(one, uid, uid)
    return file


async def take(portal: Portal, visitor: Visitor, cause: Cause = Cause.TIME) -> str:
    portal.world.clock.now += timedelta(hours=1)
    snapshots = portal.world.snapshots
    assert isinstance(snapshots, CopiedSnapshots)
    home = portal.world.homes_root / visitor.me["username"]
    made = await snapshots.take(home.name, home.stat().st_uid, cause)
    assert made is not None
    return made.name


async def test_snapshots_are_listed_read_and_restored_from(portal: Portal, anna: Visitor) -> None:
    put(portal, anna, "work/data.csv", b"a,b\n1,2\n")
    first = await take(portal, anna)
    file = put(portal, anna, "work/data.csv", b"broken")
    second = await take(portal, anna, Cause.BEFORE)
    listed = await anna.get("/home/snapshots")
    assert [(one["name"], one["cause"]) for one in listed["snapshots"]] == [(second, "before"), (first, "time")]
    assert listed["obstacle"] is None
    assert (await anna.get("/home"))["snapshots"] == listed["snapshots"]
    then = {"snapshot": first}
    entries = (await anna.get("/home/entries", path="work", **then))["entries"]
    assert [(one["name"], one["size_bytes"]) for one in entries] == [("data.csv", 8)]
    found = await anna.get("/home/search", name="data", **then)
    assert [one["path"] for one in found["entries"]] == ["work/data.csv"]
    assert (await anna.get("/home/files", path="work/data.csv", preview="csv", **then))["rows"] == [
        ["a", "b"],
        ["1", "2"],
    ]
    answer = await anna.http.get("/api/v1/home/files", params={"path": "work/data.csv", **then})
    assert answer.content == b"a,b\n1,2\n"
    answer = await anna.http.get("/api/v1/home/archives", params={"path": "work", **then})
    assert zipfile.ZipFile(io.BytesIO(answer.content)).read("work/data.csv") == b"a,b\n1,2\n"
    body = {"snapshot": first, "path": "work/data.csv"}
    answer = await anna.call("POST", "/home/restores", body)
    assert answer.status_code == 201, answer.text
    copy = answer.json()["entry"]
    assert copy["name"].startswith("data (")
    assert copy["name"].endswith(").csv")
    assert (file.parent / copy["name"]).read_bytes() == b"a,b\n1,2\n"
    assert file.read_bytes() == b"broken"
    told = (await anna.call("POST", "/home/restores", {**body, "to": "in place"})).json()
    assert (told["entry"]["path"], told["trashed"], told["left_count"]) == ("work/data.csv", "data.csv", 0)
    assert file.read_bytes() == b"a,b\n1,2\n"
    assert (await anna.get("/home/trash"))["entries"][0]["path"] == "work/data.csv"


async def test_what_is_not_there_or_not_ones_own_is_not_found(portal: Portal, anna: Visitor) -> None:
    put(portal, anna, "a", b"1")
    mine = await take(portal, anna)
    bert = await portal.signed_in("bert@example.org")
    await bert.get("/home/entries")
    for path, params in (
        ("/home/entries", {"snapshot": mine}),
        ("/home/files", {"snapshot": mine, "path": "a"}),
        ("/home/entries", {"snapshot": "20200101T000000Z"}),
    ):
        problem(await bert.http.get(f"/api/v1{path}", params=params), 404, "not-found")
    problem(await bert.call("POST", "/home/restores", {"snapshot": mine, "path": "a"}), 404, "not-found")
    assert (await bert.get("/home/snapshots"))["snapshots"] == []
    for name in ("..", f"../anna/{mine}", f"{mine}/a"):
        problem(
            await anna.http.get("/api/v1/home/entries", params={"snapshot": name}), 422, "invalid-input", "snapshot"
        )
        problem(await anna.call("POST", "/home/restores", {"snapshot": name, "path": "a"}), 404, "not-found")
    for path in ("../bert", "never", "a/b"):
        problem(await anna.call("POST", "/home/restores", {"snapshot": mine, "path": path}), 404, "not-found")
    problem(
        await anna.call("POST", "/home/restores", {"snapshot": mine, "path": "", "to": "in place"}), 409, "conflict"
    )
    problem(
        await anna.call("POST", "/home/restores", {"snapshot": mine, "path": "a", "to": "/"}),
        422,
        "invalid-input",
        "to",
    )


async def test_where_there_are_none_it_is_said_why(tmp_path: Path) -> None:
    async with open_api(tmp_path) as portal:
        visitor = await portal.signed_in("zoe@example.org")
        told = await visitor.get("/home/snapshots")
        assert told["snapshots"] == []
        assert "cannot take snapshots" in told["obstacle"]


async def test_the_home_is_told_while_snapshots_cannot_be(
    portal: Portal, anna: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = portal.world.snapshots
    assert isinstance(snapshots, CopiedSnapshots)
    monkeypatch.setattr(snapshots, "is_away", True)
    problem(await anna.http.get("/api/v1/home/snapshots"), 503, "home-unavailable")
    assert (await anna.get("/home"))["snapshots"] == []


async def test_metrics_tell_of_snapshots(portal: Portal, anna: Visitor) -> None:
    put(portal, anna, "metrics", os.urandom(4))
    await take(portal, anna)
    text = (await measured(portal.platform)).decode()
    number = len((await anna.get("/home/snapshots"))["snapshots"])
    assert f"launchpad_snapshots {number}.0" in text
    assert "launchpad_snapshots_homes 1.0" in text
    newest = next(
        line for line in text.splitlines() if line.startswith("launchpad_snapshots_newest_timestamp_seconds ")
    )
    assert float(newest.split()[1]) == pytest.approx(portal.world.clock.now.timestamp(), abs=1)
