"""When snapshots are taken, and what comes back from them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from launchpad.domain.limits import Quota
from launchpad.domain.snapshots import Cause, Snapshot
from launchpad.domain.users import Role, User
from launchpad.errors import Conflict, HomeUnavailable, NoRoom, NotFound
from launchpad.platform import Platform
from launchpad.services import snapshots as service
from launchpad.services.snapshots import SnapshotService, beside
from launchpad.services.users import UserChange
from launchpad.settings import SnapshotSettings, tables
from launchpad.storage.plain import PlainHomes
from support.platforms import ACTOR, World, sign_in
from support.snapshots import CopiedSnapshots

pytestmark = [pytest.mark.root]  # files are their owners'


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    world.snapshots = CopiedSnapshots(world.homes_root, SnapshotSettings(hourly=2, daily=0, weekly=0), world.clock)
    yield world
    await world.close()


def copied(world: World) -> CopiedSnapshots:
    assert isinstance(world.snapshots, CopiedSnapshots)
    return world.snapshots


async def person(world: World, platform: Platform, name: str) -> User:
    """Somebody with a home and a file in it."""
    user, _ = await sign_in(platform, f"{name}@example.org")
    await PlainHomes(world.homes_root).prepare(user.username, user.uid, None)
    write(world, user, "a", b"1")
    return user


def write(world: World, user: User, path: str, content: bytes) -> None:
    file = world.homes_root / user.username / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    for one in (file.parent, file):
        os.chown(one, user.uid, user.uid)


def service_of(world: World, platform: Platform, **settings: object) -> SnapshotService:
    return SnapshotService(
        platform.database,
        tables({**world.settings, "snapshots": settings}),
        copied(world),
        platform.homes,
        platform.files._files,
        pause_seconds=0,
    )


async def test_everybody_has_a_turn_every_hour_and_one_that_fails_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "AT_ONCE", 2)
    platform = await world.open()
    people = [await person(world, platform, name) for name in ("anna", "bert", "carl", "dora", "emil")]
    one = service_of(world, platform)
    copied(world).fails.add("bert")
    world.clock.now = datetime(2026, 11, 27, 10, 5, tzinfo=UTC)
    assert [await one.run(world.clock.now) for _ in range(5)] == [1, 2, 1, 0, 0]
    assert copied(world).asked == ["anna", "bert", "carl", "dora", "emil"], "once each"
    world.clock.now += timedelta(hours=1)
    write(world, people[2], "a", b"2")
    copied(world).fails.clear()
    assert [await one.run(world.clock.now) for _ in range(4)] == [1, 1, 0, 0], "of those that have changed"
    assert [len(await one.of(user)) for user in people] == [1, 1, 2, 1, 1]
    assert [found.taken_at.hour for found in await one.of(people[2])] == [11, 10], "the newest first"
    world.clock.now += timedelta(hours=1)
    write(world, people[2], "a", b"3")
    assert [await one.run(world.clock.now) for _ in range(3)] == [0, 1, 0]
    assert [found.taken_at.hour for found in await one.of(people[2])] == [12, 11], "and thinned"


async def test_a_round_that_is_late_goes_on_where_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else those at the end of the alphabet would never have a turn on a slow server."""
    monkeypatch.setattr(service, "AT_ONCE", 1)
    platform = await world.open()
    for name in ("anna", "bert", "carl"):
        await person(world, platform, name)
    one = service_of(world, platform)
    for _ in range(3):
        await one.run(world.clock.now)
        world.clock.now += timedelta(hours=1)
    assert copied(world).asked == ["anna", "bert", "carl"]


async def test_while_nobody_can_be_reached_it_is_tried_again(world: World) -> None:
    platform = await world.open()
    user = await person(world, platform, "anna")
    one = service_of(world, platform)
    copied(world).fails.add("anna")
    for _ in range(2):
        with pytest.raises(HomeUnavailable):
            await one.run(world.clock.now)
    copied(world).fails.clear()
    assert await one.run(world.clock.now) == 1
    assert len(await one.of(user)) == 1


async def test_turned_off_none_are_taken_and_those_there_are_stay(world: World) -> None:
    platform = await world.open()
    user = await person(world, platform, "anna")
    assert await service_of(world, platform).run(world.clock.now) == 1
    off = service_of(world, platform, enabled=False)
    world.clock.now += timedelta(hours=1)
    write(world, user, "a", b"2")
    assert await off.run(world.clock.now) == 0
    assert await off.before_change(user) is None
    assert len(await off.of(user)) == 1
    obstacle = await off.obstacle()
    assert obstacle is not None
    assert "turned off" in obstacle.why


