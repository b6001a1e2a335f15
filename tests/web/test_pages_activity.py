"""What a card, the API and the metrics tell of what goes on in an instance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from launchpad.domain.activity import Program
from launchpad.domain.instances import Instance
from launchpad.domain.usage import ContainerActivity, Usage
from web.pages_client import Person, Portal, SetClock, open_portal

MB = 1024**2
IDLE = ContainerActivity(Usage(100 * MB, 5.0, 7), 300 * MB)


TOKEN = "a-token-for-metrics-of-32-letters"


@pytest.fixture
def clock() -> SetClock:
    """At the beginning of a minute."""
    return SetClock(datetime.now(UTC).replace(second=0, microsecond=0))


@pytest.fixture
async def portal(tmp_path: Path, clock: SetClock) -> AsyncIterator[Portal]:
    """Its own looks come a minute apart; the tests look meanwhile."""
    settings = {"activity": {"sample_seconds": 60}, "web": {"metrics_token": TOKEN}}
    async with open_portal(tmp_path, settings, now=clock) as portal:
        yield portal


async def running(portal: Portal, person: Person) -> Instance:
    instance = await person.running()
    portal.runtime.activities[instance.id] = IDLE
    return instance


async def look(portal: Portal, clock: SetClock, instance: Instance, seconds: float, cores: float = 0.0) -> None:
    """Time goes by, in which it uses these cores, and the platform looks."""
    before = portal.runtime.activities[instance.id]
    usage = replace(before.usage, cpu_seconds=before.usage.cpu_seconds + cores * seconds)
    programs = (Program("STAR <b>", cores, MB),) if cores else ()
    portal.runtime.activities[instance.id] = replace(before, usage=usage, programs=programs)
    clock.now += timedelta(seconds=seconds)
    await portal.platform.activity.sample(clock.now)


@pytest.mark.slow
async def test_a_card_says_what_its_instance_does(portal: Portal, clock: SetClock) -> None:
    person = await portal.signed_in("ada@example.org")
    instance = await running(portal, person)
    assert "Idle" not in (await person.get("/dashboard")).text_of("instances"), "nobody has looked yet"
    await look(portal, clock, instance, 0)
    assert "In use" in (await person.get("/dashboard")).text_of("instances")
    await look(portal, clock, instance, 30, cores=11)
    page = await person.get("/dashboard")
    assert "Working: STAR <b>, 11 cores" in page.text_of("instances")
    assert "STAR <b>" not in page.response.text
    await look(portal, clock, instance, 3 * 3600)
    assert "Idle for 3 h" in (await person.get("/dashboard")).text_of("instances")


@pytest.mark.slow
async def test_its_curves_stand_there_as_a_table_too(portal: Portal, clock: SetClock) -> None:
    person = await portal.signed_in("ada@example.org")
    instance = await running(portal, person)
    for _ in range(20):
        await look(portal, clock, instance, 60, cores=2)
    page = await person.get("/dashboard")
    text = page.text_of(f"activity-{instance.id}")
    for words in ("Last hour", "Last day", "CPU", "Memory", "Disk", "2 cores", "100 MB"):
        assert words in text
    assert text.count("2 cores") >= 6, "a line of the table for each five minutes, besides the curve's own numbers"
    assert 'class="plot-line" d="M' in page.response.text
    assert "style=" not in page.response.text.partition(f'id="activity-{instance.id}"')[2].partition("</article>")[0]


@pytest.mark.slow
async def test_the_api_tells_points_programs_and_evidence(portal: Portal, clock: SetClock) -> None:
    person = await portal.signed_in("ada@example.org")
    instance = await running(portal, person)
    for _ in range(5):
        await look(portal, clock, instance, 60, cores=2)
    answer = (await person.http.get(f"/api/v1/instances/{instance.id}/activity")).json()
    assert answer["step_seconds"] == 60
    assert len(answer["points"]) >= 4
    last = answer["points"][-1]
    assert (last["cpu_cores"], last["pids"], last["working"]) == (2.0, 7, True)
    assert (last["memory_bytes"], last["memory_without_cache_bytes"]) == (300 * MB, 100 * MB)
    assert answer["busy"] == [{"name": "STAR <b>", "cpu_cores": 2.0, "memory_bytes": MB}]
    assert (answer["verdict"], answer["evidence"]) == ("working", "STAR <b>, 2 cores")
    since = (clock.now - timedelta(minutes=2)).isoformat().replace("+00:00", "Z")
    few = (await person.http.get(f"/api/v1/instances/{instance.id}/activity?since={since}&step=60")).json()
    assert len(few["points"]) == 2
    for wrong in ("step=61", "since=yesterday", "since=2020-01-01T00:00:00Z"):
        refused = await person.http.get(f"/api/v1/instances/{instance.id}/activity?{wrong}")
        assert refused.status_code == 422, wrong


async def metrics(person: Person) -> str:
    answer = await person.http.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    return answer.text


@pytest.mark.slow
async def test_metrics_tell_how_old_the_newest_look_is(portal: Portal, clock: SetClock) -> None:
    person = await portal.signed_in("ada@example.org")
    instance = await running(portal, person)
    await look(portal, clock, instance, 0)
    await look(portal, clock, instance, 30, cores=1)
    clock.now += timedelta(seconds=90)
    told = await metrics(person)
    assert "launchpad_activity_age_seconds 90.0" in told
    assert 'launchpad_activity_instances{verdict="working"} 1.0' in told
    assert 'launchpad_activity_instances{verdict="idle"} 0.0' in told
