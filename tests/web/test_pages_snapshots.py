"""The Files page of the past, in a browser without scripts: the choice of a moment, and what is restored from it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from launchpad.domain.snapshots import Cause, Snapshot
from launchpad.settings import SnapshotSettings
from launchpad.web.views.snapshots import past_of
from support.snapshots import Clock, CopiedSnapshots

from .pages_client import Page, Person, Portal, open_portal

NOW = datetime(2126, 11, 26, 15, 30, tzinfo=UTC)  # a Tuesday; httpx drops cookies that expire before its own clock


class Time:
    """Ada's files and snapshots, and her browser."""

    def __init__(self, portal: Portal, person: Person, snapshots: CopiedSnapshots, clock: Clock) -> None:
        self.portal, self.person, self.snapshots, self.clock = portal, person, snapshots, clock
        self.home = portal.homes.path_of("ada")
        self.uid = self.home.stat().st_uid

    def put(self, path: str, content: bytes) -> Path:
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        for one in (file, *(one for one in file.parents if one.is_relative_to(self.home))):
            os.chown(one, self.uid, self.uid)
        return file

    async def take(self, cause: Cause = Cause.TIME) -> str:
        self.clock.forward(hours=1)
        made = await self.snapshots.take("ada", self.uid, cause)
        assert made is not None
        return made.name

    async def act(self, do: str, *paths: str, at: str) -> Page:
        page = await self.person.get(at)
        form = page.form("/files/restore")
        headers = {"Origin": self.portal.url, "Referer": self.portal.url + at}
        fields: dict[str, Any] = {**form.fields, "do": do, "entry": list(paths)}
        return Page(await self.person.http.post(form.action, data=fields, headers=headers))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def time(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Time]:
    folder, clock = tmp_path_factory.mktemp("past"), Clock(NOW)
    snapshots = CopiedSnapshots(folder / "homes", SnapshotSettings(), clock)
    async with open_portal(folder, now=clock, snapshots=snapshots) as portal:
        person = await portal.signed_in("ada@example.org")
        assert (await person.get("/files")).status == 200  # makes the home
        yield Time(portal, person, snapshots, clock)


def listed(page: Page) -> list[str]:
    return [str(one.attributes["data-name"]) for one in page.elements if "data-entry" in one.attributes]


def hrefs(page: Page) -> list[str]:
    return [str(one.attributes["href"]) for one in page.elements if one.tag == "a" and "href" in one.attributes]


@pytest.mark.root  # files are their owners'
async def test_a_folder_as_it_was_is_looked_at_and_restored_from(time: Time) -> None:
    assert "As it was" not in (await time.person.get("/files")).words, "nothing to choose"
    time.put("work/data.csv", b"a,b\n1,2\n")
    time.put("work/old/notes.txt", b"notes")
    name = await time.take()
    time.put("work/data.csv", b"broken")
    (time.home / "work/later.txt").write_bytes(b"x")
    (time.home / "work/old/notes.txt").unlink()
    (time.home / "work/old").rmdir()
    page = await time.person.get("/files?path=work")
    assert listed(page) == ["data.csv", "later.txt"]
    assert "Today, 16:30" in page.words
    assert any(one.tag == "option" and one.attributes.get("value") == name for one in page.elements)
    # As the form of the choice asks for it.
    at = f"/files?in=work&snapshot={name}"
    then = await time.person.get(at)
    assert listed(then) == ["old", "data.csv"]
    assert "As it was: Today, 16:30 UTC" in then.words
    assert "Upload" not in [one.text.strip() for one in then.elements if one.tag == "button"]
    assert not [one for one in then.elements if one.tag == "form" and one.attributes.get("action") == "/files/act"]
    inside = [href for href in hrefs(then) if href.startswith(("/files?path", "/files/item"))]
    assert [href for href in inside if f"snapshot={name}" not in href] == ["/files?path=work"], (
        "only Back to now leaves"
    )
    item = await time.person.get(f"/files/item?path=work/data.csv&snapshot={name}")
    assert "Restore in place" in item.words
    assert f"/api/v1/home/files?path=work/data.csv&snapshot={name}" in hrefs(item)
    assert [one.text.strip() for one in item.elements if one.tag == "td"] == ["1", "2"], "the preview as it was then"
    told = await time.act("beside", "work/data.csv", "work/old", at=f"/files?path=work&snapshot={name}")
    assert "restored" in told.words
    assert (time.home / "work/data (2126-11-26 16.30).csv").read_bytes() == b"a,b\n1,2\n"
    assert (time.home / "work/old (2126-11-26 16.30)/notes.txt").read_bytes() == b"notes"
    told = await time.act("in-place", "work/data.csv", at=f"/files?path=work&snapshot={name}")
    assert "What was there before is in the Trash" in told.words
    assert (time.home / "work/data.csv").read_bytes() == b"a,b\n1,2\n"
    told = await time.act("in-place", "work/old", "never", at=f"/files?path=work&snapshot={name}")
    assert "“old” restored." in told.words
    assert "“never”: There is no file" in told.words
    assert (time.home / "work/old/notes.txt").read_bytes() == b"notes"


