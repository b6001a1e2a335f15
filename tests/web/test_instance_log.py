"""Logs, notices, safe mode and the words of ends, as the API and the pages show them."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from launchpad.domain.instances import State
from launchpad.services.live.loops import loops_of
from support.events import follow
from support.platforms import reaches, until
from web.api_client import Portal, Visitor, open_api, problem

ALICE = "alice@a.org"
BROKEN = (
    'Traceback (most recent call last):\n  File "/home/x/.local/lib/python3.11/site-packages/numpy/a.py", line 1\n'
    "ImportError: <b>on purpose</b>\n"
)


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_api(tmp_path) as portal:
        yield portal


async def failed(portal: Portal, visitor: Visitor, printed: str = BROKEN) -> str:
    """The id of a launch that fails after it has printed that."""
    runtime = portal.world.runtime
    runtime.deaf = True
    instance_id = str((await visitor.call("POST", "/instances", {"environment": "jupyterlab"})).json()["id"])
    await until(lambda: runtime.find(instance_id))
    runtime.printed[instance_id] = printed
    await runtime.kill(instance_id, exit_code=1)
    await reaches(portal.platform, instance_id, State.FAILED)
    runtime.deaf = False
    return instance_id


async def page(visitor: Visitor, path: str) -> str:
    answer = await visitor.http.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.mark.slow
async def test_the_log_of_a_live_instance_is_its_current_tail(portal: Portal) -> None:
    alice = await portal.signed_in(ALICE)
    instance = await alice.launch()
    for printed in ("one\n", "one\ntwo\n"):
        portal.world.runtime.printed[instance["id"]] = printed
        answer = await alice.call("GET", f"/instances/{instance['id']}/log")
        assert answer.text == printed
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_log_of_what_waits_is_empty_and_of_an_engine_that_is_away_unavailable(portal: Portal) -> None:
    alice = await portal.signed_in(ALICE)
    instance = await alice.launch()
    portal.world.runtime.go_down()
    problem(await alice.call("GET", f"/instances/{instance['id']}/log"), 503, "engine-unavailable")
    assert "does not answer" in await page(alice, f"/instances/{instance['id']}/log")
    portal.world.runtime.come_back()


@pytest.mark.slow
async def test_a_failed_start_is_explained_on_every_page_and_offers_safe_mode(portal: Portal) -> None:
    alice = await portal.signed_in(ALICE)
    instance_id = await failed(portal, alice)
    shown = await alice.get(f"/instances/{instance_id}")
    assert "the Python package “numpy” in your home folder" in shown["reason"]
    assert (shown["cause"], shown["safe_mode"], shown["safe_mode_helps"]) == ("package", False, True)
    assert (await alice.call("GET", f"/instances/{instance_id}/log")).text == BROKEN
    for path in ("/dashboard", f"/instances/{instance_id}/open", f"/instances/{instance_id}/log"):
        text = await page(alice, path)
        assert "The Python package “numpy”" in text or "the Python package “numpy”" in text, path
        assert 'name="safe_mode" value="on"' in text, path
        assert f"/instances/{instance_id}/log" in text, path
        assert "<b>on purpose" not in text, "what it printed is text"
    assert html.escape("ImportError: <b>on purpose</b>") in await page(alice, f"/instances/{instance_id}/log")


@pytest.mark.slow
async def test_the_form_of_safe_mode_launches_the_same_size_in_safe_mode(portal: Portal) -> None:
    alice = await portal.signed_in(ALICE)
    failing = await failed(portal, alice)
    form = {"csrf_token": str(alice.csrf), "here": "dashboard", "safe_mode": "on"}
    text = await page(alice, "/dashboard")
    for name, value in form.items():
        assert f'name="{name}" value="{value}"' in text, name
    path = f"/instances/{failing}/launch-again"
    assert f'action="{path}"' in text
    before = await alice.get(f"/instances/{failing}")
    answer = await alice.http.post(path, data=form, headers={"Origin": "http://localhost:8080"})
    assert answer.status_code == 303
    await portal.platform.runner.wait()
    (instance,) = await alice.get("/instances")
    assert (instance["state"], instance["safe_mode"], instance["safe_mode_helps"]) == ("running", True, False)
    assert instance["limits"] == before["limits"]
    assert "Safe mode" in await page(alice, "/dashboard")


async def test_the_api_launches_in_safe_mode(portal: Portal) -> None:
    alice = await portal.signed_in(ALICE)
    assert (await alice.launch(safe_mode=True))["safe_mode"] is True
    problem(
        await alice.call("POST", "/instances", {"environment": "rstudio", "safe_mode": "perhaps"}),
        422,
        "invalid-input",
        "safe_mode",
    )


@pytest.mark.slow
async def test_administrators_read_everybodys_log_and_who_ended_what(portal: Portal) -> None:
    alice, admin = await portal.signed_in(ALICE), await portal.signed_in("admin@example.org")
    instance = await alice.stopped()
    mine = await alice.get(f"/instances/{instance['id']}")
    (theirs,) = await admin.get("/admin/instances", all="true")
    assert (mine["reason"], theirs["reason"]) == ("stopped by you", "stopped by alice@a.org")
    failing = await failed(portal, alice)
    assert (await admin.call("GET", f"/admin/instances/{failing}/log")).text == BROKEN
    problem(await alice.call("GET", f"/admin/instances/{failing}/log"), 403, "forbidden")
    problem(await admin.call("GET", f"/instances/{failing}/log"), 404, "not-found")
    text = await page(admin, f"/admin/instances/{failing}/log")
    assert "its owner&#39;s home folder" in text
    assert "Launch in safe mode" not in text
    listed = await page(admin, "/admin/instances?state=all")
    assert "stopped by alice@a.org" in listed
    assert "by you" not in listed
    audit = await page(admin, "/admin/audit?q=instance.")
    assert "JupyterLab of alice@a.org" in audit.replace("<wbr>", "")
    assert failing in audit


async def test_the_audit_says_quotas_in_words(portal: Portal) -> None:
    alice, admin = await portal.signed_in(ALICE), await portal.signed_in("admin@example.org")
    body = {"quota": {"memory": "2g", "cpus": None, "storage": None, "instances": 1}}
    assert (await admin.call("PATCH", f"/admin/users/{alice.me['id']}", body)).status_code == 200
    (record, *_) = await admin.get("/admin/audit", search="user.changed")
    assert record["text"] == "quota: no limits of its own → 2 GB of memory, 1 instance"
    limits = await admin.get("/admin/limits")
    assert (await admin.call("PUT", "/admin/limits", {**limits, "days": [1, 2]})).status_code == 200
    (record, *_) = await admin.get("/admin/audit", search="limits.changed")
    assert record["text"] == "days: 1, 2, 7 → 1, 2"
    for path in ("/admin/audit", "/admin/audit?q=quota"):
        text = await page(admin, path)
        assert "None" not in text
        assert "Quota(" not in text
        assert "{&#39;" not in text


@pytest.mark.slow  # waits for the next look at the home
async def test_every_notice_reaches_the_events_of_an_instance(portal: Portal) -> None:
    """Lack of memory at once, a full home with the next look; and that it is over."""
    alice = await portal.signed_in(ALICE)
    await portal.world.observe(portal.platform)
    portal.world.run(
        portal.platform, *loops_of(portal.platform.database.changes, portal.platform.live, portal.platform.events)
    )
    instance_id = (await alice.launch())["id"]
    owner = await portal.platform.users.by_email(ALICE)
    stream = follow(portal.platform, owner, None, await portal.platform.instances.get(instance_id, owner))

    async def notices(words: str, *, told: bool = True) -> list[str]:
        async for kind, data in stream:
            if kind == "state" and any(words in notice for notice in data["notices"]) is told:
                assert data["reason"] == ("; ".join(data["notices"]) or None)
                return list(data["notices"])
        raise AssertionError("the events end")

    async with asyncio.timeout(60):
        portal.world.runtime.run_out_of_memory(instance_id)
        (first,) = await notices("needed more than its 1 GB of memory")
        portal.world.clock.now = portal.world.clock.now.replace(minute=45)
        portal.world.runtime.run_out_of_memory(instance_id)
        (second,) = await notices("for the 2nd time")
        assert first != second
        portal.world.home_use["alice"] = 2**50
        assert len(await notices("home folder is full")) == 2
        portal.world.home_use["alice"] = 1
        assert await notices("home folder is full", told=False) == [second]
    assert "for the 2nd time" in await page(alice, "/dashboard")
