"""Event streams: pushed, shared, bounded, and ended with what they are about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from launchpad.domain.instances import Instance, State
from launchpad.domain.signin import Login
from launchpad.domain.users import User, UserStatus
from launchpad.errors import StoreUnavailable, TooManyStreams
from launchpad.platform import Platform
from launchpad.runtime.base import Usage
from launchpad.services.freezing import DRAIN
from launchpad.services.live import followers, streams
from launchpad.services.live.followers import HEARTBEAT, Follower, differs
from launchpad.services.live.usage import Sample
from launchpad.services.logins import Client
from launchpad.services.users import UserChange
from support.events import events_in
from support.platforms import ACTOR, World, keep_current, launch, reaches, sign_in

MOST = 3
PATIENCE_SECONDS = 20
GB = 1024**3


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, {"web": {"streams_per_login": MOST}})
    yield world
    await world.close()


class Desk:
    """Alice, with a running instance, at a portal that is told of changes."""

    def __init__(self, world: World, platform: Platform, user: User, login: Login, instance: Instance) -> None:
        self.world, self.platform = world, platform
        self.user, self.login, self.instance = user, login, instance

    async def open(self, login: Login | None = None) -> Follower:
        return await self.platform.events.open(self.user, login or self.login, self.instance)

    async def now(self) -> Instance:
        return await self.platform.instances.get_any(self.instance.id)


@pytest.fixture
async def desk(world: World) -> Desk:
    platform = await world.open()
    await keep_current(world, platform)
    return await _desk(world, platform)


async def _desk(world: World, platform: Platform) -> Desk:
    user, secret = await sign_in(platform, "alice@a.org")
    found = await platform.logins.authenticate(secret, world.clock())
    assert found is not None
    instance = await launch(platform, user)
    return Desk(world, platform, *found, await reaches(platform, instance.id, State.RUNNING))


async def _next(follower: Follower, kind: str, **has: Any) -> dict[str, Any]:
    """The next event of a kind that has these values."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while part := await follower.read():
            for event, data in events_in(part.decode()):
                if event == kind and all(data[name] == value for name, value in has.items()):
                    return dict(data)
    raise AssertionError("the stream has ended")


async def _to_the_end(follower: Follower) -> list[tuple[str, Any]]:
    told = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while part := await follower.read():
            told += events_in(part.decode())
    return told


@pytest.mark.slow  # waits for a clock
async def test_a_change_is_put_into_words_once_for_all_who_follow(desk: Desk) -> None:
    readers = [await desk.open() for _ in range(MOST)]
    first = [await reader.read() for reader in readers]
    assert len(set(first)) == 1
    await desk.platform.instances.extend(desk.instance.id, desk.user, 1, ACTOR, desk.world.clock())
    until = (await desk.now()).expires_at.isoformat().replace("+00:00", "Z")
    for reader in readers:
        assert (await _next(reader, "state", expires_at=until))["state"] == "running"


async def test_a_change_of_another_process_is_pushed_too(desk: Desk) -> None:
    reader = await desk.open()
    other = await desk.world.open()
    await other.instances.stop(desk.instance.id, desk.user, ACTOR, desk.world.clock())
    told = await _to_the_end(reader)
    assert [data["state"] for kind, data in told if kind == "state"][-1] == "stopped"
    assert told[-1] == ("stage", {"stage": "ended", "state": "stopped", "queue_position": None, "queue_text": None})


@pytest.mark.slow  # waits for a clock
async def test_freezing_thawing_and_keeping_are_pushed(desk: Desk) -> None:
    """None of them changes the state of the row; the card and the API's clients have to see it all the same."""
    reader = await desk.open()
    now = desk.world.clock
    await desk.platform.freezing.freeze(desk.instance.id, now(), "by its owner")
    now.now += DRAIN
    await desk.platform.freezing.tend(now())
    assert (await _next(reader, "state", state="frozen"))["frozen_reason"] == "by its owner"
    await desk.platform.freezing.thaw(desk.instance.id, now())
    assert (await _next(reader, "state", state="running"))["frozen_at"] is None
    kept = await desk.platform.keeping.keep(await desk.now(), 2, ACTOR, now())
    assert kept.kept_until is not None
    await _next(reader, "state", kept_until=kept.kept_until.isoformat().replace("+00:00", "Z"))


