"""Sharing: who may read what, for how long, by the API and the pages; and what they may not, with positive controls."""

from __future__ import annotations

import asyncio
import io
import os
import threading
import zipfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from launchpad.domain.users import UserStatus
from launchpad.errors import NotFound
from launchpad.services.audit import CLI
from launchpad.services.users import UserChange
from web.api_client import Portal, Visitor, open_api, problem

pytestmark = [pytest.mark.root]  # files are their owners'

SECRET = b"what nobody else may see"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def portal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Portal]:
    async with open_api(tmp_path_factory.mktemp("shares"), {"sharing": {"strangers": True}}) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def anna(portal: Portal) -> Visitor:
    """The owner: a folder with something in it, and what must not be seen beside it."""
    visitor = await signed_in(portal, "anna")
    await visitor.get("/home/entries")  # makes the home
    put(portal, visitor, "shared/a.txt", b"hello")
    put(portal, visitor, "shared/inner/b.csv", b"a,b\n1,2\n")
    put(portal, visitor, "shared/page.html", b"<script>alert(1)</script>")
    put(portal, visitor, "private/secret.txt", SECRET)
    put(portal, visitor, "secret.txt", SECRET)
    home = home_of(portal, visitor)
    for name, target in (("up", ".."), ("out", "../private"), ("file", "../secret.txt"), ("in", "inner/b.csv")):
        (home / "shared" / name).symlink_to(target)
    (home / "shared" / "absolute").symlink_to(home / "secret.txt")
    (home / "way").symlink_to("private")
    return visitor


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bert(portal: Portal) -> Visitor:
    return await signed_in(portal, "bert")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def carl(portal: Portal) -> Visitor:
    return await signed_in(portal, "carl")


async def signed_in(portal: Portal, name: str) -> Visitor:
    return await portal.signed_in(f"{name}@example.org")


def home_of(portal: Portal, visitor: Visitor) -> Path:
    home: Path = portal.world.homes_root / visitor.me["username"]
    return home


def put(portal: Portal, visitor: Visitor, path: str, content: bytes) -> Path:
    home = home_of(portal, visitor)
    file, uid = home / path, home.stat().st_uid
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    for one in (file, *(one for one in file.parents if one.is_relative_to(home))):
        os.chown(one, uid, uid)
    return file


async def share(anna: Visitor, path: str, *people: str, **more: Any) -> str:
    answer = await anna.call(
        "POST", "/shares", {"path": path, "with": [f"{one}@example.org" for one in people], **more}
    )
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["id"]
    return made


async def change(portal: Portal, name: str, **changes: Any) -> None:
    user = await portal.platform.users.by_email(f"{name}@example.org")
    await portal.platform.users.change(user.id, UserChange(**changes), CLI, portal.world.clock.now)


async def test_a_folder_is_read_by_those_it_is_shared_with(portal: Portal, anna: Visitor, bert: Visitor) -> None:
    """Listed on both sides, with who has opened it; read in the same ways as one's own files."""
    made = await share(anna, "shared", "bert", days=7)
    (given,) = (await bert.get("/shares"))["with_me"]
    assert (given["id"], given["name"], given["kind"], given["owner"]) == (made, "shared", "folder", "anna@example.org")
    entries = (await bert.get(f"/shares/{made}/entries"))["entries"]
    assert {one["name"] for one in entries} >= {"inner", "a.txt", "page.html"}
    assert (await bert.call("GET", f"/shares/{made}/files", path="a.txt")).content == b"hello"
    assert (await bert.call("GET", f"/shares/{made}/files", path="in")).content == b"a,b\n1,2\n", (
        "a link that stays in it"
    )
    table = await bert.get(f"/shares/{made}/files", path="inner/b.csv", preview="csv")
    assert table["rows"] == [["a", "b"], ["1", "2"]]
    part = await bert.call("GET", f"/shares/{made}/files", headers={"Range": "bytes=1-2"}, path="a.txt")
    assert (part.status_code, part.content) == (206, b"el")
    packed = await bert.call("GET", f"/shares/{made}/archives")
    with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
        assert archive.read("a.txt") == b"hello"
        assert SECRET not in b"".join(archive.read(name) for name in archive.namelist())
    (own,) = (await anna.get("/shares"))["by_me"]
    assert (own["path"], own["with"], own["lab"]) == ("shared", ["bert@example.org"], None)
    assert [one["email"] for one in own["opened"]] == ["bert@example.org"]
    assert (await anna.call("GET", f"/shares/{made}/files", path="a.txt")).content == b"hello", "its owner, too"
    await anna.call("DELETE", f"/shares/{made}")
    assert (await anna.get("/shares"))["by_me"] == []
    assert (await bert.get("/shares"))["with_me"] == []


