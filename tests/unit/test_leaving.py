"""People who leave: warned with dates, archived, and nothing removed unless it is in a verified archive."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from launchpad.domain.instances import State
from launchpad.domain.leaving import (
    HomeWork,
    Leaving,
    LeavingCause,
    WorkKind,
    WorkState,
    due_warning,
    is_archive_due,
    is_removal_due,
    left_in_words,
    warned,
)
from launchpad.domain.users import User, UserStatus
from launchpad.errors import Conflict, InvalidInput, NotFound
from launchpad.platform import Platform
from launchpad.services.audit import Actor
from launchpad.services.users import UserChange
from launchpad.settings import tables
from launchpad.store import audit, home_archives, home_work, leaving
from support.databases import on_every_database
from support.homes import archive_row
from support.platforms import START, World, launch, reaches, sign_in

WARNINGS = tuple(timedelta(days=days) for days in (30, 7, 1))
DAY = timedelta(days=1)


def left(**more: Any) -> Leaving:
    return replace(Leaving("u", LeavingCause.SUSPENDED, START, archive_at=START + 180 * DAY), **more)


# -- when what is due --------------------------------------------------------------------------------------------------


def test_each_warning_is_due_once_and_what_was_missed_is_not_made_up_for() -> None:
    one, sent = left(), []
    for day in range(181):
        now = START + day * DAY
        while (before := due_warning(one, WARNINGS, now)) is not None:
            one = warned(one, before, WARNINGS, now)
            sent.append((day, before.days))
    assert sent == [(150, 30), (173, 7), (179, 1)]
    assert one.archive_at == START + 180 * DAY
    late = left()
    now = START + 174 * DAY  # the server stood still meanwhile
    before = due_warning(late, WARNINGS, now)
    assert before == 7 * DAY
    late = warned(late, before, WARNINGS, now)
    assert due_warning(late, WARNINGS, now) is None


def test_nothing_is_archived_without_a_warning_in_time() -> None:
    now = START + 400 * DAY  # nobody was there for a year
    one = left()
    assert not is_archive_due(one, now)
    before = due_warning(one, WARNINGS, now)
    assert before is not None
    one = warned(one, before, WARNINGS, now)
    assert one.archive_at == now + DAY
    assert not is_archive_due(one, now + DAY / 2)
    assert is_archive_due(one, now + DAY)
    assert not is_archive_due(replace(one, archived_at=now), now + DAY)
    assert due_warning(replace(one, archived_at=now), WARNINGS, now + DAY) is None
    assert due_warning(left(archive_at=None), WARNINGS, now) is None


def test_a_home_is_removed_by_itself_only_where_that_was_said_and_there_is_an_archive() -> None:
    archived = left(archive_id="a", archived_at=START, remove_home_at=START + 14 * DAY)
    assert is_removal_due(archived, START + 14 * DAY)
    assert not is_removal_due(archived, START + 13 * DAY)
    assert not is_removal_due(replace(archived, remove_home_at=None), START + 14 * DAY)
    assert not is_removal_due(replace(archived, archive_id=None), START + 14 * DAY)
    assert not is_removal_due(replace(archived, home_removed_at=START), START + 14 * DAY)


def test_what_is_left_out_is_told_in_words() -> None:
    assert left_in_words({}) == ""
    assert left_in_words({"socket": 2, "device": 0}, 3) == "sockets: 2, files that changed while they were read: 3"


def test_settings_of_leaving() -> None:
    settings = tables({"homes": {"root": "/srv/homes"}, "leaving": {"warn_days_before": [1, 30, 7, 7]}})
    assert settings.leaving.warn_days_before == (30, 7, 1)
    assert str(settings.archive_folder) == "/srv/homes/.launchpad-archives"
    assert not settings.leaving.remove_home, "nothing is removed unless somebody says so"
    assert str(tables({"leaving": {"archive_folder": "/mnt/a"}}).archive_folder) == "/mnt/a"


# -- the store ---------------------------------------------------------------------------------------------------------


@on_every_database
async def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    platform = await world.open()
    try:
        one = left(warned_before=7 * DAY, warned_at=START, reason="moved away", archive_id="x", remove_home_at=START)
        async with platform.database.transaction() as db:
            await leaving.put(db, one)
            await leaving.put(db, replace(one, reason="moved on"))
            assert await leaving.of(db, "u") == replace(one, reason="moved on")
            assert list(await leaving.to_look_at(db, START + 180 * DAY, START, 10)) == [replace(one, reason="moved on")]
            assert await leaving.to_look_at(db, START + 179 * DAY, START - DAY, 10) == []
            assert await leaving.of_all(db, ["u", "v"]) == {"u": replace(one, reason="moved on")}
            await leaving.drop(db, "u")
            assert await leaving.of(db, "u") is None
            first = HomeWork("w1", WorkKind.ARCHIVE, "u", START, "system", is_automatic=True)
            await home_work.add(db, first)
            await home_work.add(db, replace(first, id="w2", asked_at=START + DAY, kind=WorkKind.COPY, reason="r"))
            assert await home_work.next_queued(db) == first
            assert await home_work.begin(db, "w1", START)
            assert not await home_work.begin(db, "w1", START), "nobody begins it twice"
            await home_work.progress(db, "w1", "archiving", 7, 2**40)
            assert await home_work.queue_again(db) == 1
            again = await home_work.by_id(db, "w1")
            assert again == first, "as if nothing had begun"
            await home_work.end(db, "w1", WorkState.FAILED, "x" * 2000, START)
            assert [each.id for each in await home_work.open_of_user(db, "u")] == ["w2"]
            assert [each.id for each in await home_work.of_user(db, "u", 5)] == ["w2", "w1"]
            await home_work.prune(db, START + DAY)
            assert [each.id for each in await home_work.of_user(db, "u", 5)] == ["w2"]
    finally:
        await world.close()


# -- the whole life ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def left_world(tmp_path: Path) -> AsyncIterator[tuple[World, Platform, User, User]]:
    """An administrator and anna, who has a home with a file in it and runs nothing."""
    world = World(tmp_path, {"leaving": {"archive_after_days": 60, "remove_home": True, "remove_home_after_days": 14}})
    platform = await world.open()
    admin, _ = await sign_in(platform, "admin@example.org")
    anna, _ = await sign_in(platform, "anna@example.org")
    instance = await launch(platform, anna)
    await reaches(platform, instance.id, State.RUNNING)
    await platform.instances.stop(instance.id, anna, Actor.of(anna, "test"), platform.now())
    await reaches(platform, instance.id, State.STOPPED)
    put(world, "anna", anna.uid)
    try:
        yield world, platform, admin, anna
    finally:
        await world.close()


def put(world: World, name: str, uid: int, file: str = "file", content: bytes = b"kept") -> None:
    path = world.homes_root / name / file
    path.write_bytes(content)
    os.chown(path, uid, uid)


async def letters(world: World, platform: Platform, to: str) -> list[str]:
    """The subjects of what was sent to somebody since the codes."""
    await platform.mail.drain()
    return [str(one["Subject"]) for one in world.letters.sent if one["To"] == to and "code" not in str(one["Subject"])]


async def days(world: World, platform: Platform, number: int) -> None:
    """Each with a look, and with all that is to be done then."""
    for _ in range(number):
        world.clock.now += DAY
        await platform.leaving.look(platform.now())
        while await platform.home_work.run_next(platform.now):
            pass


async def ledger_of(platform: Platform, user: User) -> list[tuple[str, str]]:
    async with platform.database.reading() as db:
        found = await audit.page(db, limit=200)
    return [(one.action, one.actor) for one in reversed(found) if one.owner_id == user.id]


@pytest.mark.root
@pytest.mark.slow  # archives a home, removes it, restores it
async def test_h7_a_suspended_users_home_is_archived_after_three_warnings_then_removed_and_comes_back(
    left_world: tuple[World, Platform, User, User],
) -> None:
    world, platform, admin, anna = left_world
    home = world.homes_root / "anna"
    await platform.users.change(
        anna.id, UserChange(status=UserStatus.SUSPENDED), Actor.of(admin, "192.0.2.1"), platform.now()
    )
    await days(world, platform, 29)
    assert await letters(world, platform, anna.email) == []
    await days(world, platform, 31)
    subjects = await letters(world, platform, anna.email)
    assert len(subjects) == 4
    assert all("will be archived on" in one for one in subjects[:3])
    assert "Friday, 1 May 2026" in subjects[0], "the date stands in it"
    assert "was archived" in subjects[3]
    one = await platform.leaving.of(anna)
    assert one is not None
    assert one.archived_at is not None
    assert (home / "file").read_bytes() == b"kept", "an archive changes nothing"
    await days(world, platform, 13)
    assert home.exists()
    await days(world, platform, 2)
    assert not home.exists()
    assert "removed" in (await letters(world, platform, anna.email))[4]
    entries = await ledger_of(platform, anna)
    assert entries[-2:] == [("home.archived", "system"), ("home.removed", "system")]
    await days(world, platform, 30)
    assert len(await letters(world, platform, anna.email)) == 5, "nothing more is due"

    await platform.users.change(
        anna.id, UserChange(status=UserStatus.ACTIVE), Actor.of(admin, "192.0.2.1"), platform.now()
    )
    with pytest.raises(Conflict, match="archived and must be restored"):
        await launch(platform, anna)
    assert (await platform.home_work.run_next(platform.now)).state is WorkState.DONE  # type: ignore[union-attr]
    assert (home / "file").read_bytes() == b"kept"
    assert await platform.leaving.of(anna) is None
    await reaches(platform, (await launch(platform, anna)).id, State.RUNNING)
    assert ("home.restored", admin.email) in await ledger_of(platform, anna)


@pytest.mark.root
async def test_who_is_reactivated_in_time_keeps_everything_and_is_never_archived(
    left_world: tuple[World, Platform, User, User],
) -> None:
    world, platform, admin, anna = left_world
    actor = Actor.of(admin, "192.0.2.1")
    await platform.users.change(anna.id, UserChange(status=UserStatus.SUSPENDED), actor, platform.now())
    await days(world, platform, 59)
    await platform.users.change(anna.id, UserChange(status=UserStatus.ACTIVE), actor, platform.now())
    await days(world, platform, 30)
    assert await platform.home_work.archives_of(anna) == []
    assert await platform.leaving.of(anna) is None
    await platform.users.change(anna.id, UserChange(status=UserStatus.SUSPENDED), actor, platform.now())
    again = await platform.leaving.of(anna)
    assert again is not None
    assert again.since_at == platform.now(), "it begins anew"


@pytest.mark.root
@pytest.mark.slow  # archives a home
async def test_an_administrator_removes_a_user_and_the_home_only_as_it_was_archived(
    left_world: tuple[World, Platform, User, User],
) -> None:
    world, platform, admin, anna = left_world
    actor, now = Actor.of(admin, "192.0.2.1"), platform.now()
    with pytest.raises(Conflict, match="yourself"):
        await platform.leaving.remove(admin, None, "", actor, now)
    with pytest.raises(InvalidInput, match="passed"):
        await platform.leaving.remove(anna, now - DAY, "", actor, now)
    one = await platform.leaving.remove(anna, None, "moved to another institute", actor, now)
    assert (one.cause, one.reason) == (LeavingCause.REMOVED, "moved to another institute")
    assert one.archive_at == now + 30 * DAY
    assert not (await platform.users.get(anna.id)).is_active
    assert len(await letters(world, platform, anna.email)) == 1, "the warning of 30 days is due at once"
    anna = await platform.users.get(anna.id)
    work = await platform.home_work.ask(WorkKind.ARCHIVE, anna, actor, platform.now())
    assert await platform.home_work.ask(WorkKind.ARCHIVE, anna, actor, platform.now()) == work, "asked twice, done once"
    done = await platform.home_work.run_next(platform.now)
    assert done is not None
    assert done.state is WorkState.DONE
    archive = (await platform.home_work.archives_of(anna))[0]
    assert archive.verified_at is not None
    put(world, "anna", anna.uid, "later")
    await platform.home_work.ask(WorkKind.REMOVE, anna, actor, platform.now(), archive_id=archive.id)
    failed = await platform.home_work.run_next(platform.now)
    assert failed is not None
    assert failed.state is WorkState.FAILED
    assert "changed since" in failed.detail
    assert (world.homes_root / "anna" / "later").exists()


@pytest.mark.root
async def test_work_that_cannot_be_is_refused_before_it_begins(
    left_world: tuple[World, Platform, User, User],
) -> None:
    _, platform, admin, anna = left_world
    actor, now, work = Actor.of(admin, "192.0.2.1"), platform.now(), platform.home_work
    with pytest.raises(NotFound):
        await work.ask(WorkKind.RESTORE, anna, actor, now, archive_id="none")
    with pytest.raises(InvalidInput, match="which archive"):
        await work.ask(WorkKind.RESTORE, anna, actor, now)
    with pytest.raises(InvalidInput, match="reason"):
        await work.ask(WorkKind.COPY, anna, actor, now, to=admin, reason=" ")
    with pytest.raises(InvalidInput, match="can sign in"):
        await work.ask(WorkKind.COPY, anna, actor, now, reason="for the project")
    async with platform.database.transaction() as db:
        await home_archives.add(db, archive_row(anna.id, anna.username, anna.uid, now))
    with pytest.raises(Conflict, match="suspended user"):
        await work.ask(WorkKind.REMOVE, anna, actor, now, archive_id="archive1")
    with pytest.raises(NotFound):
        await work.ask(WorkKind.VERIFY, admin, actor, now, archive_id="archive1")
    assert await platform.home_work.of_user(anna) == []


@pytest.mark.root
async def test_a_copy_stands_in_the_owners_ledger_with_its_reason(
    left_world: tuple[World, Platform, User, User],
) -> None:
    world, platform, admin, anna = left_world
    put(world, "anna", anna.uid, "data", b"results")
    await reaches(platform, (await launch(platform, admin)).id, State.RUNNING)  # has a home by that
    actor = Actor.of(admin, "192.0.2.1")
    await platform.home_work.ask(WorkKind.COPY, anna, actor, platform.now(), to=admin, reason="hand-over")
    done = await platform.home_work.run_next(platform.now)
    assert done is not None
    assert done.state is WorkState.DONE, done.detail
    (folder,) = (world.homes_root / admin.username).glob("Files of anna*")
    assert (folder / "data").read_bytes() == b"results"
    assert (folder / "data").stat().st_uid == admin.uid
    async with platform.database.reading() as db:
        entry = next(one for one in await audit.page(db, limit=50) if one.action == "home.copied")
    assert entry.owner_id == anna.id
    assert entry.details["reason"] == "hand-over"
    assert entry.details["given to"] == admin.email


async def test_work_of_a_process_that_is_gone_is_begun_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    platform = await world.open()
    try:
        user, _ = await sign_in(platform, "anna@example.org")
        asked = await platform.home_work.ask(WorkKind.ARCHIVE, user, Actor("test"), platform.now())
        async with platform.database.transaction() as db:
            assert await home_work.begin(db, asked.id, platform.now())
        assert await platform.home_work.run_next(platform.now) is None
        await platform.home_work.begin_anew(platform.now())
        ended = await platform.home_work.run_next(platform.now)
        assert ended is not None
        assert (ended.state, ended.detail) == (WorkState.FAILED, "There is no such home folder.")
    finally:
        await world.close()
