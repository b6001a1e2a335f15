"""What owners and administrators see of the idle policy, and set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from launchpad.domain.activity import Program
from launchpad.domain.instances import Instance, State
from launchpad.domain.policy import EVERYONE, IdleAction, IdlePolicy, IdleRule, Scope
from launchpad.domain.policy_codec import policy_table
from launchpad.domain.usage import ContainerActivity, Usage
from launchpad.services.audit import Actor
from launchpad.services.extension_links import ExtensionLinks, Link
from launchpad.store import kv
from web.pages_client import ADMIN, Person, Portal, SetClock, open_portal

MB = 1024**2
IDLE = ContainerActivity(Usage(100 * MB, 5.0, 7), 300 * MB)
STEP = timedelta(minutes=3)
STOP = IdleRule(IdleAction.STOP, 60)


@pytest.fixture
def clock() -> SetClock:
    """At the beginning of a minute."""
    return SetClock(datetime.now(UTC).replace(second=0, microsecond=0))


@pytest.fixture
async def portal(tmp_path: Path, clock: SetClock) -> AsyncIterator[Portal]:
    """Its own looks come a minute apart; the tests look meanwhile."""
    settings = {"activity": {"sample_seconds": 60}, "idle": {"action": "stop", "idle_minutes": 90, "settle_minutes": 5}}
    async with open_portal(tmp_path, settings, now=clock) as portal:
        yield portal


async def running(portal: Portal, person: Person) -> Instance:
    instance = await person.running()
    portal.runtime.activities[instance.id] = IDLE
    return instance


async def look_for(
    portal: Portal, clock: SetClock, span: timedelta, instance: Instance | None = None, cores: float = 0.0
) -> None:
    """Time goes by, in which an instance uses these cores, and the platform looks."""
    until = clock.now + span
    while clock.now < until:
        if instance is not None:
            before = portal.runtime.activities[instance.id]
            usage = replace(before.usage, cpu_seconds=before.usage.cpu_seconds + cores * STEP.total_seconds())
            programs = (Program("STAR <b>", cores, MB),) if cores else ()
            portal.runtime.activities[instance.id] = replace(before, usage=usage, programs=programs)
        clock.now += STEP
        await portal.platform.activity.sample(clock.now)
        await portal.platform.idle.tend(clock.now)


@pytest.mark.slow
async def test_a_card_says_when_an_idle_instance_stops_and_its_owner_keeps_it(portal: Portal, clock: SetClock) -> None:
    person = await portal.signed_in("ada@example.org")
    instance = await running(portal, person)
    await look_for(portal, clock, STEP)
    idle_since = clock.now
    assert "In use" in (await person.get("/dashboard")).text_of("instances")
    await look_for(portal, clock, 8 * STEP)
    page = await person.get("/dashboard")
    end = idle_since + timedelta(minutes=90)
    assert f", stops {end:%a %-d %b, %H:%M} UTC unless used" in page.text_of("instances")
    assert "It has not been used" not in page.text_of("instances"), "more than half of the time is left"
    await look_for(portal, clock, 8 * STEP)
    page = await person.get("/dashboard")
    assert "unless you use it" in page.text_of("instances")
    assert "JupyterLab idle, stops: 42 min left" in page.response.text
    told = (await person.http.get(f"/api/v1/instances/{instance.id}")).json()["idle"]
    assert datetime.fromisoformat(told["ends_at"]) == end
    assert told["action"] == "stop"
    admin = await portal.signed_in(ADMIN)
    assert (await admin.http.get("/api/v1/admin/instances")).json()[0]["idle"] == told

    page = await person.send(page.form(f"/instances/{instance.id}/keep"), hours="8")
    until = clock.now + timedelta(hours=8)
    assert f"is kept running until {until:%a %-d %b, %H:%M}" in page.text_of("flash")
    assert f"kept running until {until:%a %-d %b, %H:%M} UTC" in page.text_of(f"activity-{instance.id}")
    assert "unless you use it" not in page.text_of("instances")
    page = await person.send(page.form(f"/instances/{instance.id}/keep"), hours="0")
    assert "kept running until" not in page.text_of("instances")
    log = await person.get(f"/instances/{instance.id}/log")
    assert "To be kept running until" in log.text_of("decisions")


@pytest.mark.slow
async def test_the_page_behind_a_link_says_what_becomes_of_it(portal: Portal, clock: SetClock) -> None:
    """A kept one is not said to run to its expiry, and a frozen one not to have been extended."""
    await portal.platform.idle_policy.set_rule(EVERYONE, IdleRule(IdleAction.FREEZE, 90), Actor("test"), clock.now)
    person = await portal.signed_in("ada@example.org")
    instance = await running(portal, person)
    links = ExtensionLinks(portal.platform.state.key("extension-links"), "")

    def path() -> str:
        end = portal.platform.idle.idle_ends()[instance.id].ends_at
        return links.url(Link(instance.id, instance.expires_at, end))

    await look_for(portal, clock, 10 * STEP)
    link = path()
    form = (await person.get(link)).form(link)
    proof = portal.platform.extensions._links.shown(
        link.rpartition("/")[2], form.fields["mark"], clock.now + timedelta(seconds=5)
    )
    assert proof is not None
    clock.now += timedelta(seconds=5)
    page = await person.send(form, held=proof.proof)
    assert "It has its whole idle time again, and ends at the latest on" in page.words
    await look_for(portal, clock, 10 * STEP)
    link = path()
    form = (await person.get(link)).form(link)
    await look_for(portal, clock, 30 * STEP)
    page = await person.get(link)
    assert "is frozen Open it from the dashboard, and it continues where it was." in page.words
    page = await person.send(form, number="1")
    assert "is frozen" in page.words


@pytest.mark.slow
async def test_an_end_is_explained_to_owner_and_administrator_and_to_nobody_else(
    portal: Portal, clock: SetClock
) -> None:
    ada, bob = await portal.signed_in("ada@example.org"), await portal.signed_in("bob@example.org")
    instance = await running(portal, ada)
    await look_for(portal, clock, timedelta(minutes=100))
    admin = await portal.signed_in(ADMIN)
    await portal.platform.runner.wait(instance.id)
    assert (await portal.platform.instances.get_any(instance.id)).state is State.STOPPED
    assert "no person and no work" in (await ada.get("/dashboard")).text_of("ended")
    for who, path in ((ada, f"/instances/{instance.id}/log"), (admin, f"/admin/instances/{instance.id}/log")):
        said = (await who.get(path)).text_of("decisions")
        for words in ("Stopped", "No person and no work", "Rule: stopped after 90 minutes (everyone)"):
            assert words in said
    assert "of ada@example.org" in (await admin.get("/admin/policies")).text_of("decisions")
    path = f"/api/v1/instances/{instance.id}/idle-decisions"
    [decision] = (await ada.http.get(path)).json()
    assert (decision["verdict"], decision["why"]) == ("stop", "idle")
    assert (await bob.http.get(path)).status_code == 404
    [as_admin] = (await admin.http.get("/api/v1/admin/idle-decisions")).json()
    assert as_admin == {**decision, "owner_id": instance.owner_id, "owner": "ada@example.org"}


@pytest.mark.slow
async def test_a_card_says_what_keeps_an_instance_in_which_nobody_is(portal: Portal, clock: SetClock) -> None:
    person = await portal.signed_in("ada@example.org")
    instance = await running(portal, person)
    await look_for(portal, clock, STEP, instance, cores=11)
    portal.platform.activity.note_person(instance.id, clock.now)
    await look_for(portal, clock, STEP, instance, cores=11)
    assert "Working: STAR <b>, 11 cores" in (await person.get("/dashboard")).text_of("instances")
    await look_for(portal, clock, 3 * STEP, instance, cores=11)
    page = await person.get("/dashboard")
    assert "Kept running: STAR <b>, 11 cores" in page.text_of("instances")
    assert "stops" not in page.text_of(f"activity-{instance.id}")


@pytest.mark.slow
async def test_where_no_rule_applies_nothing_is_said_of_one(portal: Portal, clock: SetClock) -> None:
    person = await portal.signed_in("ada@example.org")
    instance = await running(portal, person)
    await portal.platform.idle_policy.set_rule(EVERYONE, IdleRule(), Actor("test"), clock.now)
    await look_for(portal, clock, 9 * STEP)
    page = await person.get("/dashboard")
    assert "Idle for" in page.text_of("instances")
    assert "unless used" not in page.text_of("instances")
    assert f"/instances/{instance.id}/keep" not in page.response.text


@pytest.mark.slow
async def test_rules_are_set_changed_and_removed_in_the_console_and_by_the_api(portal: Portal) -> None:
    admin = await portal.signed_in(ADMIN)
    policies = portal.platform.idle_policy
    page = await admin.get("/admin/policies")
    new = next(form for form in page.forms if form.fields.get("new"))
    page = await admin.send(new, environment="rstudio", lab=" Genomics ", action="freeze", idle_minutes="60")
    scope = Scope(environment="rstudio", lab="Genomics")
    assert (await policies.policy()).rules == {scope: IdleRule(IdleAction.FREEZE, 60)}
    assert "RStudio of lab Genomics" in page.text_of("rules")

    refused = await admin.send(new, user="ada", idle_minutes="many")
    assert "whole number" in refused.text_of("rules")
    refused = await admin.send(new, environment="", action="stop", idle_minutes="60")
    assert "Name an environment, a lab or a person" in refused.text_of("rules")

    theirs = next(form for form in page.forms if form.fields.get("lab") == "Genomics")
    await admin.send(theirs, action="stop", idle_minutes="120")
    assert (await policies.policy()).rules == {scope: IdleRule(IdleAction.STOP, 120)}
    await admin.send(theirs, action="remove")
    everyone = next(form for form in page.forms if form.fields.get("lab") == "" and not form.fields.get("new"))
    await admin.send(everyone, action="none")
    assert await policies.policy() == IdlePolicy(IdleRule(IdleAction.NONE, 90))

    token = (await admin.http.get("/api/v1/me")).json()["csrf_token"]
    body = {
        "everyone": {"action": "none"},
        "rules": [{"user": "Ada@Example.org", "action": "stop", "idle_minutes": 30}],
    }
    headers = {"X-CSRF-Token": token}
    answer = await admin.http.put("/api/v1/admin/policies", json=body, headers=headers)
    assert answer.status_code == 200
    assert (await admin.http.get("/api/v1/admin/policies")).json() == answer.json()
    assert (await policies.policy()).rules == {Scope(user="ada@example.org"): IdleRule(IdleAction.STOP, 30)}
    twice = {"everyone": {"action": "stop"}, "rules": [{"lab": one, "action": "stop"} for one in ("x", " x ")]}
    refused_call = await admin.http.put("/api/v1/admin/policies", json=twice, headers=headers)
    assert refused_call.status_code == 422
    assert "two of them are about the same" in refused_call.text
    wrong = {"everyone": {"action": "stop"}, "rules": [{"environment": "x", "action": "stop"}]}
    refused_call = await admin.http.put("/api/v1/admin/policies", json=wrong, headers=headers)
    assert refused_call.status_code == 422
    assert "environment" in refused_call.text


@pytest.mark.slow
async def test_a_rule_of_an_environment_that_is_gone_says_what_is_wrong_and_can_be_removed(portal: Portal) -> None:
    admin = await portal.signed_in(ADMIN)
    gone = Scope(environment="gone")
    async with portal.platform.database.transaction() as db:
        await kv.put(db, "idle_policy", policy_table(IdlePolicy(IdleRule(), {gone: STOP})), portal.platform.now())
    page = await admin.get("/admin/policies")
    form = next(form for form in page.forms if form.fields.get("environment") == "gone")
    page = await admin.send(form, action="stop", idle_minutes="77")
    assert "This rule cannot be set: there is no environment “gone”." in page.text_of("rules")
    assert any(form.fields.get("idle_minutes") == "77" for form in page.forms), "what was typed is kept"
    page = await admin.send(form, action="remove")
    assert (await portal.platform.idle_policy.policy()).rules == {}
    page = await admin.send(form, action="remove")
    assert "There is no rule for gone of everyone." in page.text_of("rules")


@pytest.mark.parametrize("path", ["/admin/policies", "/admin/audit"])
async def test_a_page_number_that_no_record_can_have_is_refused(portal: Portal, path: str) -> None:
    admin = await portal.signed_in(ADMIN)
    assert (await admin.http.get(f"{path}?before={10**30}")).status_code == 422
