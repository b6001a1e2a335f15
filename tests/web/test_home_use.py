"""What homes take up, by the API, on the page Storage, on the command line, in doctor's line, metrics and mails."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from launchpad.mail.smtp import SmtpMailer
from launchpad.ops.doctor import Level
from launchpad.ops.doctor.storage import storage
from launchpad.services.audit import CLI
from launchpad.services.users import UserChange
from launchpad.settings import MailSettings
from launchpad.storage.base import HomeUse
from launchpad.store import home_history, home_use
from launchpad.web.metrics import measured
from support.smtp import MailServer, text_of
from web.pages_client import ADMIN, Person, Portal, open_portal

GB = 1024**3
PEOPLE = {"ada": ("Genomics", 91), "bob": ("Genomics", 99), "cat": ("Physics", 30), "dan": (None, 10)}


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    """Homes of 100 GB; Ada's grows by 12 GB a month, and so does the disk of a terabyte, by 100."""
    async with open_portal(tmp_path) as portal:
        await fill(portal)
        yield portal


async def fill(portal: Portal) -> None:
    platform, now = portal.platform, portal.platform.now()
    for name, (lab, _) in PEOPLE.items():
        await portal.signed_in(f"{name}@example.org")
        user = await platform.users.by_email(f"{name}@example.org")
        await platform.users.change(user.id, UserChange(lab=lab), CLI, now)
        if name == "ada":
            ada = user
    points = {8: (88, 70), 31: (79, 0)}
    async with platform.database.transaction() as db:
        for days, (hers, disks) in points.items():
            held = {ada.id: hers * GB, home_use.DISK: disks * GB}
            await home_history.put(db, (now - timedelta(days=days)).date(), held)
    for name, (_, gigabytes) in PEOPLE.items():
        portal.homes.uses[name] = HomeUse(gigabytes * GB, 100 * GB, 900 * GB)
    await platform.home_use._keep_disk(now)
    await portal.measure_homes()


async def get(person: Person, path: str, status: int = 200) -> Any:
    answer = await person.http.get(f"/api/v1{path}", headers={"Accept": "application/json"})
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_everybody_is_told_of_their_own_home(portal: Portal) -> None:
    ada = portal.people[0]
    me = await get(ada, "/me")
    assert set(me["home"]) == {"used_bytes", "limit_bytes", "measured_at"}
    assert (me["home"]["used_bytes"], me["home"]["limit_bytes"]) == (91 * GB, 100 * GB)
    home = await get(ada, "/home")
    assert {name: home[name] for name in me["home"]} == me["home"]
    assert home["snapshots"] == []
    assert (home["grown_7_days_bytes"], home["grown_30_days_bytes"]) == (3 * GB, 12 * GB)
    assert home["full_in_days"] == 22.5
    eve = await portal.signed_in("eve@example.org")
    assert (await get(eve, "/home"))["used_bytes"] is None
    assert (await get(eve, "/me"))["home"] == {"used_bytes": None, "limit_bytes": None, "measured_at": None}


async def test_the_dashboard_foretells_honestly(portal: Portal) -> None:
    side = (await portal.people[0].get("/dashboard")).text_of("side")
    assert "+12 GB in the last 30 days, full in about 3 weeks at this rate" in side
    assert "Nearly full: 9 GB left" in side
    assert "in the last" not in (await portal.people[2].get("/dashboard")).text_of("side")