async def test_h3_nothing_shared_is_active_content(anna: Visitor, bert: Visitor) -> None:
    made = await share(anna, "shared", "bert")
    answer = await bert.call("GET", f"/shares/{made}/files", path="page.html")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    page = await bert.http.get(f"/shared/{made}?path=page.html", headers={"Accept": "text/html"})
    assert "&lt;script&gt;alert(1)" in page.text
    assert "<script>alert(1)" not in page.text
    problem(await bert.call("GET", f"/shares/{made}/files", path="page.html", preview="image"), 409, "conflict")


async def test_a_file_is_alone_in_what_is_shared(portal: Portal, anna: Visitor, bert: Visitor) -> None:
    """Also after an editor has put another file in its place."""
    made = await share(anna, "shared/a.txt", "bert")
    assert (await bert.call("GET", f"/shares/{made}/files")).content == b"hello"
    for path in ("a.txt", "inner/b.csv", "page.html"):
        problem(await bert.call("GET", f"/shares/{made}/files", path=path), 404, "not-found")
    problem(await bert.call("GET", f"/shares/{made}/entries"), 404, "not-found")
    assert (await bert.call("GET", f"/shares/{made}/archives")).status_code in (404, 422)
    file = home_of(portal, anna) / "shared" / "a.txt"
    put(portal, anna, "shared/a.new", b"edited").rename(file)
    assert (await bert.call("GET", f"/shares/{made}/files")).content == b"edited"
    put(portal, anna, "shared/a.txt", b"hello")


HOSTILE = [
    *("../secret.txt", "inner/../../secret.txt", "..", "./../private/secret.txt", "/../secret.txt", "//..//secret.txt"),
    *("up", "up/secret.txt", "out", "out/secret.txt", "file", "absolute", "in/..", "inner/b.csv/../../../secret.txt"),
    *("a.txt/../../secret.txt", "%2e%2e/secret.txt", "..%2fsecret.txt", "\u002e\u002e/secret.txt", "..\\secret.txt"),
    *("private/secret.txt", "secret.txt", "shared/a.txt", "\0", "a.txt\0", "x" * 300, "inner/" * 300),
]


@pytest.mark.parametrize("path", HOSTILE)
async def test_h1_no_path_leads_out_of_what_is_shared(anna: Visitor, bert: Visitor, path: str) -> None:
    """By any call; names of links are seen, and what they lead to is not."""
    made = await share(anna, "shared", "bert")
    for call, query in (("entries", {}), ("files", {}), ("files", {"preview": "text"}), ("archives", {})):
        answer = await bert.http.get(f"/api/v1/shares/{made}/{call}", params={"path": path, **query})
        assert SECRET not in answer.content, (call, path)
        if call == "archives" and answer.status_code == 200:
            with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
                assert SECRET not in b"".join(archive.read(name) for name in archive.namelist())
        else:
            assert answer.status_code in (404, 422), (call, path, answer.text)
    page = await bert.http.get(f"/shared/{made}", params={"path": path}, headers={"Accept": "text/html"})
    assert page.status_code in (200, 404, 422)
    assert SECRET.decode() not in page.text
    await anna.call("DELETE", f"/shares/{made}")


