"""Launching, watching and ending instances through the pages, without scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest

from launchpad.domain.admission import queue_in_words
from launchpad.domain.instances import Stage, State
from launchpad.domain.limits import Quota
from launchpad.services.audit import CLI
from launchpad.services.users import UserChange
from web.pages_client import ADMIN, INSTANCES_URL, Form, Portal, open_portal

GB = 1024**3
PATIENCE_SECONDS = 20


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as portal:
        yield portal


async def test_an_empty_dashboard_teaches_and_offers_every_environment_with_its_defaults(portal: Portal) -> None:
    page = await (await portal.signed_in("ada@example.org")).get("/dashboard")
    assert "Nothing is running" in page.text_of("instances")
    for environment in ("rstudio", "jupyterlab"):
        form = page.form("/instances", environment=environment)
        assert (form.fields["memory"], form.fields["cpus"], form.fields["days"]) == ("2g", "1", "1")
    assert "/home/ada" in page.words
    assert "0 of 2" in page.words


@pytest.mark.slow
async def test_a_launch_shows_its_stages_and_then_the_way_in(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    portal.runtime.hold_starts()
    page = await person.launch("jupyterlab", memory="4g", days="2")
    assert page.path.startswith("/dashboard")
    assert "Starting" in page.text_of("instances")
    assert "Memory 4 GB" in page.text_of("instances")
    instance = (await person.instances())[0]
    assert instance.limits.days == 2
    waiting = await person.get(f"/instances/{instance.id}/open")
    assert "JupyterLab is starting" in waiting.words
    assert 'http-equiv="refresh"' in waiting.response.text
    portal.runtime.release_starts()
    await portal.platform.runner.wait()
    page = await person.get("/dashboard")
    assert page.by_id(f"open-{instance.id}").attributes["href"] == f"/instances/{instance.id}/open"
    assert "Running" in page.text_of("instances")
    assert "1 GB of 4 GB" in page.text_of("instances")
    assert "left" in page.text_of("instances")


async def test_opening_a_running_instance_leads_over_a_ticket_to_the_address_inside_it(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    instance = await person.running()
    person.http.follow_redirects = False
    first = await person.http.get(f"/instances/{instance.id}/open", params={"next": "/lab/tree/a.ipynb?x=1&y=2"})
    assert first.status_code == 303
    second = await person.http.get(first.headers["Location"])
    address = second.headers["Location"]
    assert address.startswith(f"{INSTANCES_URL}/enter?ticket=")
    assert address.endswith("next=%2Flab%2Ftree%2Fa.ipynb%3Fx%3D1%26y%3D2")


@pytest.mark.slow
async def test_clicking_launch_twice_is_one_instance_and_its_card_leads_to_it(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    form = (await person.get("/dashboard")).form("/instances", environment="jupyterlab")
    for _ in range(2):
        await person.send(form)
    assert len(await person.instances()) == 1
    await portal.platform.runner.wait()
    assert "Already running" in (await person.get("/dashboard")).text_of("launch-jupyterlab")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("memory", "64g", "64 GB is not offered"),
        ("memory", "much", "“much” is not a size"),
        ("cpus", "17", "17 cores is not offered"),
        ("cpus", "nan", "is not a number"),
        ("storage", "1t", "1 TB is not offered"),
        ("days", "400", "400 days is not offered"),
        ("days", "1.5", "is not a whole number"),
    ],
)
async def test_a_size_that_is_not_offered_is_said_at_its_field_and_nothing_starts(
    portal: Portal, field: str, value: str, words: str
) -> None:
    portal.homes.enforces_limits = True
    person = await portal.signed_in("ada@example.org")
    page = await person.launch("rstudio", **{field: value})
    assert page.status == 422
    assert words in page.text_of(f"launch-rstudio-{field}-problem")
    assert not page.has(f"launch-jupyterlab-{field}-problem")
    assert await person.instances() == []


async def test_a_refused_form_keeps_what_was_chosen(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    page = await person.launch("rstudio", memory="4g", cpus="2", days="400")
    fields = page.form("/instances", environment="rstudio").fields
    assert (fields["memory"], fields["cpus"], fields["days"]) == ("4g", "2", "1")


@pytest.mark.slow
async def test_choices_beyond_ones_quota_cannot_be_chosen_and_the_default_gives_way(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    user = await portal.platform.users.by_email(person.address)
    quota = Quota(memory_bytes=GB, instances=1)
    await portal.platform.users.change(user.id, UserChange(quota=quota), CLI, portal.platform.now())
    page = await person.get("/dashboard")
    assert page.form("/instances", environment="rstudio").fields["memory"] == "1g"
    assert "over your quota" in page.text_of("launch-rstudio")
    await person.running("jupyterlab")
    refused = await person.launch("rstudio", memory="1g")
    assert refused.status == 409
    assert "you can run 1 at the same time" in refused.text_of("launch-rstudio").lower()
    assert "your quota is 1 GB" in refused.text_of("launch-rstudio-memory-problem").replace("Your", "your")


@pytest.mark.slow
async def test_the_dashboard_stays_usable_while_the_engine_does_not_answer(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    instance = await person.running()
    portal.runtime.go_down()
    page = await person.get("/dashboard")
    assert page.status == 200
    assert page.has(f"open-{instance.id}")
    portal.runtime.come_back()


async def test_a_launch_that_the_engine_cannot_take_is_refused_on_its_card(portal: Portal) -> None:
    portal.runtime.go_down()
    person = await portal.signed_in("ada@example.org")
    page = await person.get("/dashboard")
    assert "does not answer" in page.text_of("launch-rstudio")
    token = page.form("/sign-out").fields["csrf_token"]
    form = Form("/instances", "post", {"csrf_token": token, "environment": "rstudio"})
    refused = await person.send(form)
    assert refused.status == 503
    assert "does not answer" in refused.text_of("launch-rstudio")
    assert await person.instances() == []
    portal.runtime.come_back()


async def test_an_image_that_is_missing_is_said_instead_of_the_launch_button(portal: Portal) -> None:
    portal.runtime.missing_images.add(portal.platform.catalogue["rstudio"].image)
    person = await portal.signed_in("ada@example.org")
    page = await person.get("/dashboard")
    assert "data-unavailable" in page.by_id("launch-rstudio").attributes
    assert "Launch RStudio" not in page.text_of("launch-rstudio")
    assert "Launch JupyterLab" in page.text_of("launch-jupyterlab")


@pytest.mark.slow
async def test_stop_extend_and_forget_work_as_plain_forms(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    instance = await person.running()
    page = await person.get("/dashboard")
    extended = await person.send(page.form(f"/instances/{instance.id}/extend"))
    assert "JupyterLab extended until" in extended.words
    assert (await person.instances())[0].expires_at > instance.expires_at
    stopped = await person.send(extended.form(f"/instances/{instance.id}/stop"))
    assert "JupyterLab is stopping" in stopped.words
    await portal.platform.runner.wait()
    page = await person.get("/dashboard")
    assert "Stopped by you" in page.text_of("ended")
    forgotten = await person.send(page.form(f"/instances/{instance.id}/forget"))
    assert "JupyterLab removed from list" in forgotten.words
    assert await person.instances(with_ended=True) == []


@pytest.mark.slow
async def test_a_duration_that_is_not_offered_is_refused_in_words(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    instance = await person.running()
    form = (await person.get("/dashboard")).form(f"/instances/{instance.id}/extend")
    page = await person.send(form, days="5")
    assert page.status == 422
    assert "5 days is not offered" in page.words
    assert (await person.instances())[0].expires_at == instance.expires_at


@pytest.mark.slow
async def test_an_ended_instance_tells_why_and_leads_to_another_launch(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    instance = await person.running()
    await portal.runtime.kill(instance.id, out_of_memory=True)
    await portal.platform.runner.reconcile_one(instance.id)
    await portal.platform.runner.wait()
    assert (await person.instances(with_ended=True))[0].state is State.FAILED
    page = await person.get(f"/instances/{instance.id}/open")
    assert "stopped unexpectedly" in page.words
    assert "memory" in page.words
    assert page.form(f"/instances/{instance.id}/launch-again")
    assert "Failed" in (await person.get("/dashboard")).text_of("ended")


@pytest.mark.slow
async def test_launch_again_launches_with_the_same_choices_and_leads_to_where_one_was(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    instance = await person.stopped(memory="4g", cpus="2", days="2")
    page = await person.get(f"/instances/{instance.id}/open?next=/lab/tree/a.ipynb")
    portal.runtime.hold_starts()
    waiting = await person.send(page.form(f"/instances/{instance.id}/launch-again"))
    [new] = await person.instances()
    assert (new.environment, new.limits) == (instance.environment, instance.limits)
    assert waiting.path == f"/instances/{new.id}/open?next=%2Flab%2Ftree%2Fa.ipynb"
    assert "JupyterLab is starting" in waiting.words
    portal.runtime.release_starts()
    await portal.platform.runner.wait()
    again = await person.send(page.form(f"/instances/{instance.id}/launch-again"))
    assert [one.id for one in await person.instances()] == [new.id], "the one that runs is opened"
    assert str(again.response.url).startswith(INSTANCES_URL)


@pytest.mark.slow
async def test_launch_again_on_the_dashboard_stays_there_and_says_why_it_is_refused_at_its_row(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    small, large = await person.stopped(memory="1g"), await person.stopped("rstudio", memory="4g")
    user = await portal.platform.users.by_email(person.address)
    change = UserChange(quota=Quota(memory_bytes=2 * GB))
    await portal.platform.users.change(user.id, change, CLI, portal.platform.now())
    page = await person.get("/dashboard")
    refused = await person.send(page.form(f"/instances/{large.id}/launch-again"))
    assert refused.status == 409
    assert "your quota is 2 GB" in refused.text_of(f"instance-{large.id}").replace("Your", "your")
    assert "quota is" not in refused.text_of(f"instance-{small.id}")
    assert await person.instances() == []
    launched = await person.send(page.form(f"/instances/{small.id}/launch-again"))
    assert launched.path.startswith("/dashboard")
    assert "JupyterLab is starting" in launched.words
    assert [one.limits.memory_bytes for one in await person.instances()] == [GB]
    assert not any(form.action == f"/instances/{small.id}/launch-again" for form in launched.forms)


@pytest.mark.slow
async def test_what_ended_last_comes_first(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    first, second = await person.running("jupyterlab"), await person.running("rstudio")
    for one in (second, first):
        await person.send((await person.get("/dashboard")).form(f"/instances/{one.id}/stop"))
        await portal.platform.runner.wait()
    page = await person.get("/dashboard")
    rows = [str(one.attributes.get("id")) for one in page.elements if one.tag == "li"]
    assert [row for row in rows if row.startswith("instance-")] == [f"instance-{first.id}", f"instance-{second.id}"]


@pytest.mark.slow
async def test_a_size_of_the_home_is_a_choice_only_where_the_server_can_hold_people_to_it(
    portal: Portal, tmp_path: Path
) -> None:
    person, admin = await portal.signed_in("ada@example.org"), await portal.signed_in(ADMIN)
    form = (await person.get("/dashboard")).form("/instances", environment="rstudio")
    assert "storage" not in form.fields
    assert "Not offered at launch" in (await admin.get("/admin/limits")).text_of("storage-hint")
    assert "no size is offered at launch" in (await admin.get("/admin")).words
    refused = await person.send(form, storage="1t")
    assert "1 TB is not offered" in refused.text_of("launch-rstudio")
    await person.send(form, storage="16g")
    assert [one.limits.storage_bytes for one in await person.instances()] == [16 * GB], "who sends it gets it"
    (tmp_path / "other").mkdir()
    async with open_portal(tmp_path / "other") as other:
        other.homes.enforces_limits = True
        person, admin = await other.signed_in("ada@example.org"), await other.signed_in(ADMIN)
        assert "storage" in (await person.get("/dashboard")).form("/instances", environment="jupyterlab").fields
        assert "Not offered" not in (await admin.get("/admin/limits")).text_of("storage-hint")


@pytest.mark.slow
async def test_the_tabs_title_says_what_is_live(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")

    async def title() -> str:
        return next(one.text for one in (await person.get("/dashboard")).elements if one.tag == "title").strip()

    assert (await title()).startswith("Dashboard · ")
    await person.running("jupyterlab")
    assert (await title()).startswith("JupyterLab running · ")
    portal.runtime.hold_starts()
    await person.launch("rstudio")
    assert (await title()).startswith("1 starting, 1 running · ")


async def test_the_home_shows_what_it_holds_once_it_was_measured(portal: Portal) -> None:
    """It shows what the process that owns the work has found; see `test_live_engine` on who asks the disk."""
    person = await portal.signed_in("ada@example.org")
    assert "Files" not in (await person.get("/dashboard")).text_of("side")
    portal.homes.used_bytes = 3 * GB
    await portal.measure_homes()
    assert "Files 3 GB" in (await person.get("/dashboard")).text_of("side")
    assert "Files 3 GB" in (await person.get("/account")).words


async def test_the_home_says_when_it_is_nearly_full_and_when_full(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    portal.homes.limit_bytes = 100 * GB
    for used, words, tone in (
        (50, "", None),
        (91, "Nearly full: 9 GB left. When it is full, nothing more can be saved.", "warn"),
        (99, "Full: nothing more can be saved. Remove what you no longer need, or ask for more space.", "bad"),
    ):
        portal.homes.used_bytes = used * GB
        await portal.measure_homes()
        page = await person.get("/dashboard")
        assert f"Files {used} GB of 100 GB" in page.text_of("side")
        assert words in page.text_of("side")
        notes = [one for one in page.elements if one.attributes.get("class") == "note"]
        assert [one.attributes["data-tone"] for one in notes] == ([tone] if tone else [])


@pytest.mark.slow
async def test_who_waits_for_room_is_told_their_place(tmp_path: Path) -> None:
    capacity = {"capacity": {"memory": "2g", "max_instances": 1}}
    async with open_portal(tmp_path, capacity) as small:
        first, second = await small.signed_in("ada@example.org"), await small.signed_in("bob@example.org")
        await first.running("jupyterlab")
        page = await second.launch("jupyterlab")
        assert "The server is full. You are next; it starts automatically" in page.text_of("instances")
        instance = (await second.instances())[0]
        waiting = await second.get(f"/instances/{instance.id}/open")
        assert "is queued" in waiting.words
        for one in (page, waiting):  # what the script compares with the events, so that it draws anew when it changes
            (said,) = {found for each in one.elements if (found := each.attributes.get("data-queue"))}
            assert said == queue_in_words(1, Stage.WAITING)
        cancelled = await second.send(waiting.form(f"/instances/{instance.id}/stop"))
        assert cancelled.path.startswith("/dashboard")
        assert await second.instances() == []


@pytest.mark.slow
async def test_who_waits_behind_others_is_told_how_many(tmp_path: Path) -> None:
    """On the dashboard, on the page that opens when it is ready, and as a number in the API."""
    capacity = {"capacity": {"memory": "2g", "max_instances": 1}}
    async with open_portal(tmp_path, capacity) as small:
        people = [await small.signed_in(f"p{number}@example.org") for number in range(5)]
        await people[0].running("jupyterlab")
        for person in people[1:]:
            await person.launch("jupyterlab")
        last = people[-1]
        assert "3 before you; it starts automatically" in (await last.get("/dashboard")).text_of("instances")
        instance = (await last.instances())[0]
        assert "3 before you; it starts automatically" in (await last.get(f"/instances/{instance.id}/open")).words
        assert (await last.http.get(f"/api/v1/instances/{instance.id}")).json()["queue_position"] == 4
        ahead = (await people[1].instances())[0]
        await people[1].send((await people[1].get("/dashboard")).form(f"/instances/{ahead.id}/stop"))
        assert "2 before you; it starts automatically" in (await last.get("/dashboard")).text_of("instances")


@pytest.mark.slow
async def test_a_running_instance_is_frozen_and_thawed_from_its_card(portal: Portal) -> None:
    """The card says since when and why, what that means, and when it ends of it; the administrators' list, too."""
    person = await portal.signed_in("ada@example.org")
    await person.launch("jupyterlab", days="7")
    await portal.platform.runner.wait()
    [instance] = await person.instances()
    page = await person.get("/dashboard")
    page = await person.send(page.form(f"/instances/{instance.id}/freeze"))
    assert "JupyterLab is being frozen" in page.words
    deadline = monotonic() + PATIENCE_SECONDS
    while not (await person.instances())[0].is_frozen:
        assert monotonic() < deadline
        await asyncio.sleep(0.05)
    page = await person.get("/dashboard")
    card = page.text_of(f"instance-{instance.id}")
    assert "Frozen since" in card
    assert "(by its owner)" in card
    assert "if it stays frozen" not in card, "its own end comes first"
    assert f"/instances/{instance.id}/freeze" not in page.response.text
    assert 'data-state="frozen"' in page.response.text
    admin = await portal.signed_in(ADMIN)
    listed = await admin.get("/admin/instances")
    assert "Frozen" in listed.words
    assert "by its owner" in listed.words
    page = await person.get("/dashboard")
    page = await person.send(page.form(f"/instances/{instance.id}/thaw"))
    assert "JupyterLab continues where it was" in page.words
    assert 'data-state="running"' in page.response.text