async def test_administrators_get_every_home_in_an_order_page_by_page(portal: Portal) -> None:
    admin = await portal.signed_in(ADMIN)
    first = await admin.http.get("/api/v1/admin/homes?sort=share&limit=2")
    assert [one["email"] for one in first.json()] == ["bob@example.org", "ada@example.org"]
    following = await admin.http.get("/api/v1/admin/homes?sort=share&limit=2&cursor=" + first.headers["X-Next-Cursor"])
    assert [one["email"] for one in following.json()] == ["cat@example.org", "dan@example.org"]
    grown = await get(admin, "/admin/homes?sort=month&limit=1")
    assert [(one["email"], one["grown_30_days_bytes"]) for one in grown] == [("ada@example.org", 12 * GB)]
    assert [one["email"] for one in await get(admin, "/admin/homes?search=physics")] == ["cat@example.org"]
    labs = await get(admin, "/admin/homes/labs")
    assert [(one["lab"], one["people"], one["used_bytes"] // GB) for one in labs] == [
        ("Genomics", 2, 190),
        ("Physics", 1, 30),
        (None, 2, 10),
    ]
    disk = await get(admin, "/admin/homes/disk")
    assert (disk["size_bytes"], disk["used_bytes"], disk["free_bytes"]) == (1000 * GB, 100 * GB, 900 * GB)
    assert disk["grown_30_days_bytes"] == 100 * GB
    for cursor in ("x", "1~", "9" * 30 + "~u", "~~", "1.5~u"):
        assert (await get(admin, f"/admin/homes?cursor={cursor}", 422))["code"]
    await get(admin, "/admin/homes?sort=nothing", 422)


async def test_the_page_storage_shows_who_fills_the_disk(portal: Portal) -> None:
    admin = await portal.signed_in(ADMIN)
    page = await admin.get("/admin/storage")
    disk = page.text_of("disk")
    assert "Used on the disk with home folders 100 GB of 1000 GB, 900 GB free" in disk
    assert "+100 GB in the last 30 days" in disk
    assert "1 full, 1 nearly full, 2 with room" in disk
    labs = page.text_of("labs")
    assert labs.index("Genomics") < labs.index("Physics") < labs.index("No lab")
    assert "19 % of the disk" in labs
    rows = page.text_of("results")
    assert rows.index("bob@") < rows.index("ada@") < rows.index("cat@") < rows.index("dan@")
    assert "Full" in rows[rows.index("bob@") : rows.index("ada@")]
    assert "Nearly full 91 % of 100 GB" in rows
    chosen = [one.text.strip() for one in page.elements if one.attributes.get("aria-sort")]
    assert chosen == ["Used"]
    by_mail = (await admin.get("/admin/storage?sort=email")).text_of("results")
    assert by_mail.index("ada@") < by_mail.index("bob@") < by_mail.index("cat@")
    found = await admin.get("/admin/storage?q=physics&sort=month")
    assert "cat@" in found.words
    assert "ada@" not in found.words
    assert not found.has("labs")
    assert (await admin.get("/admin/storage?after=nowhere")).status == 422


async def test_doctor_says_when_the_disk_will_be_full(portal: Portal) -> None:
    platform, now = portal.platform, portal.platform.now()
    (finding,) = await storage("storage", platform.database)
    assert finding.level is Level.OK
    assert "Home folders take up 230 GB; 1 full, 1 nearly full. Disk: 900 GB free, +100 GB" in finding.text
    for used, level in ((850, Level.WARN), (970, Level.BAD)):
        async with platform.database.transaction() as db:
            for days, before in ((8, 25), (31, 100)):
                day = (now - timedelta(days=days)).date()
                await home_history.put(db, day, {home_use.DISK: (used - before) * GB})
        portal.homes.disk_used_bytes = used * GB
        await platform.home_use._keep_disk(platform.now())
        (finding,) = await storage("storage", platform.database)
        assert finding.level is level
        assert "full in about" in finding.text
        assert "launchpad home usage" in finding.remedy


async def test_metrics_count_homes_without_naming_them(portal: Portal) -> None:
    text = (await measured(portal.platform)).decode()
    for line in (
        'launchpad_homes{state="full"} 1.0',
        'launchpad_homes{state="nearly"} 1.0',
        'launchpad_homes{state="room"} 2.0',
    ):
        assert line in text
    (used,) = [line.split()[1] for line in text.splitlines() if line.startswith("launchpad_homes_bytes ")]
    assert float(used) == 230 * GB
    assert "launchpad_homes_disk_free_bytes" in text
    assert "ada" not in text


async def test_the_command_shows_the_same(portal: Portal) -> None:
    folder = portal.platform.settings.state_dir
    env = {**os.environ, "LAUNCHPAD_STATE_DIR": str(folder), "LAUNCHPAD_ENGINE__RUNTIME": "fake"}

    async def said(*arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "launchpad", "home", "usage", *arguments), stdout=PIPE, stderr=PIPE, env=env
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()

    table, labs, answer = await asyncio.gather(said("--sort", "share"), said("--by-lab"), said("--json"))
    lines = table.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == [f"{name}@example.org" for name in ("bob", "ada", "cat", "dan")]
    assert "Disk: 900 GB of 1000 GB free, +100 GB in the last 30 days" in lines[-1]
    assert labs.splitlines()[1].split()[:2] == ["Genomics", "2"]
    shown = json.loads(answer)
    assert shown["disk"]["free_bytes"] == 900 * GB
    assert [one["email"] for one in shown["homes"]][:2] == ["bob@example.org", "ada@example.org"]


async def test_the_warning_arrives_by_smtp(tmp_path: Path) -> None:
    server = MailServer()
    server.start()
    try:
        settings = MailSettings(host="127.0.0.1", port=server.port, security="none", from_address="lab@example.org")
        async with open_portal(tmp_path, letters=SmtpMailer(settings)) as portal:  # type: ignore[arg-type]
            await fill(portal)
            for _ in range(2):
                await portal.measure_homes()
            await portal.platform.mail.drain()
        subjects = {name: [str(mail["Subject"]) for mail in server.mails_to(f"{name}@example.org")] for name in PEOPLE}
        assert [len(subjects[name]) for name in PEOPLE] == [1, 1, 0, 0]
        assert "your home folder is nearly full" in subjects["ada"][0]
        assert "your home folder is full" in subjects["bob"][0]
        text = " ".join(text_of(server.mails_to("ada@example.org")[0]).split())
        assert "holds 91 GB of the 100 GB that it may (91 %)" in text
        assert "+12 GB in the last 30 days, full in about 3 weeks at this rate." in text
    finally:
        server.stop()