@pytest.mark.parametrize(
    "path", ["", "/", ".", "..", "../bert", "shared/up", "way", "way/secret.txt", "none", "shared/..", "\0"]
)
async def test_what_cannot_be_shared(anna: Visitor, path: str) -> None:
    """The home itself, links and what they lead to, and what is not there or not the sharer's."""
    answer = await anna.call("POST", "/shares", {"path": path, "with": ["bert@example.org"]})
    assert answer.status_code in (404, 422), answer.text
    assert await share(anna, "shared/inner", "bert")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "with"),
        ({"with": []}, "with"),
        ({"with": ["anna@example.org"]}, "with"),  # oneself
        ({"with": ["no address"]}, "with"),
        ({"with": ["a@example.org\nb@example.org"]}, "with"),
        ({"with": ["bert@example.org"], "days": 0}, "days"),
        ({"with": ["bert@example.org"], "days": 10_000}, "days"),
        ({"with": [f"p{number}@example.org" for number in range(51)]}, "with"),
        ({"lab": True}, "lab"),  # has none
    ],
)
async def test_a_share_names_people_and_a_date(portal: Portal, anna: Visitor, body: dict[str, Any], field: str) -> None:
    await change(portal, "anna", lab=None)
    answer = await anna.call("POST", "/shares", {"path": "shared", **body})
    problem(answer, 422, "invalid-input", field)


async def test_nobody_else_can_tell_whether_there_is_such_a_share(
    portal: Portal, anna: Visitor, bert: Visitor, carl: Visitor
) -> None:
    """One that was stopped, is over, was never, or is for others: the same words."""
    admin = await portal.signed_in("admin@example.org")
    mine, stopped = await share(anna, "shared", "bert"), await share(anna, "shared", "bert", "carl")
    await anna.call("DELETE", f"/shares/{stopped}")
    assert (await bert.call("GET", f"/shares/{mine}/entries")).status_code == 200
    told = set()
    for visitor in (carl, admin):
        for made in (mine, stopped, "0123456789abcdef", "x" * 200):
            for call in ("entries", "files", "archives"):
                answer = await visitor.call("GET", f"/shares/{made}/{call}")
                problem(answer, 404, "not-found")
                told.add(answer.text)
            problem(await visitor.call("DELETE", f"/shares/{made}"), 404, "not-found")
    assert len(told) == 1
    assert (await bert.call("DELETE", f"/shares/{mine}")).status_code == 404, "its readers cannot stop it"
    assert (await bert.call("GET", f"/shares/{mine}/entries")).status_code == 200
    nobody = portal.visitor()
    assert (await nobody.call("GET", f"/shares/{mine}/files", path="a.txt")).status_code == 401
    page = await nobody.http.get(f"/shared/{mine}", headers={"Accept": "text/html"})
    assert page.status_code == 303, "strangers are asked to sign in"


async def test_it_ends_at_its_date_and_with_either_account(portal: Portal, anna: Visitor, bert: Visitor) -> None:
    made = await share(anna, "shared", "bert", days=2)

    async def reads() -> int:
        return (await bert.call("GET", f"/shares/{made}/files", path="a.txt")).status_code

    assert await reads() == 200
    await change(portal, "anna", status=UserStatus.SUSPENDED)
    assert await reads() == 404
    assert (await bert.get("/shares"))["with_me"] == []
    await change(portal, "anna", status=UserStatus.ACTIVE)
    await anna.sign_in("anna@example.org")
    assert await reads() == 200
    shares, now = portal.platform.shares, portal.world.clock.now
    viewer = await portal.platform.users.by_email("bert@example.org")
    end = now + timedelta(days=2)
    assert (await shares.get(viewer, made, end - timedelta(seconds=1))).share.id == made
    with pytest.raises(NotFound):
        await shares.get(viewer, made, end)
    assert made not in [one.share.id for one in await shares.with_me(viewer, end)]
    await shares.prune(end + timedelta(days=29))
    assert await reads() == 200
    await shares.prune(end + timedelta(days=31))
    assert await reads() == 404, "forgotten"


