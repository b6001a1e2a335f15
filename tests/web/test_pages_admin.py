"""Governing through the pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from launchpad.domain.lab_capacity import LabCapacity
from launchpad.domain.users import Role
from launchpad.services.audit import CLI
from web.pages_client import ADMIN, INSTANCES_URL, Person, Portal, open_portal

GB = 1024**3


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as portal:
        yield portal


@pytest.fixture
async def admin(portal: Portal) -> Person:
    return await portal.signed_in(ADMIN)


@pytest.mark.slow
async def test_the_overview_shows_what_is_promised_and_that_all_is_well(portal: Portal, admin: Person) -> None:
    await (await portal.signed_in("ada@example.org")).running()
    page = await admin.get("/admin")
    assert "Nothing needs your attention" in page.words
    assert "2 GB of 28.8 GB" in page.words
    assert "1 active instance" in page.words
    assert "2 users" in page.words


@pytest.mark.slow
async def test_the_overview_names_what_needs_attention(portal: Portal) -> None:
    portal.runtime.missing_images.add(portal.platform.catalogue["rstudio"].image)
    admin, stranger = await portal.signed_in(ADMIN), portal.person("ada@example.org")
    portal.letters.refusing = True
    await stranger.send((await stranger.get("/sign-in")).form("/sign-in"), email=stranger.address)
    await portal.platform.mail.drain()
    page = await admin.get("/admin")
    assert "The mail server rejects mail or is not responding" in page.words
    assert "RStudio cannot be launched" in page.words
    assert "Nothing needs your attention" not in page.words
    portal.runtime.go_down()
    await portal.platform.live.host.renew()  # as every few seconds: no page asks the engine
    page = await admin.get("/admin")
    assert page.status == 200
    assert "The container engine is not responding" in page.words
    portal.runtime.come_back()


@pytest.mark.slow
async def test_one_origin_for_all_is_called_semi_trusted(tmp_path: Path) -> None:
    async with open_portal(tmp_path, {"public_url": INSTANCES_URL, "instances_url": INSTANCES_URL}) as portal:
        platform = portal.platform
        client = portal.person(ADMIN)
        asked = await client.http.post(
            "/sign-in", data={"email": ADMIN}, headers={"Origin": INSTANCES_URL}, follow_redirects=False
        )
        assert asked.status_code == 303
        await platform.mail.drain()
        code = portal.letters.newest_code(ADMIN)
        await client.http.post("/sign-in/code", data={"code": code}, headers={"Origin": INSTANCES_URL})
        assert "semi-trusted" in (await client.get("/admin")).words


async def test_users_are_found_by_address_username_or_lab(portal: Portal, admin: Person) -> None:
    await portal.signed_in("ada@example.org")
    await portal.signed_in("bob@example.org")
    page = await admin.get("/admin/users?q=ADA")
    assert "ada@example.org" in page.words
    assert "bob@example.org" not in page.words
    assert "No matches" in (await admin.get("/admin/users?q=zoe")).words


@pytest.mark.slow
async def test_a_long_list_of_users_goes_on(portal: Portal, admin: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launchpad.web.pages.admin_users.PAGE", 1)
    await portal.signed_in("zoe@example.org")
    first = await admin.get("/admin/users")
    assert "zoe@example.org" not in first.words
    onwards = next(str(one.attributes["href"]) for one in first.elements if "after=" in str(one.attributes.get("href")))
    assert "zoe@example.org" in (await admin.get(onwards)).words


@pytest.mark.slow
async def test_role_lab_and_quota_are_saved_and_emptied_caps_are_taken_back(portal: Portal, admin: Person) -> None:
    await portal.signed_in("ada@example.org")
    user = await portal.platform.users.by_email("ada@example.org")
    path = f"/admin/users/{user.id}"
    form = (await admin.get(path)).form(path)
    page = await admin.send(form, role="admin", lab="genomics", memory="32g", cpus="2.5", storage="1t", instances="3")
    assert "ada@example.org saved" in page.words
    user = await portal.platform.users.get(user.id)
    assert (user.role, user.lab) == (Role.ADMIN, "genomics")
    assert (user.quota.memory_bytes, user.quota.cpus, user.quota.storage_bytes, user.quota.instances) == (
        32 * GB,
        2.5,
        1024 * GB,
        3,
    )
    form = page.form(path)
    assert (form.fields["memory"], form.fields["cpus"]) == ("32g", "2.5")
    await admin.send(form, memory="", lab="")
    user = await portal.platform.users.get(user.id)
    assert (user.lab, user.quota.memory_bytes, user.quota.instances) == (None, None, 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [("memory", "32x"), ("cpus", "-1"), ("cpus", "inf"), ("storage", "lots"), ("instances", "1.5"), ("role", "god")],
)
async def test_what_cannot_be_read_is_said_at_its_field_and_nothing_is_saved(
    portal: Portal, admin: Person, field: str, value: str
) -> None:
    await portal.signed_in("ada@example.org")
    before = await portal.platform.users.by_email("ada@example.org")
    path = f"/admin/users/{before.id}"
    page = await admin.send((await admin.get(path)).form(path), **{"lab": "genomics", field: value})
    assert page.status == 422
    assert page.text_of(f"{field}-problem")
    assert page.by_id("lab").attributes["value"] == "genomics"
    assert (await portal.platform.users.get(before.id)).lab is None


@pytest.mark.slow
async def test_suspending_signs_out_at_once_and_stops_what_runs(portal: Portal, admin: Person) -> None:
    ada = await portal.signed_in("ada@example.org")
    instance = await ada.running()
    user = await portal.platform.users.by_email("ada@example.org")
    await portal.platform.tokens.create(user, "nightly", CLI, portal.platform.now())
    path = f"/admin/users/{instance.owner_id}"
    page = await admin.get(path)
    ends = page.text_of("suspend-ends")
    for what in ("JupyterLab, running: running code will be stopped", "1 signed-in browser:", "1 API token:"):
        assert what in ends
    suspended = await admin.send(page.form(f"{path}/suspend"))
    assert "ada@example.org suspended" in suspended.words
    await portal.platform.runner.wait()
    assert (await ada.get("/dashboard")).path.startswith("/sign-in")
    assert not (await portal.platform.instances.get_any(instance.id)).is_live
    assert "Suspended" in (await admin.get("/admin/users")).words
    assert "Suspend ada@example.org?" not in suspended.words
    reactivated = await admin.send(suspended.form(f"{path}/reactivate"))
    assert "ada@example.org reactivated" in reactivated.words
    assert (await portal.platform.users.get(instance.owner_id)).is_active


@pytest.mark.slow
@pytest.mark.root
async def test_a_user_is_removed_archived_and_brought_back_on_their_page(portal: Portal, admin: Person) -> None:
    """With warnings, dates, what is being done, and each button; nothing goes before it is in a verified archive."""
    await portal.signed_in("ada@example.org")
    platform = portal.platform
    user = await platform.users.by_email("ada@example.org")
    await platform.homes.prepare(user.username, user.uid, None)
    path = f"/admin/users/{user.id}"
    removed = await admin.send((await admin.get(path)).form(f"{path}/remove"), reason="moved away")
    assert "ada@example.org removed" in removed.words
    assert "Removed by an administrator" in removed.words
    assert "moved away" in removed.words
    assert "not automatically" in removed.words

    async def work(kind: str, **more: str) -> str:
        page = await admin.get(path)
        begun = await admin.send(page.form(f"{path}/home-work", kind=kind), **more)
        if "has started" not in begun.words:
            return begun.words
        while not (await platform.home_work.of_user(user))[0].is_over:
            await asyncio.sleep(0.05)
        return (await admin.get(path)).words

    assert "Verified" in await work("archive")
    assert "Choose the address of an active user" in await work("copy", to=user.email, reason="a project")
    assert "Done" in await work("copy", to=ADMIN, reason="a project")
    assert "all files are in the archive" in await work("remove")
    assert not await platform.homes.exists(user.username)
    assert "all files are in the archive" not in await work("restore")
    assert await platform.homes.exists(user.username)
    reactivated = await admin.send((await admin.get(path)).form(f"{path}/reactivate"))
    assert "Removed by an administrator" not in reactivated.words


@pytest.mark.slow
async def test_saving_a_users_form_suspends_nobody(portal: Portal, admin: Person) -> None:
    """Not even one from before suspending had a button of its own."""
    await portal.signed_in("ada@example.org")
    user = await portal.platform.users.by_email("ada@example.org")
    path = f"/admin/users/{user.id}"
    await admin.send((await admin.get(path)).form(path), status="suspended", lab="genomics")
    user = await portal.platform.users.get(user.id)
    assert (user.is_active, user.lab) == (True, "genomics")


@pytest.mark.slow
async def test_ended_instances_are_listed_by_their_end_behind_the_active_ones(
    portal: Portal, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was launched first may end last; page by page, none is left out and none comes twice."""
    people = [await portal.signed_in(f"{name}@example.org") for name in ("ada", "bob", "cyd", "dan")]
    made = [await person.running() for person in people]
    for one in (made[1], made[2], made[0]):
        await portal.platform.instances.stop_any(one.id, CLI, portal.platform.now())
        await portal.platform.runner.wait()
    names = {one.id: person.address for one, person in zip(made, people, strict=True)}

    async def listed(path: str) -> list[str]:
        seen: list[str] = []
        while True:
            page = await admin.get(path)
            seen += [one.text for one in page.elements if one.tag == "a" and one.text in names.values()]
            more = [
                str(one.attributes["href"]) for one in page.elements if "before=" in str(one.attributes.get("href"))
            ]
            if not more:
                return seen
            path = more[0]

    by_end = ["ada@example.org", "cyd@example.org", "bob@example.org"]
    assert await listed("/admin/instances?state=ended") == by_end
    assert await listed("/admin/instances?state=all") == ["dan@example.org", *by_end]
    monkeypatch.setattr("launchpad.web.pages.admin_instances.PAGE", 1)
    assert await listed("/admin/instances?state=ended") == by_end
    assert await listed("/admin/instances?state=all") == ["dan@example.org", *by_end]
    assert (await admin.get("/admin/instances?before=yesterday")).status == 422


