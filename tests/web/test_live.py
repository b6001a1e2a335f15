"""What a portal knows without asking is never older than promised, whoever changed it (S3, G9)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from time import monotonic

import httpx
import pytest
from starlette.types import Message

from launchpad.domain.instances import State
from launchpad.domain.signin import Login
from launchpad.domain.users import User, UserStatus
from launchpad.platform import Platform
from launchpad.services.logins import Client
from launchpad.services.users import UserChange
from launchpad.web.api.events import EventStream
from support.events import events_in, follow
from support.platforms import ACTOR, keep_current, reaches
from web.api_client import Portal, Visitor, open_api, problem

PROMISED_SECONDS = 1.0
ALICE = "alice@example.org"
Ends = Callable[[Platform, Visitor], Awaitable[None]]


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_api(tmp_path) as portal:
        yield portal


async def _sign_out(other: Platform, alice: Visitor) -> None:
    found = await other.logins.authenticate(alice.http.cookies["lp_login"], other.now())
    assert found is not None
    await other.logins.sign_out(*found, Client("x"), other.now())


async def _sign_out_everywhere(other: Platform, alice: Visitor) -> None:
    await other.logins.end_all(await other.users.get(alice.me["id"]), Client("x"), other.now())


async def _suspend(other: Platform, alice: Visitor) -> None:
    await other.users.change(alice.me["id"], UserChange(status=UserStatus.SUSPENDED), ACTOR, other.now())


EVERY_END = pytest.mark.parametrize("end", [_sign_out, _sign_out_everywhere, _suspend])


class Inside:
    """Alice, signed in, with a running instance that her browser was let into."""

    def __init__(self, alice: Visitor, instance_id: str, cookie: str) -> None:
        self.alice = alice
        self.instance_id = instance_id
        self.cookie = cookie

    async def me(self) -> int:
        return (await self.alice.call("GET", "/me")).status_code

    async def gate(self) -> httpx.Response:
        headers = {
            "X-Gate-Instance": self.instance_id,
            "X-Gate-Uri": f"/i/{self.instance_id}/api",
            "X-Gate-Method": "GET",
            "Cookie": f"lp_instance={self.cookie}",
        }
        return await self.alice.portal.visitor().call("GET", "/gate/authorize", headers=headers)

    async def statuses(self) -> tuple[int, int]:
        return await self.me(), (await self.gate()).status_code


async def _inside(portal: Portal) -> Inside:
    alice = await portal.signed_in(ALICE)
    instance = await alice.launch()
    opened = await alice.call("GET", f"/instances/{instance['id']}/open")
    ticket = httpx.URL(opened.headers["Location"]).params["ticket"]
    entered = await alice.call("GET", "/gate/enter", ticket=ticket)
    assert entered.status_code == 303, entered.text
    inside = Inside(alice, instance["id"], entered.cookies["lp_instance"])
    assert await inside.statuses() == (200, 204)
    return inside


@pytest.mark.slow  # waits for a clock
@EVERY_END
async def test_s3_what_ends_a_login_in_another_process_is_in_force_within_a_second(portal: Portal, end: Ends) -> None:
    await keep_current(portal.world, portal.platform)
    inside = await _inside(portal)
    other = await portal.world.open()
    for _ in range(3):
        assert await inside.statuses() == (200, 204)
    assert portal.platform.database.changes.is_current, "what follows is answered from memory"
    await end(other, inside.alice)
    ended_at = monotonic()
    while monotonic() - ended_at < PROMISED_SECONDS:
        await asyncio.sleep(0.05)
    assert await inside.statuses() == (401, 401)


@EVERY_END
async def test_s3_without_its_watcher_the_portal_asks_the_store(portal: Portal, end: Ends) -> None:
    watching = await keep_current(portal.world, portal.platform)
    inside = await _inside(portal)
    other = await portal.world.open()
    await watching.aclose()
    await portal.world.end_background(portal.platform)
    assert not portal.platform.database.changes.is_current
    assert await inside.statuses() == (200, 204)
    await end(other, inside.alice)
    assert await inside.statuses() == (401, 401), "at once: nothing is believed that may be old"


@EVERY_END
async def test_what_ends_a_login_here_is_in_force_at_once(portal: Portal, end: Ends) -> None:
    await keep_current(portal.world, portal.platform)
    inside = await _inside(portal)
    await end(portal.platform, inside.alice)
    assert await inside.statuses() == (401, 401)


@pytest.mark.slow
async def test_g9_an_instance_that_another_process_stops_is_closed_within_a_second(portal: Portal) -> None:
    await keep_current(portal.world, portal.platform)
    inside = await _inside(portal)
    other = await portal.world.open()
    owner = await other.users.get(inside.alice.me["id"])
    await other.instances.stop(inside.instance_id, owner, ACTOR, other.now())
    await reaches(other, inside.instance_id, State.STOPPED)
    await asyncio.sleep(PROMISED_SECONDS)
    answer = await inside.gate()
    assert (answer.status_code, answer.headers["X-Gate-Means"]) == (403, "404")
    assert await portal.platform.live.instances.of_owner(owner.id) == []


async def test_time_alone_ends_a_login_at_the_moment_of_the_answer(portal: Portal) -> None:
    """Nothing changes in the store when a login's time is over."""
    await keep_current(portal.world, portal.platform)
    inside = await _inside(portal)
    assert await inside.statuses() == (200, 204)
    portal.world.clock.now += timedelta(hours=12, seconds=1)
    assert await inside.statuses() == (401, 401)