async def test_the_lab_reads_as_long_as_both_are_in_it(
    portal: Portal, anna: Visitor, bert: Visitor, carl: Visitor
) -> None:
    for name in ("anna", "bert"):
        await change(portal, name, lab="Genomics")
    made = await share(anna, "shared", lab=True)
    for visitor, status in ((bert, 200), (carl, 404)):
        assert (await visitor.call("GET", f"/shares/{made}/entries")).status_code == status
    assert made in [one["id"] for one in (await bert.get("/shares"))["with_me"]]
    (own,) = [one for one in (await anna.get("/shares"))["by_me"] if one["id"] == made]
    assert (own["lab"], [one["email"] for one in own["opened"]]) == ("Genomics", ["bert@example.org"])
    for name, lab in (("bert", "Physics"), ("bert", None), ("anna", None), ("anna", "Physics")):
        await change(portal, name, lab=lab)
        assert (await bert.call("GET", f"/shares/{made}/entries")).status_code == 404, (name, lab)
        await change(portal, name, lab="Genomics")
        assert (await bert.call("GET", f"/shares/{made}/entries")).status_code == 200


async def test_h4_a_download_under_way_stops_with_its_share(portal: Portal, anna: Visitor, bert: Visitor) -> None:
    """At its next piece; the one beside it, of another share, goes on to its end."""
    content = os.urandom(1 << 20) * 8
    put(portal, anna, "large/a.bin", content)
    shares, users = portal.platform.shares, portal.platform.users
    viewer = await users.by_email("bert@example.org")
    now = portal.world.clock.now
    stopped, kept = await share(anna, "large", "bert"), await share(anna, "large/a.bin", "bert")

    async def read(made: str, path: str, after_first: Any) -> int:
        got = 0
        async with shares.received(viewer, made, "read", now, path=path) as received:
            await received.choose(offset=0, length=received.header["size"])
            async for piece in received.pieces():
                got += len(piece)
                if after_first is not None:
                    await after_first()
                    after_first = None
        return got

    async def stop() -> None:
        await anna.call("DELETE", f"/shares/{stopped}")

    with pytest.raises(NotFound):
        await read(stopped, "a.bin", stop)
    assert await read(kept, "", None) == len(content)

    async def suspend() -> None:
        await change(portal, "bert", status=UserStatus.SUSPENDED)

    with pytest.raises(NotFound):
        await read(kept, "", suspend)
    await change(portal, "bert", status=UserStatus.ACTIVE)
    await bert.sign_in("bert@example.org")


@pytest.mark.slow  # a race needs many turns
async def test_h1_no_swap_of_the_path_leads_elsewhere(portal: Portal, anna: Visitor, bert: Visitor) -> None:
    """Its owner, or a program of theirs, puts links in the place of what is shared, and of what is in it."""
    home = home_of(portal, anna)
    put(portal, anna, "race/a.txt", b"fine")
    put(portal, anna, "beside/a.txt", SECRET)
    folder, file = await share(anna, "race", "bert"), await share(anna, "race/a.txt", "bert")
    over = threading.Event()

    def swap() -> None:
        race, aside = home / "race", home / "aside"
        while not over.is_set():
            race.rename(aside)
            race.symlink_to("beside")
            race.unlink()
            aside.rename(race)
            (race / "a.txt").rename(race / "kept")
            (race / "a.txt").symlink_to("../secret.txt")
            (race / "a.txt").unlink()
            (race / "kept").rename(race / "a.txt")

    swapping = asyncio.create_task(asyncio.to_thread(swap))
    statuses = []
    try:
        for _ in range(300):
            for made, path in ((folder, "a.txt"), (file, "")):
                answer = await bert.call("GET", f"/shares/{made}/files", path=path)
                assert answer.status_code in (200, 404, 409), answer.text
                assert SECRET not in answer.content
                statuses.append(answer.status_code)
    finally:
        over.set()
        await swapping
    assert statuses.count(200) > 10
    assert statuses.count(404) > 10
    assert (await bert.call("GET", f"/shares/{folder}/files", path="a.txt")).content == b"fine"