@pytest.mark.root  # files are their owners'
async def test_what_was_not_there_then_and_snapshots_that_are_gone_are_told(time: Time) -> None:
    time.put("a", b"1")
    name = await time.take(Cause.BEFORE)
    time.put("new/b", b"2")
    page = await time.person.get(f"/files?path=new&snapshot={name}")
    assert "This folder did not exist then" in page.words
    assert "before a change by an administrator" in page.words
    assert (await time.person.get("/files?path=&snapshot=20200101T000000Z")).status == 404
    assert (await time.person.get("/files/item?path=a&snapshot=20200101T000000Z")).status == 404
    found = await time.person.get(f"/files?name=a&snapshot={name}")
    assert "a" in listed(found)
    for do, paths in (("beside", []), ("erase", ["a"])):
        told = await time.act(do, *paths, at=f"/files?snapshot={name}")
        assert "first" in told.words or "Choose what to do" in told.words
    response = await time.act("download", "a", at=f"/files?snapshot={name}")
    assert response.status == 200
    assert (time.home / "a").read_bytes() == b"1"


@pytest.mark.root  # files are their owners'
async def test_while_snapshots_cannot_be_listed_the_files_are_there(
    time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    time.put("b", b"1")
    monkeypatch.setattr(time.snapshots, "is_away", True)
    page = await time.person.get("/files")
    assert "b" in listed(page)
    assert "No earlier versions of files: Nobody answers." in page.words


@pytest.mark.root  # files are their owners'
async def test_where_none_are_kept_the_page_says_why(tmp_path: Path) -> None:
    async with open_portal(tmp_path) as portal:
        person = await portal.signed_in("ada@example.org")
        page = await person.get("/files")
        assert "No earlier versions of files: Home folders are plain directories on this server" in page.words


def test_moments_are_told_by_days_in_the_readers_time() -> None:
    zone = datetime.now(UTC).astimezone(UTC).tzinfo
    assert zone is not None
    now = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
    found = [Snapshot(now - timedelta(hours=hours)) for hours in (1, 13, 25, 50)]
    found.insert(1, Snapshot(now - timedelta(hours=2), Cause.BEFORE))
    past = past_of(found, now, zone, chosen=found[1].name)
    assert [(day.title, [one.text for one in day.choices]) for day in past.days] == [
        ("Today", ["11:00", "10:00, before a change by an administrator"]),
        ("Yesterday", ["23:00", "11:00"]),
        ("Wednesday 31 December 2025", ["10:00"]),
    ]
    assert past.chosen is not None
    assert past.chosen.said == "Today, 10:00 UTC, before a change by an administrator"
    assert past_of(found, now, zone, chosen="20200101T000000Z").chosen is None