@pytest.mark.slow
async def test_a_place_in_the_queue_is_told_when_it_changes(tmp_path: Path) -> None:
    world = World(tmp_path, {"capacity": {"cpus": 1, "memory": "1g"}, "limits": {"memory": ["1g"], "cpus": [1]}})
    platform = await world.open()
    await keep_current(world, platform)
    desk = await _desk(world, platform)
    waiting = []
    for name in ("bob", "carla"):
        user, _ = await sign_in(platform, f"{name}@a.org")
        world.clock.now += timedelta(seconds=1)
        waiting.append((user, await launch(platform, user)))
    reader = await platform.events.open(waiting[1][0], None, waiting[1][1])
    assert (await _next(reader, "stage"))["queue_position"] == 2
    await platform.instances.stop(waiting[0][1].id, waiting[0][0], ACTOR, world.clock())
    assert (await _next(reader, "stage", queue_position=1))["state"] == "queued"
    await platform.instances.stop(desk.instance.id, desk.user, ACTOR, world.clock())
    assert (await _next(reader, "state", state="running"))["queue_position"] is None
    await world.close()


async def test_a_login_follows_a_limited_number_and_another_one_as_many(desk: Desk) -> None:
    readers = [await desk.open() for _ in range(MOST)]
    with pytest.raises(TooManyStreams) as refused:
        await desk.open()
    assert (refused.value.status, refused.value.code) == (429, "too-many-streams")
    _, secret = await sign_in(desk.platform, "alice@a.org")
    found = await desk.platform.logins.authenticate(secret, desk.world.clock())
    assert found is not None
    readers.append(await desk.open(found[1]))
    assert len(desk.platform.events) == MOST + 1
    desk.platform.events.close(readers[0])
    readers.append(await desk.open())
    for reader in readers[1:]:
        desk.platform.events.close(reader)
    assert len(desk.platform.events) == 0
    assert not desk.platform.events._channels
    assert not desk.platform.events._of_user
    assert not desk.platform.events._of_login


async def test_a_stream_that_could_not_be_opened_does_not_count(desk: Desk) -> None:
    await desk.world.end_background(desk.platform)  # what reads the table would fail, and the watcher with it
    await keep_current(desk.world, desk.platform)
    await desk.world.change("ALTER TABLE instances RENAME TO elsewhere")
    desk.platform.live.instances._unknown = True
    for _ in range(MOST + 1):
        with pytest.raises(StoreUnavailable):
            await desk.open()
    await desk.world.change("ALTER TABLE elsewhere RENAME TO instances")
    assert len(desk.platform.events) == 0
    assert (await desk.open()).has_ended is False


@pytest.mark.parametrize("watched", [True, False])
async def test_streams_end_when_their_reader_is_signed_out_or_suspended_elsewhere(world: World, watched: bool) -> None:
    """Where nobody watches for changes of others, the streams' own clock sees to it."""
    platform = await world.open()
    if watched:
        await keep_current(world, platform)
    else:
        world.run(platform, *(loop for loop in platform.background.loops if loop.name == "event-streams"))
    desk = await _desk(world, platform)
    other = await world.open()
    by_browser, by_program = await desk.open(), await platform.events.open(desk.user, None, desk.instance)
    await other.logins.sign_out(desk.user, desk.login, Client("x"), world.clock())
    await _to_the_end(by_browser)
    assert not by_program.has_ended, "a token outlives a browser's login"
    await other.users.change(desk.user.id, UserChange(status=UserStatus.SUSPENDED), ACTOR, world.clock())
    await _to_the_end(by_program)