async def test_readers_leave_the_owner_a_way_to_their_files(portal: Portal, anna: Visitor, bert: Visitor) -> None:
    """Half of the workers that the owner may have; a further reader is told to wait."""
    made = await share(anna, "shared", "bert")
    shares = portal.platform.shares
    viewer = await portal.platform.users.by_email("bert@example.org")
    now = portal.world.clock.now
    one = shares.received(viewer, made, "read", now, path="a.txt")
    other = shares.received(viewer, made, "read", now, path="a.txt")
    async with one, other:
        answer = await bert.call("GET", f"/shares/{made}/files", path="a.txt")
        problem(answer, 429, "files-busy")
        assert (await anna.call("GET", "/home/files", path="secret.txt")).content == SECRET
    assert (await bert.call("GET", f"/shares/{made}/files", path="a.txt")).status_code == 200


async def test_sharing_can_be_turned_off(tmp_path: Path) -> None:
    async with open_api(tmp_path, {"sharing": {"enabled": False}}) as portal:
        anna = await signed_in(portal, "anna")
        problem(await anna.call("POST", "/shares", {"path": "a", "with": ["b@example.org"]}), 403, "forbidden")
        assert await anna.get("/shares") == {"by_me": [], "with_me": []}


async def test_pages_share_and_show_without_scripts(portal: Portal, anna: Visitor, bert: Visitor) -> None:
    html = {"Accept": "text/html"}
    before = {one["id"] for one in (await bert.get("/shares"))["with_me"]}
    item = await anna.http.get("/files/item?path=shared", headers=html)
    assert "/files/share" in item.text
    form = {"path": "", "entry": "shared", "people": "bert@example.org, dora@example.org", "days": "3"}
    answer = await anna.http.post("/files/share", data={**form, **csrf(anna)})
    assert answer.status_code == 303, answer.text
    assert answer.headers["Location"].startswith("/shared?")
    listed = await anna.http.get("/shared", headers=html)
    assert "dora@" in listed.text
    (given,) = [one for one in (await bert.get("/shares"))["with_me"] if one["id"] not in before]
    page = await bert.http.get(f"/shared/{given['id']}", headers=html)
    assert "a.txt" in page.text
    assert "hello" in (await bert.http.get(f"/shared/{given['id']}?path=a.txt", headers=html)).text
    answer = await anna.http.post(f"/shared/{given['id']}/stop", data=csrf(anna))
    assert answer.status_code == 303
    assert (await bert.http.get(f"/shared/{given['id']}", headers=html)).status_code == 404
    wrong = {**form, **csrf(anna), "people": "nobody"}
    refused = await anna.http.post("/files/share", data=wrong, headers={**html, "Origin": "http://localhost:8080"})
    assert refused.status_code == 303
    shown = await anna.http.get(refused.headers["Location"], headers=html)
    assert "is not an e-mail address" in shown.text


def csrf(visitor: Visitor) -> dict[str, str]:
    return {"csrf_token": visitor.csrf or ""}


HTML = {"Accept": "text/html"}


async def link_of(anna: Visitor, path: str, **more: Any) -> tuple[str, str]:
    """The id of the share, and the path of its link."""
    answer = await anna.call("POST", "/shares", {"path": path, "link": True, **more})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    return made["id"], made["link_url"].removeprefix("http://localhost:8080")


async def test_a_link_opens_something_for_everybody_where_that_is_allowed(portal: Portal, anna: Visitor) -> None:
    """Told once, kept as a digest; with the protections of one's own files; until a date, and stopped at once."""
    made, link = await link_of(anna, "shared")
    stranger = portal.visitor()
    page = await stranger.http.get(link, headers=HTML)
    assert page.status_code == 200, page.text
    assert "a.txt" in page.text
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert "/dashboard" not in page.text, "nothing of the platform beside it"
    assert "&lt;script&gt;" in (await stranger.http.get(f"{link}?path=page.html", headers=HTML)).text
    answer = await stranger.http.get(f"{link}/files?path=page.html")
    assert (answer.headers["Content-Type"], answer.content) == (
        "application/octet-stream",
        b"<script>alert(1)</script>",
    )
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")
    with zipfile.ZipFile(io.BytesIO((await stranger.http.get(f"{link}/archives")).content)) as archive:
        assert archive.read("a.txt") == b"hello"
    assert (await stranger.call("GET", f"/shares/{made}/entries")).status_code == 401, "the API is for those signed in"
    (own,) = [one for one in (await anna.get("/shares"))["by_me"] if one["id"] == made]
    assert (own["has_link"], own["link_url"], own["with"]) == (True, None, [])
    assert [one["email"] for one in own["opened"]] == [""]
    assert link.rpartition("/")[2] not in repr(portal.world.rows("SELECT * FROM shares"))
    secret = link.rpartition("/")[2]
    for other in (link[:-1], f"{link}x", f"/s/{made}/", f"/s/{made}/none", f"/s/0123456789abcdef/{secret}"):
        for call in ("", "/files?path=a.txt", "/archives"):
            answer = await stranger.http.get(f"{other}{call}", headers=HTML)
            assert answer.status_code == 404, (other, call)
    named = await share(anna, "shared", "bert")
    assert (await stranger.http.get(f"/s/{named}/{link.rpartition('/')[2]}", headers=HTML)).status_code == 404
    await anna.call("DELETE", f"/shares/{made}")
    assert (await stranger.http.get(link, headers=HTML)).status_code == 404