async def test_one_is_taken_before_an_administrator_changes_the_limit_of_a_home(world: World) -> None:
    platform = await world.open()
    user = await person(world, platform, "anna")
    await platform.users.change(user.id, UserChange(role=Role.USER, lab="Physics"), ACTOR, platform.now())
    await platform.users.change(user.id, UserChange(quota=Quota(instances=3)), ACTOR, platform.now())
    assert list(await platform.snapshots.of(user)) == [], "these change nothing about the home"
    await platform.users.change(user.id, UserChange(quota=Quota(storage_bytes=10**9)), ACTOR, platform.now())
    assert [found.cause for found in await platform.snapshots.of(user)] == [Cause.BEFORE]
    copied(world).fails.add("anna")
    write(world, user, "a", b"2")
    changed = await platform.users.change(user.id, UserChange(quota=Quota()), ACTOR, platform.now())
    assert changed.quota == Quota(), "it removes no file, so it goes on where none can be taken"
    with pytest.raises(NotFound):
        await platform.users.change("nobody", UserChange(quota=Quota(storage_bytes=1)), ACTOR, platform.now())


async def test_what_is_restored_stands_beside_with_the_date_or_in_place(world: World) -> None:
    platform = await world.open()
    user = await person(world, platform, "anna")
    user = await platform.users.set_time_zone(user, "Asia/Singapore")
    write(world, user, "work/data.tar.gz", b"then")
    world.clock.now = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
    assert await service_of(world, platform).run(world.clock.now) == 1
    (found,) = await platform.snapshots.of(user)
    write(world, user, "work/data.tar.gz", b"now")
    now = platform.now()
    for number in ("", " 2"):
        told = await platform.snapshots.restore(user, found.name, "work/data.tar.gz", now, in_place=False)
        assert told["path"] == f"work/data.tar (2026-11-24 14.00){number}.gz"
    home = world.homes_root / "anna"
    assert (home / "work/data.tar.gz").read_bytes() == b"now"
    assert (home / "work/data.tar (2026-11-24 14.00).gz").read_bytes() == b"then"
    told = await platform.snapshots.restore(user, found.name, "work/data.tar.gz", now, in_place=True)
    assert (home / "work/data.tar.gz").read_bytes() == b"then"
    trash = await platform.files.trash(user, now)
    assert [(one["path"], one["id"]) for one in trash["entries"]] == [("work/data.tar.gz", told["trashed"])]
    with pytest.raises(NotFound):
        await platform.snapshots.restore(user, "20200101T000000Z", "work", now, in_place=True)
    with pytest.raises(NotFound):
        await platform.snapshots.restore(user, "../bert", "work", now, in_place=True)
    with pytest.raises(NotFound):
        await platform.snapshots.restore(user, found.name, "never", now, in_place=False)
    write(world, user, "x" * 250, b"1")
    world.clock.now += timedelta(hours=1)
    assert await service_of(world, platform).run(world.clock.now) == 1
    newest = (await platform.snapshots.of(user))[0].name
    with pytest.raises(Conflict, match="too long"):
        await platform.snapshots.restore(user, newest, "x" * 250, platform.now(), in_place=False)


async def test_h5_a_restore_beyond_the_limit_is_not_there(world: World) -> None:
    platform = await world.open()
    user = await person(world, platform, "anna")
    assert await service_of(world, platform).run(world.clock.now) == 1
    (found,) = await platform.snapshots.of(user)
    write(world, user, "a", b"now")
    world.home_limits["anna"], world.home_use["anna"] = 100, 101
    for in_place in (True, False):
        with pytest.raises(NoRoom):
            await platform.snapshots.restore(user, found.name, "a", platform.now(), in_place=in_place)
    assert sorted(os.listdir(world.homes_root / "anna")) == [".local", "a"]
    assert (world.homes_root / "anna/a").read_bytes() == b"now"
    world.home_use["anna"] = 100
    await platform.snapshots.restore(user, found.name, "a", platform.now(), in_place=True)
    assert (world.homes_root / "anna/a").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data.csv", "data (2026-11-24 09.00).csv"),
        ("a/b", "a/b (2026-11-24 09.00)"),
        ("a/.bashrc", "a/.bashrc (2026-11-24 09.00)"),
        ("", "Home folder (2026-11-24 09.00)"),
    ],
)
def test_the_name_of_a_copy(path: str, name: str) -> None:
    at = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
    assert beside(path, at) == name
    assert Snapshot(at).name == "20261124T090000Z"