@pytest.mark.slow  # waits for a clock
async def test_a_new_login_and_a_new_way_in_work_at_once(portal: Portal) -> None:
    """Although the same cookies were refused a moment ago, by this portal, and another one let them in."""
    await keep_current(portal.world, portal.platform)
    other = await portal.world.open()
    first = await portal.signed_in(ALICE)
    assert (await first.call("GET", "/me")).status_code == 200
    await _sign_out(other, first)
    await asyncio.sleep(PROMISED_SECONDS)
    assert (await first.call("GET", "/me")).status_code == 401
    assert (await (await portal.signed_in(ALICE)).call("GET", "/me")).status_code == 200
    assert (await (await Portal(portal.world, other).signed_in(ALICE)).call("GET", "/me")).status_code == 200


async def test_a_revoked_token_opens_nothing_from_then_on(portal: Portal) -> None:
    await keep_current(portal.world, portal.platform)
    alice = await portal.signed_in(ALICE)
    made = (await alice.call("POST", "/tokens", {"name": "script"})).json()
    program = portal.visitor()
    bearer = {"Authorization": f"Bearer {made['token']}"}
    for _ in range(2):
        assert (await program.call("GET", "/me", headers=bearer)).status_code == 200
    assert (await alice.call("DELETE", f"/tokens/{made['id']}")).status_code == 204
    assert (await program.call("GET", "/me", headers=bearer)).status_code == 401


@EVERY_END
async def test_s3_the_events_of_an_instance_end_with_the_login(portal: Portal, end: Ends) -> None:
    """Pushed, also where another process does it."""
    await keep_current(portal.world, portal.platform)
    inside = await _inside(portal)
    user, login = await _who(portal, inside)
    other = await portal.world.open()
    stream = follow(portal.platform, user, login, await portal.platform.instances.get(inside.instance_id, user))
    assert [(await anext(stream))[0] for _ in range(2)] == ["state", "stage"]
    await end(other, inside.alice)
    async with asyncio.timeout(20):  # a second, where nothing else keeps the machine busy
        async for _ in stream:
            pass


async def _who(portal: Portal, inside: Inside) -> tuple[User, Login]:
    found = await portal.platform.logins.authenticate(inside.alice.http.cookies["lp_login"], portal.world.clock())
    assert found is not None
    return found


async def test_a_browser_that_follows_too_many_instances_is_told_so(tmp_path: Path) -> None:
    async with open_api(tmp_path, {"web": {"streams_per_login": 1}}) as portal:
        inside = await _inside(portal)
        user, login = await _who(portal, inside)
        events = portal.platform.events
        follower = await events.open(user, login, await portal.platform.instances.get(inside.instance_id, user))
        assert "launchpad_event_streams 1.0" in (await portal.visitor("127.0.0.1").call("GET", "/metrics")).text
        path = f"/instances/{inside.instance_id}/events"
        refused = await inside.alice.call("GET", path)
        assert problem(refused, 429, "too-many-streams")["title"] == "Too many live pages"
        assert int(refused.headers["Retry-After"]) > 0
        events.close(follower)
        await inside.alice.call("POST", f"/instances/{inside.instance_id}/stop")
        await reaches(portal.platform, inside.instance_id, State.STOPPED)
        assert (await inside.alice.call("GET", path)).status_code == 200


async def test_a_stream_whose_reader_has_gone_is_given_up(portal: Portal) -> None:
    """At once, although nothing is sent to it."""
    inside = await _inside(portal)
    user, login = await _who(portal, inside)
    events = portal.platform.events
    follower = await events.open(user, login, await portal.platform.instances.get(inside.instance_id, user))
    gone = asyncio.Event()
    sent: list[Message] = []

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    streaming = asyncio.create_task(EventStream(events, follower)(scope, receive, send))
    while len(sent) < 2:
        await asyncio.sleep(0.01)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert headers == {"content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"}
    assert [kind for kind, _ in events_in(sent[1]["body"].decode())][:2] == ["state", "stage"]
    assert len(events) == 1
    gone.set()
    await asyncio.wait_for(streaming, 20)
    assert len(events) == 0
