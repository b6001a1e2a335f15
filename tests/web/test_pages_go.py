"""Start on visit: addresses that live for ever, and that of an instance that has stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from launchpad.domain.instances import State
from launchpad.domain.limits import Quota
from launchpad.runtime.fake import GB
from launchpad.services.audit import CLI
from launchpad.services.users import UserChange
from web.pages_client import INSTANCES_URL, Portal, open_portal

DEEP = "/lab/tree/a%20b%2Fc.ipynb?x=1&y=%20"
AS_NEXT = "%2Flab%2Ftree%2Fa%2520b%252Fc.ipynb%3Fx%3D1%26y%3D%2520"


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as opened:
        yield opened


@pytest.mark.slow
async def test_a_bookmark_opens_the_instance_that_runs_now_at_its_path(portal: Portal) -> None:
    """Also another one later: the address names the environment, not the instance. The path comes as it was sent."""
    person = await portal.signed_in("ada@example.org")
    for _ in range(2):
        await person.stopped()
        running = await person.running("jupyterlab")
        answer = await person.http.get(f"/go/jupyterlab{DEEP}", follow_redirects=False)
        assert answer.status_code == 303
        assert answer.headers["Location"] == f"/instances/{running.id}/open?next={AS_NEXT}"
        page = await person.get(f"/go/jupyterlab{DEEP}")
        assert str(page.response.url).startswith(INSTANCES_URL)
        assert AS_NEXT in str(page.response.url)
        await person.send((await person.get("/dashboard")).form(f"/instances/{running.id}/stop"))
        await portal.platform.runner.wait()


@pytest.mark.slow
async def test_addresses_of_notebook_are_those_of_jupyterlab(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    running = await person.running("jupyterlab")
    for asked, within in (
        ("/tree/a.ipynb", "/lab/tree/a.ipynb"),
        ("/notebooks/b/a.ipynb?x=1", "/lab/tree/b/a.ipynb?x=1"),
        ("/treehouse", "/treehouse"),
        ("/doc/tree/a.ipynb", "/doc/tree/a.ipynb"),
    ):
        answer = await person.http.get(f"/go/jupyterlab{asked}", follow_redirects=False)
        assert answer.headers["Location"] == f"/instances/{running.id}/open?next={quote(within, safe='')}"


@pytest.mark.slow
async def test_without_one_it_offers_the_launch_with_the_choices_of_the_last_time(portal: Portal) -> None:
    """And arrives at the same deep link."""
    person = await portal.signed_in("ada@example.org")
    last = await person.stopped(memory="4g", cpus="2", days="2")
    await person.stopped("rstudio", memory="1g")
    offer = await person.get(f"/go/jupyterlab{DEEP}")
    assert offer.status == 200
    assert await person.instances() == [], "a visit alone starts nothing"
    assert "4 GB memory · 2 cores · 2 days" in offer.words
    assert "a%20b%2Fc.ipynb" in offer.words
    portal.runtime.hold_starts()
    waiting = await person.send(offer.form("/go/jupyterlab"))
    [new] = await person.instances()
    assert (new.environment, new.limits) == ("jupyterlab", last.limits)
    assert waiting.path == f"/instances/{new.id}/open?next={AS_NEXT}"
    assert "JupyterLab is starting" in waiting.words
    again = await person.send(offer.form("/go/jupyterlab"))
    assert again.path == waiting.path, "clicked twice it is one instance"
    portal.runtime.release_starts()


async def test_whoever_never_launched_it_gets_the_default_choices(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    offer = await person.get("/go/rstudio")
    assert "default choices" in offer.words
    await person.send(offer.form("/go/rstudio"))
    [new] = await person.instances()
    assert new.limits == (await portal.platform.offers.for_environment("rstudio")).defaults


@pytest.mark.slow
async def test_a_launch_that_is_refused_says_why_and_can_be_tried_again(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    await person.stopped(memory="4g")
    user = await portal.platform.users.by_email(person.address)
    change = UserChange(quota=Quota(memory_bytes=2 * GB))
    await portal.platform.users.change(user.id, change, CLI, portal.platform.now())
    refused = await person.send((await person.get("/go/jupyterlab/lab/tree/a.ipynb")).form("/go/jupyterlab"))
    assert refused.status == 409
    assert "our quota is 2 GB" in refused.words
    assert refused.form("/go/jupyterlab").fields["next"] == "/lab/tree/a.ipynb"


@pytest.mark.slow
async def test_an_environment_that_is_not_there_is_said_and_a_path_cannot_lead_elsewhere(portal: Portal) -> None:
    person = await portal.signed_in("ada@example.org")
    assert (await person.get("/go/nothing/x")).status == 404
    running = await person.running("jupyterlab")
    for path in ("//evil.example/x", "/%2e%2e/%2e%2e/admin"):
        page = await person.get(f"/go/jupyterlab{path}")
        assert page.status in (200, 303, 404), path
        assert str(page.response.url).startswith((INSTANCES_URL, "http://localhost:18080/")), path
        assert (await portal.platform.instances.get_any(running.id)).state is State.RUNNING


async def test_who_is_not_signed_in_comes_back_to_the_bookmark_after_signing_in(portal: Portal) -> None:
    stranger = portal.person("nobody@example.org")
    page = await stranger.get(f"/go/jupyterlab{DEEP}")
    assert page.path.startswith("/sign-in?next=%2Fgo%2Fjupyterlab%2Flab%2Ftree")


@pytest.mark.slow
async def test_the_address_of_a_stopped_instance_leads_to_the_one_that_is_active_now(portal: Portal) -> None:
    """At the same deep link; it offers no second launch, which would only find that one."""
    person = await portal.signed_in("ada@example.org")
    old = await person.stopped()
    running = await person.running("jupyterlab")
    page = await person.get(f"/instances/{old.id}/open?next=/lab/tree/a.ipynb")
    links = [str(one.attributes.get("href")) for one in page.elements]
    assert f"/instances/{running.id}/open?next=%2Flab%2Ftree%2Fa.ipynb" in links
    assert not any(form.action.endswith("/launch-again") for form in page.forms)
