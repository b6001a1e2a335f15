"""What the dashboard offers where memory runs short, or has run out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from launchpad.domain.instances import Instance
from launchpad.domain.limits import Quota
from launchpad.domain.memory import MemoryDeath
from launchpad.services.audit import Actor
from launchpad.services.users import UserChange
from web.pages_client import Person, Portal, open_portal

GB = 1024**3
ACTOR = Actor("test")
SETTINGS = {
    "capacity": {"memory": "8g"},
    "limits": {"memory": ["1g", "2g", "4g", "8g"], "default_memory": "1g"},
}


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path, SETTINGS) as portal:
        yield portal


@pytest.fixture
async def ada(portal: Portal) -> Person:
    return await portal.signed_in("ada@example.org")


async def size(portal: Portal, instance: Instance) -> int | None:
    caps = await portal.runtime.caps(instance.id)
    return caps.memory_bytes if caps else None


async def die(portal: Portal, person: Person, instance: Instance) -> None:
    """One of its programs is ended for lack of memory, and its owner stops it."""
    platform = portal.platform
    portal.runtime.deaths[instance.id] = (MemoryDeath("R session", int(0.9 * GB), platform.now()),)
    await platform.memory.tend(platform.now())
    user = (await platform.users.by_ids({instance.owner_id}))[instance.owner_id]
    await platform.instances.stop(instance.id, user, ACTOR, platform.now())
    await platform.runner.wait()


@pytest.mark.slow
async def test_a_running_instance_can_be_given_more_from_its_card(portal: Portal, ada: Person) -> None:
    """The next larger size is chosen; what was given is said, and the size of the next launch."""
    instance = await ada.running()
    page = await ada.get("/dashboard")
    form = page.form(f"/instances/{instance.id}/memory")
    assert "More memory for JupyterLab" in page.text_of(f"memory-{instance.id}")
    page = await ada.send(form, memory="4g")
    assert page.path.startswith("/dashboard")
    assert "JupyterLab: 4 GB of memory from now on" in page.words
    assert "the next launch has 1 GB again" in page.text_of(f"memory-{instance.id}")
    assert await size(portal, instance) == 4 * GB


@pytest.mark.slow
async def test_what_is_refused_is_said_with_its_reason(portal: Portal, ada: Person) -> None:
    instance = await ada.running()
    form = (await ada.get("/dashboard")).form(f"/instances/{instance.id}/memory")
    page = await ada.send(form, memory="3g")
    assert "it has 1 GB and can be given 2 GB, 4 GB, 8 GB" in page.words.lower().replace("gb", "GB")
    portal.runtime.facts = replace(portal.runtime.facts, memory_bytes=2 * GB)
    page = await ada.send(form, memory="4g")
    assert "does not have that much memory" in page.words
    assert await size(portal, instance) == GB


@pytest.mark.slow
async def test_sizes_beyond_the_quota_cannot_be_chosen(portal: Portal, ada: Person) -> None:
    instance = await ada.running()
    quota = UserChange(quota=Quota(memory_bytes=2 * GB))
    await portal.platform.users.change(instance.owner_id, quota, ACTOR, portal.platform.now())
    text = (await ada.get("/dashboard")).response.text
    text = text[text.index(f'id="memory-{instance.id}"') :].partition("</dialog>")[0]
    assert text.count('name="memory" value="4g" disabled') == 1
    assert 'name="memory" value="2g" checked' in text
    quota = UserChange(quota=Quota(memory_bytes=GB))
    await portal.platform.users.change(instance.owner_id, quota, ACTOR, portal.platform.now())
    assert not (await ada.get("/dashboard")).has(f"memory-button-{instance.id}"), "there is nothing to choose"


@pytest.mark.slow
async def test_what_ran_out_of_memory_is_launched_with_more_by_one_click(portal: Portal, ada: Person) -> None:
    instance = await ada.running()
    await die(portal, ada, instance)
    page = await ada.get("/dashboard")
    assert "ran out of memory at 1 GB (R session, 0.9 of 1 GB, on" in page.words
    assert "Launch with 2 GB" in page.words
    opened = await ada.get(f"/instances/{instance.id}/open")
    assert "Launch with 2 GB" in opened.words
    form = page.form(f"/instances/{instance.id}/launch-again", memory="2g")
    await ada.send(form)
    await portal.platform.runner.wait()
    (again,) = await ada.instances()
    assert again.limits.memory_bytes == 2 * GB


@pytest.mark.slow
async def test_what_was_given_more_is_launched_again_with_its_own_size(portal: Portal, ada: Person) -> None:
    """And after it ran out of that, too, with more than it had at last."""
    instance = await ada.running()
    await ada.send((await ada.get("/dashboard")).form(f"/instances/{instance.id}/memory"), memory="2g")
    await die(portal, ada, instance)
    page = await ada.get("/dashboard")
    assert "Launch with 4 GB" in page.words
    forms = [
        one for one in page.forms if one.action.endswith(f"{instance.id}/launch-again") and "memory" not in one.fields
    ]
    await ada.send(forms[0])
    await portal.platform.runner.wait()
    (again,) = await ada.instances()
    assert again.limits.memory_bytes == GB


@pytest.mark.slow
async def test_no_larger_launch_is_offered_where_memory_was_no_reason(portal: Portal, ada: Person) -> None:
    instance = await ada.running()
    user = (await portal.platform.users.by_ids({instance.owner_id}))[instance.owner_id]
    await portal.platform.instances.stop(instance.id, user, ACTOR, portal.platform.now())
    await portal.platform.runner.wait()
    assert "Launch with" not in (await ada.get("/dashboard")).words


@pytest.mark.slow
async def test_a_card_says_that_memory_is_nearly_full(portal: Portal, ada: Person) -> None:
    instance = await ada.running()
    portal.runtime.memory_used[instance.id] = int(0.95 * GB)
    await portal.platform.live.usage.sample()
    page = await ada.get("/dashboard")
    assert "More than 90 % of its 1 GB of memory is in use" in page.text_of("instances")
