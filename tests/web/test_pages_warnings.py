"""Times in the reader's own zone, announcements on every page, and what pages say in an instance's last hour."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from web.pages_client import ADMIN, Person, Portal, SetClock, open_portal

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


@pytest.fixture
def own_clock() -> SetClock:
    return SetClock(NOW)


@pytest.fixture
async def portal(tmp_path: Path, own_clock: SetClock) -> AsyncIterator[Portal]:
    settings = {"sign_in": {"login_hours": 100, "login_idle_hours": 100}}
    async with open_portal(tmp_path, settings, now=own_clock) as portal:
        yield portal


async def csrf(person: Person) -> dict[str, str]:
    me = (await person.http.get("/api/v1/me", headers={"Accept": "application/json"})).json()
    return {"X-CSRF-Token": me["csrf_token"]}


@pytest.mark.slow
async def test_the_browsers_zone_is_taken_once_and_the_owners_choice_stays(portal: Portal) -> None:
    ada = await portal.signed_in("ada@example.org")
    page = await ada.get("/dashboard")
    assert 'data-time-zone="ask"' in page.response.text
    guess = {"time_zone": "Asia/Singapore", "only_if_unknown": True}
    told = await ada.http.patch("/api/v1/me", json=guess, headers=await csrf(ada))
    assert told.json()["time_zone"] == "Asia/Singapore"
    page = await ada.get("/account")
    assert 'data-time-zone="Asia/Singapore"' in page.response.text
    chosen = await ada.send(page.form("/account/time-zone"), time_zone="Europe/Berlin")
    assert "Times are shown in Europe/Berlin now" in chosen.words
    again = await ada.http.patch("/api/v1/me", json=guess, headers=await csrf(ada))
    assert again.json()["time_zone"] == "Europe/Berlin", "a guess changes no choice"
    refused = await ada.http.patch("/api/v1/me", json={"time_zone": "Mars/Base"}, headers=await csrf(ada))
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "time_zone"
    wrong = await ada.send((await ada.get("/account")).form("/account/time-zone"), time_zone="../etc/passwd")
    assert "This server knows no such time zone" in wrong.words


@pytest.mark.slow
async def test_pages_tell_ends_and_reasons_in_the_readers_zone(portal: Portal, own_clock: SetClock) -> None:
    ada, bob = await portal.signed_in("ada@example.org"), await portal.signed_in("bob@example.org")
    await ada.send((await ada.get("/account")).form("/account/time-zone"), time_zone="Asia/Singapore")
    for person, end in ((ada, "Tue 3 Mar, 17:30 UTC+8"), (bob, "Tue 3 Mar, 09:30 UTC")):
        await person.running()
        assert end in (await person.get("/dashboard")).words
    own_clock.now = NOW + timedelta(days=1)
    await portal.platform.sweep.sweep(own_clock.now)
    await portal.platform.runner.wait()
    for person, reason in (
        (ada, "Expired on 3 March 2026 at 17:30 UTC+8"),
        (bob, "Expired on 3 March 2026 at 09:30 UTC"),
    ):
        assert reason in (await person.get("/dashboard")).words


@pytest.mark.slow  # waits for a clock
async def test_the_last_hour_is_told_on_the_page_and_in_the_tab(portal: Portal, own_clock: SetClock) -> None:
    ada = await portal.signed_in("ada@example.org")
    instance = await ada.running()
    title = "<title>JupyterLab running"
    page = await ada.get("/dashboard")
    assert title in page.response.text
    assert "Ends soon" not in page.words
    own_clock.now = instance.expires_at - timedelta(minutes=42)
    page = await ada.get("/dashboard")
    assert "<title>JupyterLab ends: 42 min left" in page.response.text
    assert "Ends soon: Tue 3 Mar, 09:30 UTC ( 42 min left)." in page.words
    extend = page.form(f"/instances/{instance.id}/extend")
    page = await ada.send(extend, days="1")
    assert title in page.response.text


@pytest.mark.slow
async def test_an_announcement_is_on_every_page_until_it_is_over(portal: Portal, own_clock: SetClock) -> None:
    admin, ada = await portal.signed_in(ADMIN), await portal.signed_in("ada@example.org")
    nobody = portal.person("x@y.org")
    await admin.send((await admin.get("/account")).form("/account/time-zone"), time_zone="Asia/Singapore")
    form = (await admin.get("/admin/announcements")).form("/admin/announcements")
    refused = await admin.send(form, text="New disks", stop_instances_at="2026-03-02T17:00")
    assert "This moment has passed" in refused.words, "17:00 there was half an hour ago"
    assert refused.by_id("text").attributes["value"] == "New disks"
    page = await admin.send(form, text="New disks", stop_instances_at="2026-03-02T19:00")
    assert "Announced." in page.words
    assert "instances stop on Mon 2 Mar, 19:00 UTC+8" in page.words
    for person, path, when in (
        (ada, "/dashboard", "Mon 2 Mar, 11:00 UTC"),
        (ada, "/account", "Mon 2 Mar, 11:00 UTC"),
        (admin, "/admin", "Mon 2 Mar, 19:00 UTC+8"),
        (nobody, "/sign-in", "Mon 2 Mar, 11:00 UTC"),
    ):
        assert (await person.get(path)).text_of("announcements") == f"New disks All instances stop on {when}."
    shown = (await ada.http.get("/api/v1/announcements")).json()
    assert [(one["text"], one["stop_instances_at"], one["until"]) for one in shown] == [
        ("New disks", "2026-03-02T11:00:00Z", "2026-03-02T13:00:00Z")
    ]
    own_clock.now = NOW + timedelta(hours=2)
    launched = await ada.launch("jupyterlab")
    assert "because of maintenance: New disks" in launched.words
    own_clock.now = NOW + timedelta(hours=4)
    assert (await ada.get("/dashboard")).text_of("announcements") == ""
    assert (await ada.launch("jupyterlab")).status == 200


async def test_announcements_by_the_api(portal: Portal) -> None:
    admin, ada = await portal.signed_in(ADMIN), await portal.signed_in("ada@example.org")
    headers = {**await csrf(admin), "Accept": "application/json"}
    later = (NOW + timedelta(days=1)).isoformat()
    body = {"text": "A new image", "from": later, "until": None, "stop_instances_at": None}
    made = await admin.http.post("/api/v1/admin/announcements", json=body, headers=headers)
    assert made.status_code == 201, made.text
    assert made.json()["from"] == "2026-03-03T09:30:00Z"
    assert (await ada.http.get("/api/v1/announcements")).json() == [], "not yet"
    assert len((await admin.http.get("/api/v1/announcements")).json()) == 1
    wrong = await admin.http.post("/api/v1/admin/announcements", json={"text": " "}, headers=headers)
    assert wrong.status_code == 422
    gone = await admin.http.delete(f"/api/v1/admin/announcements/{made.json()['id']}", headers=headers)
    assert gone.status_code == 204
    again = await admin.http.delete(f"/api/v1/admin/announcements/{made.json()['id']}", headers=headers)
    assert again.status_code == 404
    assert (await admin.http.get("/api/v1/announcements")).json() == []
    actions = [record.action for record in await portal.platform.audit.page(limit=10, search="announcement")]
    assert actions == ["announcement.withdrawn", "announcement.made"]