@pytest.mark.slow
async def test_the_last_administrator_cannot_lock_everybody_out(portal: Portal, admin: Person) -> None:
    user = await portal.platform.users.by_email(ADMIN)
    path = f"/admin/users/{user.id}"
    there = await admin.get(path)
    for form in (there.form(path), there.form(f"{path}/suspend")):
        page = await admin.send(form, role="user")
        assert page.status == 409
        assert "last active administrator" in page.words
    assert (await admin.get("/admin")).status == 200


@pytest.mark.slow
async def test_everyones_instances_can_be_found_extended_and_stopped(portal: Portal, admin: Person) -> None:
    ada, bob = await portal.signed_in("ada@example.org"), await portal.signed_in("bob@example.org")
    instance, other = await ada.running("jupyterlab"), await bob.running("rstudio")
    page = await admin.get("/admin/instances?q=ada")
    assert "ada@example.org" in page.words
    assert "bob@example.org" not in page.words
    extended = await admin.send(page.form(f"/admin/instances/{instance.id}/extend?q=ada"))
    assert "JupyterLab of ada@example.org extended until" in extended.words
    assert "bob@example.org" not in extended.words
    await admin.send(extended.form(f"/admin/instances/{instance.id}/stop?q=ada"))
    await portal.platform.runner.wait()
    assert "stopped by an administrator" in (await ada.get("/dashboard")).text_of("ended").lower()
    assert (await bob.instances())[0].id == other.id
    assert "ada@example.org" not in (await admin.get("/admin/instances")).words
    assert "ada@example.org" in (await admin.get("/admin/instances?state=all")).words