async def test_streams_end_with_the_time_of_their_login(desk: Desk) -> None:
    reader = await desk.open()
    desk.platform.events.tick(100.0)
    desk.world.clock.now = desk.login.expires_at
    desk.platform.events.tick(200.0)
    await _to_the_end(reader)


async def test_use_of_a_login_keeps_its_streams(desk: Desk) -> None:
    """Although they were opened so long ago that the login as it was then would be idle by now."""
    reader = await desk.open()
    desk.world.clock.now = desk.login.last_seen_at + timedelta(hours=11)
    desk.platform.last_seen.login(desk.login.id, desk.user.id, desk.world.clock())
    await desk.platform.last_seen.settle()
    desk.world.clock.now = desk.login.last_seen_at + timedelta(hours=13)
    desk.platform.events.tick(100.0)
    await _idle(desk)
    assert not reader.has_ended
    desk.world.clock.now = desk.login.last_seen_at + timedelta(hours=24)
    desk.platform.events.tick(200.0)
    await _to_the_end(reader)


async def _idle(desk: Desk) -> None:
    """Until the streams have seen to everything."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while desk.platform.events._working is not None:
            await asyncio.sleep(0.01)


async def test_what_went_wrong_is_told_to_the_supervisor_and_made_up_for(desk: Desk) -> None:
    reader = await desk.open()
    await _next(reader, "stage")
    await desk.world.change("ALTER TABLE instances RENAME TO elsewhere")
    desk.platform.events._doubt_all()
    desk.platform.live.instances._unknown = True
    desk.platform.events.tick(100.0)
    await _idle(desk)
    with pytest.raises(StoreUnavailable):
        desk.platform.events.tick(100.1)
    await _idle(desk)
    assert not reader.has_ended
    await desk.world.change("ALTER TABLE elsewhere RENAME TO instances")
    await desk.platform.instances.stop(desk.instance.id, desk.user, ACTOR, desk.world.clock())
    told = await _to_the_end(reader)
    assert [data["state"] for kind, data in told if kind == "state"][-1] == "stopped"


async def test_heartbeats_are_spread_over_their_time(desk: Desk) -> None:
    readers = [await desk.open() for _ in range(MOST)]
    for reader in readers:
        await reader.read()
    ticks = int(streams.HEARTBEAT_SECONDS / streams.TICK_SECONDS)
    most_at_once = 0
    beaten: list[Follower] = []
    for _ in range(ticks):
        desk.platform.events._beat_some()
        now = [reader for reader in readers if reader._messages]
        most_at_once = max(most_at_once, len(now))
        for reader in now:
            assert await reader.read() == HEARTBEAT
            beaten.append(reader)
    assert most_at_once == 1
    assert len(beaten) in (MOST - 1, MOST)
    assert len(set(beaten)) == len(beaten)


async def test_who_does_not_read_is_given_up(desk: Desk) -> None:
    reader = await desk.open()
    for _ in range(followers.BEHIND_MOST + 1):
        reader.push(b"event: usage\ndata: {}\n\n")
    told = await _to_the_end(reader)
    assert len(told) == followers.BEHIND_MOST


def test_numbers_that_hardly_differ_are_not_told() -> None:
    told = Sample(Usage(GB, 100.0, 7), 1000.0, 0.0, GB)

    def later(seconds: float = 5.0, **use: Any) -> Sample:
        return replace(told, at=told.at + seconds, usage=replace(told.usage, **use))

    assert not differs(later(), told, 4 * GB)
    assert not differs(later(memory_bytes=GB + 2**20, cpu_seconds=100.2), told, 4 * GB)
    assert differs(told, None, 4 * GB)
    assert differs(later(memory_bytes=GB + 4 * GB // 200), told, 4 * GB)
    assert differs(later(cpu_seconds=100.6), told, 4 * GB)
    assert differs(later(cpu_seconds=1.0), told, 4 * GB)
    assert differs(later(pids=8), told, 4 * GB)
    assert differs(later(seconds=followers.USAGE_SILENT_SECONDS), told, 4 * GB)