@pytest.mark.parametrize("path", HOSTILE)
async def test_h1_no_path_of_a_link_leads_out_of_what_is_shared(portal: Portal, anna: Visitor, path: str) -> None:
    made, link = await link_of(anna, "shared")
    stranger = portal.visitor("192.0.2.99")
    portal.world.clock.now += timedelta(minutes=1)
    for call in ("", "/files", "/archives"):
        answer = await stranger.http.get(f"{link}{call}", params={"path": path}, headers=HTML)
        assert SECRET not in answer.content, call
        if call == "/archives" and answer.status_code == 200:
            with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
                assert SECRET not in b"".join(archive.read(name) for name in archive.namelist())
        elif call:
            assert answer.status_code in (404, 422), (call, answer.text)
    await anna.call("DELETE", f"/shares/{made}")


async def test_a_link_ends_with_its_date_and_its_owners_account(portal: Portal, anna: Visitor) -> None:
    answer = await anna.call("POST", "/shares", {"path": "shared", "link": True, "days": 15})
    problem(answer, 422, "invalid-input", "days")
    made, link = await link_of(anna, "shared/a.txt", days=14)
    stranger = portal.visitor("192.0.2.98")
    assert (await stranger.http.get(f"{link}/files")).content == b"hello"
    await change(portal, "anna", status=UserStatus.SUSPENDED)
    assert (await stranger.http.get(f"{link}/files", headers=HTML)).status_code == 404
    await change(portal, "anna", status=UserStatus.ACTIVE)
    await anna.sign_in("anna@example.org")
    assert (await stranger.http.get(f"{link}/files")).content == b"hello"
    shares, end = portal.platform.shares, portal.world.clock.now + timedelta(days=14)
    with pytest.raises(NotFound):
        await shares.get(shares.by_link(link.rpartition("/")[2], "192.0.2.97", end), made, end)


async def test_links_are_asked_for_so_often_and_no_more(tmp_path: Path) -> None:
    """By one client; others are not kept out. Where the administrators do not allow them, they open nothing."""
    async with open_api(tmp_path, {"sharing": {"strangers": True, "strangers_per_minute": 3}}) as portal:
        anna = await signed_in(portal, "anna")
        await anna.get("/home/entries")
        put(portal, anna, "a.txt", b"hello")
        _, link = await link_of(anna, "a.txt")
        one, other = portal.visitor("192.0.2.50"), portal.visitor("192.0.2.51")
        assert [(await one.http.get(f"{link}/files")).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert (await other.http.get(f"{link}/files")).status_code == 200
        portal.world.clock.now += timedelta(minutes=1)
        assert (await one.http.get(f"{link}/files")).status_code == 200
    (tmp_path / "other").mkdir()
    async with open_api(tmp_path / "other") as portal:
        anna = await signed_in(portal, "anna")
        await anna.get("/home/entries")
        put(portal, anna, "a.txt", b"hello")
        problem(await anna.call("POST", "/shares", {"path": "a.txt", "link": True}), 403, "forbidden")
        assert (await portal.visitor().http.get("/s/x/y", headers=HTML)).status_code == 404
