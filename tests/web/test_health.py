"""Readiness and metrics while background work fares badly, and what begins and ends with the process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from time import monotonic

import httpx
import pytest

from launchpad.errors import StoreUnavailable
from launchpad.services.background import periodic
from launchpad.web.app import create_app
from support.platforms import World
from web.api_client import Portal, open_api


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_api(tmp_path) as portal:
        yield portal


async def test_a_late_loop_makes_the_portal_degraded_and_metrics_tell_which(portal: Portal) -> None:
    """Pages work, so a load balancer leaves it where it is; who watches is told. Nobody learns why from outside."""
    broken = True

    async def work() -> None:
        if broken:
            raise StoreUnavailable("a word of the inside")

    late = periodic("late-one", work, every_seconds=0.05, late_after_seconds=0.5, longest_retry_seconds=0.05)
    well = periodic("good-one", lambda: asyncio.sleep(0), every_seconds=0.05, late_after_seconds=60)
    background = portal.world.run(portal.platform, late, well)
    portal.app.state.platform = replace(portal.platform, background=background)
    visitor = portal.visitor("127.0.0.1")

    async def becomes(status: str, state: str) -> httpx.Response:
        deadline = monotonic() + 20
        while True:
            answer = await visitor.call("GET", "/readyz")
            body = answer.json()
            if body["status"] == status and body["loops"]["late-one"] == state:
                return answer
            assert monotonic() < deadline, body
            await asyncio.sleep(0.02)

    answer = await becomes("degraded", "late")
    assert answer.status_code == 200
    assert answer.json()["loops"]["good-one"] == "ok"
    assert "inside" not in answer.text
    text = (await visitor.call("GET", "/metrics")).text
    assert 'launchpad_loop_late{loop="late-one"} 1.0' in text
    assert 'launchpad_loop_late{loop="good-one"} 0.0' in text
    failures = re.search(r'launchpad_loop_failures_total\{loop="late-one"\} ([\d.]+)', text)
    assert failures is not None
    assert float(failures[1]) >= 2
    assert 'launchpad_loop_last_success_timestamp_seconds{loop="late-one"} 0.0' in text
    assert "launchpad_mail_waiting 0.0" in text
    assert 'launchpad_warned_last_day{kind="expiry"} 0.0' in text
    assert 'launchpad_idle_decisions_last_day{verdict="stop"} 0.0' in text
    assert "launchpad_idle_ends 0.0" in text
    broken = False
    assert (await becomes("ok", "ok")).status_code == 200
    assert 'launchpad_loop_late{loop="late-one"} 0.0' in (await visitor.call("GET", "/metrics")).text


async def test_every_metric_stands_in_the_reference(portal: Portal) -> None:
    owner = await portal.signed_in("owner@example.org")
    await owner.launch()  # the engine has answered
    await portal.platform.home_use.count(portal.platform.now())  # the disk was measured
    text = (await portal.visitor("127.0.0.1").call("GET", "/metrics")).text
    told = set(re.findall(r"^# TYPE (\S+) (?:gauge|counter)$", text, re.MULTILINE))
    told = {name for name in told if not name.endswith("_created")}
    page = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text()
    assert told == set(re.findall(r"`(launchpad_[a-z_]+)", page))


async def test_the_lifespan_starts_and_closes_the_background_work(tmp_path: Path) -> None:
    world = World(tmp_path, {"web": {"sweep_seconds": 60}})
    app = create_app(await world.open(mail=False))
    before = asyncio.all_tasks()
    async with app.router.lifespan_context(app):
        background = world.opened[0].background
        deadline = monotonic() + 20
        while {one.name for one in background.health() if one.state == "ok"} < {
            "engine-events",
            "connections",
            "watch",
        }:
            assert monotonic() < deadline, background.health()
            await asyncio.sleep(0.02)
        assert "sweep" in {one.name for one in background.health()}
    assert not [task for task in asyncio.all_tasks() - before if task.get_name().startswith("loop ")]
    world.opened.clear()
    await world.close()