@pytest.mark.slow
async def test_a_filter_reaches_beyond_the_first_page_of_instances(
    portal: Portal, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = await portal.signed_in("ada@example.org"), await portal.signed_in("bob@example.org")
    await ada.running("jupyterlab")
    await bob.running("jupyterlab")
    assert "ada@example.org" in (await admin.get("/admin/instances?q=ada")).words
    monkeypatch.setattr("launchpad.web.pages.admin_instances.PAGE", 1)
    first = await admin.get("/admin/instances")
    assert "ada@example.org" not in first.words
    more = next(str(one.attributes["href"]) for one in first.elements if "before=" in str(one.attributes.get("href")))
    assert "ada@example.org" in (await admin.get(more)).words


async def test_new_limits_are_offered_at_once(portal: Portal, admin: Person) -> None:
    form = (await admin.get("/admin/limits")).form("/admin/limits")
    assert form.fields["memory"] == "1g, 2g, 4g"
    page = await admin.send(form, memory="2g 8g", default_memory="8g", days="1,3", instances_per_user="5")
    assert "Limits saved" in page.words
    card = (await admin.get("/dashboard")).form("/instances", environment="rstudio")
    assert card.fields["memory"] == "8g"
    assert "0 of 5" in (await admin.get("/dashboard")).words


async def test_capacity_by_lab_is_set_and_removed_and_what_cannot_be_is_said_at_its_lab(
    portal: Portal, admin: Person
) -> None:
    labs = portal.platform.lab_capacity
    form = (await admin.get("/admin/limits")).form("/admin/limits/labs")
    page = await admin.send(form, lab=" Genomics ", guaranteed_memory="4g", max_cpus="8")
    assert "Genomics saved" in page.words
    assert await labs.labs() == {"Genomics": LabCapacity(guaranteed_memory_bytes=4 * GB, most_cpus=8)}
    own = page.form("/admin/limits/labs", lab="Genomics")
    assert (own.fields["guaranteed_memory"], own.fields["max_memory"]) == ("4g", "")
    refused = await admin.send(own, guaranteed_memory="4q")
    assert refused.status == 422
    assert "“4q” is not a size" in refused.words
    assert refused.form("/admin/limits/labs", lab="Genomics").fields["guaranteed_memory"] == "4q"
    refused = await admin.send(own, guaranteed_memory="400g")
    assert "400 GB and 0 cores would be guaranteed in all" in refused.words
    await admin.send(own, guaranteed_memory="", max_cpus="")
    assert await labs.labs() == {}


@pytest.mark.parametrize(
    ("field", "value", "at", "words"),
    [
        ("memory", "4g, 2g", "memory", "smallest first"),
        ("memory", "", "memory", "at least one choice"),
        ("memory", "1g, 2q", "memory", "“2q” is not a size"),
        ("memory", "1g, 2g, 512g", "memory", "can provide at most 28.8 GB"),
        ("default_days", "3", "default_days", "one of the choices"),
        ("default_cpus", "", "default_cpus", "Fill this in"),
        ("days", "1, 0.5", "days", "not a whole number"),
        ("instances_per_user", "-1", "instances_per_user", "not a whole number"),
    ],
)
async def test_limits_that_cannot_be_offered_are_said_at_their_field_and_nothing_changes(
    portal: Portal, admin: Person, field: str, value: str, at: str, words: str
) -> None:
    before = await portal.platform.offers.limits()
    page = await admin.send((await admin.get("/admin/limits")).form("/admin/limits"), **{field: value})
    assert page.status == 422
    assert words.lower() in page.text_of(f"{at}-problem").lower()
    assert page.by_id(field).attributes["value"] == value
    assert await portal.platform.offers.limits() == before


@pytest.mark.slow
async def test_the_audit_tells_who_did_what_and_can_be_searched(portal: Portal, admin: Person) -> None:
    ada = await portal.signed_in("ada@example.org")
    await ada.running()
    page = await admin.get("/admin/audit?q=instance.launched")
    assert "ada@example.org" in page.words
    assert "JupyterLab of ada@example.org" in page.words, "what the id alone does not say"
    assert "memory: " in page.words
    assert "environment" not in page.text_of("results"), "said once"
    assert "sign-in" not in page.text_of("results")
    assert "No matches" in (await admin.get("/admin/audit?q=zzz")).words


@pytest.mark.slow
async def test_markup_in_a_users_words_stays_words(portal: Portal, admin: Person) -> None:
    await portal.signed_in("ada@example.org")
    user = await portal.platform.users.by_email("ada@example.org")
    path = f"/admin/users/{user.id}"
    await admin.send((await admin.get(path)).form(path), lab="<script>x</script>")
    for place in ("/admin/users", path, "/admin/audit"):
        assert "<script>x" not in (await admin.get(place)).response.text
