"""What a rule would have ended, in the console, by the API and on the command line: the same everywhere."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from launchpad.domain.activity import Point, Step, step_of
from launchpad.domain.history import HistoryRecord
from launchpad.domain.instances import Instance, Stage, State
from launchpad.domain.limits import Limits
from launchpad.platform import Platform
from launchpad.store import activity, instance_history
from web.pages_client import ADMIN, Person, Portal, open_portal

GB = 1024**3
IDLE, PERSON, WORK = "idle", "back", "works"
PATH = "/admin/policies/replay"


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as portal:
        await happened(portal.platform)
        yield portal


@pytest.fixture
async def admin(portal: Portal) -> Person:
    return await portal.signed_in(ADMIN)


async def happened(platform: Platform) -> None:
    """Three instances of the last day: idle to its end, left and used again, left with work that went on."""
    begin = step_of(platform.now() - timedelta(hours=20), Step.QUARTER)
    hour = 60
    for name, owner, steps in (
        (IDLE, "ada@example.org", "." * 14 * hour),
        (PERSON, "bob@example.org", "." * 8 * hour + "p" * hour + "." * hour),
        (WORK, "=eve@example.org", "." * 5 * hour + "w" * 9 * hour),
    ):
        async with platform.database.transaction() as db:
            ended_at = begin + timedelta(minutes=len(steps))
            instance = Instance(
                id=name,
                owner_id=name,
                environment="rstudio" if name == IDLE else "jupyterlab",
                state=State.STOPPED,
                stage=Stage.ENDED,
                reason="stopped by you",
                limits=Limits(8 * GB, 2.0, GB, 1),
                created_at=begin,
                expires_at=ended_at,
                started_at=begin,
                ended_at=ended_at,
            )
            await instance_history.add(db, HistoryRecord(instance, owner, "genomics"))
            await activity.add(db, Step.MINUTE, {name: points(begin, steps)})


def points(begin: datetime, steps: str) -> Sequence[Point]:
    return [
        Point(begin + timedelta(minutes=number), 0.01, 3 * GB, GB, 9, was_working=one == "w", was_used=one == "p")
        for number, one in enumerate(steps)
    ]


@pytest.mark.slow
async def test_the_page_offers_a_replay_and_shows_nothing_before_it_is_asked(admin: Person) -> None:
    page = await admin.get(PATH)
    assert page.status == 200
    assert "What an idle rule would have ended" in page.words
    assert "GB-hours" not in page.words


@pytest.mark.slow
async def test_the_page_says_what_would_have_ended_and_which_of_it_was_missed(admin: Person) -> None:
    page = await admin.get(f"{PATH}?idle=4h&days=30&action=stop")
    assert "Stopped after 4 hours, everyone" in page.words
    assert "3 of 3 instances stopped" in page.words
    assert "120 GB-hours of memory freed and 30 core-hours" in page.words
    assert "1 person would have had to launch again" in page.words
    assert "1 at work: it worked again within an hour, with nobody there" in page.words
    places = [page.words.index(owner) for owner in ("=eve@example.org", "bob@example.org", "ada@example.org")]
    assert places == sorted(places), "what was at work comes first, then who returned"
    assert "worked again after 59 min, with nobody there" in page.words
    assert "recorded only since" in page.words


@pytest.mark.slow
async def test_the_page_replays_freezing_of_an_environment(admin: Person) -> None:
    page = await admin.get(f"{PATH}?idle=90m&days=3&action=freeze&environment=rstudio&lab=genomics")
    assert "Frozen after 90 minutes, RStudio of the lab genomics" in page.words
    assert "1 of 1 instance frozen" in page.words
    assert "bob@example.org" not in page.words


@pytest.mark.slow
async def test_coarse_records_are_told(portal: Portal, admin: Person) -> None:
    page = await admin.get(f"{PATH}?idle=4h&days=30")
    assert "is known in steps" not in page.words
    begin = step_of(portal.platform.now() - timedelta(days=1), Step.QUARTER)
    async with portal.platform.database.transaction() as db:
        old = Point(begin - timedelta(days=9), 0.0, GB, GB, 9)
        await activity.add(db, Step.QUARTER, {IDLE: [old]})
    page = await admin.get(f"{PATH}?idle=4h&days=30")
    assert "activity is known in steps of 15 min: an end is shown up to 30 min late there" in page.words


@pytest.mark.slow
async def test_a_time_without_records_is_told(admin: Person) -> None:
    page = await admin.get(f"{PATH}?idle=4h&days=30&user=nobody@example.org")
    assert "Nothing was recorded of this time." in page.words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("idle=soon&days=30", "“soon” is not a time"),
        ("idle=4h&days=many", "choose from 1 to 396 days"),
        ("idle=4h&days=500", "choose from 1 to 396 days"),
        ("idle=61d&days=30", "choose from 1 minute to 60 days"),
        ("idle=99999d&days=30", "choose from 1 minute to 60 days"),
    ],
)
async def test_what_cannot_be_replayed_is_told_at_its_field(admin: Person, query: str, problem: str) -> None:
    page = await admin.get(f"{PATH}?{query}")
    assert page.status == 200
    assert problem[0].upper() + problem[1:] in page.words


@pytest.mark.slow
async def test_everything_is_to_be_had_as_a_table_without_formulas(admin: Person) -> None:
    answer = await admin.http.get(f"{PATH}/ends.csv?idle=4h&days=30")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["instance"] for row in rows] == [WORK, PERSON, IDLE]
    assert rows[0]["owner"] == "'=eve@example.org"
    assert rows[0]["was_working"] == "True"
    assert float(rows[2]["gb_hours"]) == pytest.approx(8 * 10, abs=1)


@pytest.mark.slow
async def test_the_api_says_the_same_to_programs(admin: Person) -> None:
    me = (await admin.http.get("/api/v1/me")).json()
    headers = {"X-CSRF-Token": me["csrf_token"]}
    url, body = "/api/v1/admin/policies/replay", {"idle_hours": 4, "days": 30}
    answer = await admin.http.post(url, json=body, headers=headers, params={"limit": 2})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    totals = {"ends": 3, "instances": 3, "people": 3, "working": 1, "worked_later": 0, "came_back": 1, "people_back": 1}
    assert {name: found["totals"][name] for name in totals} == totals
    assert found["instances"] == 3
    assert [(one["instance"], one["afterwards"]) for one in found["ends"]] == [(WORK, "work"), (PERSON, "person")]
    assert found["left_out"] == 1
    assert [one["step_seconds"] for one in found["resolutions"]] == [900, 60]
    table = await admin.http.post(url, json=body, headers=headers | {"Accept": "text/csv"})
    assert table.headers["content-type"].startswith("text/csv")
    assert len(list(csv.DictReader(io.StringIO(table.text)))) == 3
    for wrong in ({"days": 500}, {"idle_hours": 0}, {"action": "none"}, {"idle_days": 1}):
        assert (await admin.http.post(url, json={**body, **wrong}, headers=headers)).status_code == 422, wrong


@pytest.mark.slow
async def test_only_administrators_may_look(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    for path in (PATH, f"{PATH}/ends.csv?idle=4h"):
        assert (await person.http.get(path)).status_code in (403, 404)


@pytest.mark.slow  # three programs start
async def test_the_command_says_the_same(portal: Portal, tmp_path: Path) -> None:
    settings = portal.platform.settings
    config = tmp_path / "launchpad.toml"
    config.write_text(
        f'public_url = "{settings.public_url}"\ninstances_url = "{settings.instances_url}"\n'
        f'state_dir = "{settings.state_dir}"\nadmin_emails = ["{ADMIN}"]\n'
        f'[mail]\nhost = ""\n[homes]\nroot = "{tmp_path}"\ndriver = "plain"\n'
    )

    async def run(*arguments: str) -> str:
        command = (sys.executable, "-m", "launchpad", "policy", "replay", "--config", str(config), *arguments)
        done = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
        said, wrong = await done.communicate()
        assert done.returncode == 0, wrong.decode()
        return said.decode()

    text, found, table = await asyncio.gather(
        run("--idle", "4h", "--days", "30"),
        run("--json", "--lab", "genomics", "--environment", "rstudio"),
        run("--csv"),
    )
    assert "3 of 3 would have been stopped, 3 times in all, of 3 people" in text
    assert "1 person would have had to launch again, once" in text
    assert [one["instance"] for one in json.loads(found)["ends"]] == [IDLE]
    assert json.loads(found)["totals"]["gb_hours"] == pytest.approx(8 * 10, abs=1)
    assert len(list(csv.DictReader(io.StringIO(table)))) == 3
