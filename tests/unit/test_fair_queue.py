"""The fair queue over a real database: whose turn comes, what they are told, who is dropped, what labs may have."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import pytest

from launchpad.domain.instances import LIVE, Instance, Stage, State
from launchpad.domain.lab_capacity import LabCapacity
from launchpad.domain.naming import new_id
from launchpad.domain.users import Role, User, UserStatus
from launchpad.errors import Conflict, InvalidInput, QuotaExceeded
from launchpad.platform import Platform
from launchpad.runtime.fake import GB
from launchpad.services.audit import Actor
from launchpad.services.runner import utc_now
from launchpad.services.users import UserChange
from launchpad.store import instances, users
from support.databases import databases
from support.platforms import ACTOR, START, World, launch, reaches

T = TypeVar("T")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A server with places for two."""
    world = World(tmp_path, {"capacity": {"memory": "2g", "cpus": 1000}})
    yield world
    await world.close()


async def person(platform: Platform, name: str, lab: str | None = None) -> User:
    """Somebody who was never there, but in the table of users."""
    async with platform.database.transaction() as db:
        uid = (await users.highest_uid(db) or 300_000) + 1
        email = f"{name}@a.org"
        user = User(new_id(), email, name, uid, Role.USER, UserStatus.ACTIVE, lab, platform.now(), None)
        await users.add(db, user)
    return user


async def asks(world: World, platform: Platform, user: User, **size: Any) -> Instance:
    """One after the other, so that the order of arrival is known."""
    world.clock.now += timedelta(seconds=1)
    instance = await launch(platform, user, **size)
    await platform.admission.admit(world.clock())
    return await platform.instances.get_any(instance.id)


async def positions(platform: Platform, *found: Instance) -> list[int | None]:
    return [await platform.instances.queue_position(await platform.instances.get_any(one.id)) for one in found]


def letters_to(world: World, user: User) -> list[EmailMessage]:
    return [letter for letter in world.letters.sent if letter["To"] == user.email]


def text_of(letter: EmailMessage) -> str:
    body = letter.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


async def full(world: World, platform: Platform, lab: str | None = "Full", **size: Any) -> list[Instance]:
    """Both places are taken by one lab."""
    found = [await asks(world, platform, await person(platform, f"full{n}", lab), **size) for n in range(2)]
    return [await reaches(platform, one.id, State.RUNNING) for one in found]


@pytest.mark.slow
@pytest.mark.usefixtures("every_database")
async def test_the_lab_that_has_less_goes_first_and_everybody_is_told_so(world: World) -> None:
    """The position is the same for the page, the list of administrators, and another process."""
    platform = await world.open()
    running = await full(world, platform, "Rich")
    rich = await asks(world, platform, await person(platform, "rich", "Rich"))
    poor = await asks(world, platform, await person(platform, "poor", "Poor"))
    other = await world.open()
    for process in (platform, other):
        assert await positions(process, rich, poor) == [2, 1]
        assert [await process.live.instances.queue_position(one) for one in (rich, poor)] == [2, 1]
        listed = await process.listings.everyone(with_ended=False, limit=10, before=None)
        told = {one.instance.id: one.queue_position for one in listed if one.queue_position}
        assert told == {rich.id: 2, poor.id: 1}
    await platform.instances.stop_any(running[0].id, ACTOR, world.clock())
    await reaches(platform, poor.id, State.RUNNING)
    assert await positions(platform, rich) == [1]


@pytest.mark.slow
@pytest.mark.usefixtures("every_database")
async def test_what_a_lab_had_lately_counts_and_fades(world: World) -> None:
    """Two labs that have nothing now: the one that had the server before waits behind the other, for a while."""
    platform = await world.open()
    before = await full(world, platform, "Rich", days=7)
    world.clock.now += timedelta(days=2)
    for one in before:
        await platform.instances.stop_any(one.id, ACTOR, world.clock())
        await reaches(platform, one.id, State.STOPPED)
    held = dict(world.rows("SELECT holder, memory_bytes FROM recent_use"))
    assert held["lab:Rich"] == pytest.approx(2 * GB * (1 - 0.5 ** (2 / 3)), rel=0.01)
    assert held[f"user:{before[0].owner_id}"] == pytest.approx(held["lab:Rich"] / 2, rel=0.01)
    others = [await asks(world, platform, await person(platform, f"other{n}"), days=7) for n in range(2)]
    for one in others:
        await reaches(platform, one.id, State.RUNNING)
    rich = await asks(world, platform, await person(platform, "rich", "Rich"))
    poor = await asks(world, platform, await person(platform, "poor", "Poor"))
    assert await positions(platform, rich, poor) == [2, 1]


@pytest.mark.slow
async def test_a_start_after_long_is_told_by_mail_and_one_after_moments_is_not(world: World) -> None:
    platform = await world.open()
    running = await full(world, platform)
    patient, quick = await person(platform, "patient"), await person(platform, "quick")
    first = await asks(world, platform, patient)
    world.clock.now += HOUR
    second = await asks(world, platform, quick)
    for one in running:
        await platform.instances.stop_any(one.id, ACTOR, world.clock())
    for one in (first, second):
        started = await reaches(platform, one.id, State.RUNNING)
        assert started.expires_at == world.clock() + DAY, "the time waited is not taken off"
    await platform.mail.drain()
    (letter,) = letters_to(world, patient)
    assert "JupyterLab is starting" in str(letter["Subject"])
    assert f"/instances/{first.id}/open" in text_of(letter)
    assert "60 minutes ago" in text_of(letter)
    assert letters_to(world, quick) == []


@pytest.mark.slow
async def test_what_nobody_wants_any_more_is_dropped_with_a_mail_and_a_visit_keeps_it(world: World) -> None:
    platform = await world.open()
    await full(world, platform, days=7)
    gone, there = await person(platform, "gone"), await person(platform, "there")
    dropped, kept = await asks(world, platform, gone, days=7), await asks(world, platform, there)
    assert dropped.expires_at - dropped.created_at == DAY, "of a launch that queues, when it is dropped"
    world.clock.now += 20 * HOUR
    platform.last_seen.login("no-login", there.id, world.clock())
    await platform.last_seen.settle()
    world.clock.now += 5 * HOUR
    assert [(one.instance_id, one.action) for one in await platform.admission.admit(world.clock())] in (
        [(dropped.id, "expired")],
        [],  # the loop of admission was quicker
    )
    assert (await reaches(platform, dropped.id, State.EXPIRED)).reason == "its time ran out while it was queued"
    still = await platform.instances.get_any(kept.id)
    assert (still.state, still.expires_at - kept.created_at > 40 * HOUR) == (State.QUEUED, True)
    await platform.mail.drain()
    (letter,) = letters_to(world, gone)
    assert "removed from the queue" in str(letter["Subject"])
    assert f"/instances/{dropped.id}/open" in text_of(letter)
    assert letters_to(world, there) == []


@pytest.mark.slow
async def test_a_launch_that_queues_can_be_cancelled_at_any_time(world: World) -> None:
    platform = await world.open()
    await full(world, platform)
    ann = await person(platform, "ann")
    first, second = await asks(world, platform, ann), await asks(world, platform, await person(platform, "ben"))
    await platform.instances.stop(first.id, ann, Actor("ann"), world.clock())
    await platform.admission.admit(world.clock())
    assert (await platform.instances.get_any(first.id)).state is State.STOPPED
    assert await positions(platform, second) == [1]
    assert world.rows("SELECT count(*) FROM recent_use") == [(0,)], "what never started was never used"


@pytest.mark.slow
async def test_who_waits_is_told_when_known_ends_let_them_start(world: World) -> None:
    platform = await world.open()
    first, second = await full(world, platform, days=2)
    waiting = [await asks(world, platform, await person(platform, f"w{n}")) for n in range(3)]

    async def told() -> list[float | None]:
        await platform.admission.admit(world.clock())
        found = [(await platform.instances.get_any(one.id)).estimated_start_at for one in waiting]
        return [None if at is None else round((at - START) / HOUR, 1) for at in found]

    assert await told() == [48.1, 48.1, 72.1], "to five minutes, later rather than earlier"
    await platform.instances.extend_any(first.id, 7, ACTOR, world.clock())
    assert (await told())[0] == 48.1
    assert (await told())[1] == 72.1
    await platform.instances.stop_any(second.id, ACTOR, world.clock())
    started = await reaches(platform, waiting[0].id, State.RUNNING)
    assert started.estimated_start_at is None


@pytest.mark.slow
async def test_what_was_let_past_cannot_be_extended_while_others_wait(world: World) -> None:
    """A large launch waits for one that ends in two days; a small one of a day starts meanwhile."""
    platform = await world.open()
    long = await asks(world, platform, await person(platform, "long"), days=2)
    large = await asks(world, platform, await person(platform, "large"), memory_bytes=2 * GB)
    short = await asks(world, platform, await person(platform, "short"), days=1)
    stays_out = await asks(world, platform, await person(platform, "week"), days=7)
    short = await reaches(platform, short.id, State.RUNNING)
    states = [(await platform.instances.get_any(one.id)).state for one in (long, large, stays_out)]
    assert states == [State.RUNNING, State.QUEUED, State.QUEUED]
    assert short.passed_until == (await platform.instances.get_any(long.id)).expires_at
    with pytest.raises(Conflict, match="started before others"):
        await platform.instances.extend_any(short.id, 2, ACTOR, world.clock())
    for one in (large, stays_out):
        await platform.instances.stop_any(one.id, ACTOR, world.clock())
    extended = await platform.instances.extend_any(short.id, 2, ACTOR, world.clock())
    assert extended.expires_at > short.passed_until


@pytest.mark.slow
async def test_labs_have_what_they_are_guaranteed_and_no_more_than_they_may(world: World) -> None:
    """As set by an administrator, in force at once, and told to the record."""
    platform = await world.open()
    await platform.offers.capacity()
    await platform.lab_capacity.set_lab("A", LabCapacity(guaranteed_memory_bytes=GB), ACTOR, world.clock())
    first = await asks(world, platform, await person(platform, "b1", "B"))
    second = await asks(world, platform, await person(platform, "b2", "B"))
    assert (first.state, second.state) == (State.STARTING, State.QUEUED) or first.state is State.RUNNING
    ours = await asks(world, platform, await person(platform, "a1", "A"))
    await reaches(platform, ours.id, State.RUNNING)
    assert (await platform.instances.get_any(second.id)).state is State.QUEUED
    await platform.instances.stop_any(ours.id, ACTOR, world.clock())
    await reaches(platform, ours.id, State.STOPPED)
    assert (await platform.instances.get_any(second.id)).state is State.QUEUED, "it is kept free"
    most = LabCapacity(most_memory_bytes=GB)
    await platform.lab_capacity.set_lab("A", LabCapacity(), ACTOR, world.clock())
    await reaches(platform, second.id, State.RUNNING)  # the feed of changes has told admission
    await platform.lab_capacity.set_lab("B", most, ACTOR, world.clock())
    await platform.instances.stop_any(first.id, ACTOR, world.clock())
    await reaches(platform, first.id, State.STOPPED)
    third = await asks(world, platform, await person(platform, "b3", "B"))
    assert (third.state, third.stage) == (State.QUEUED, Stage.LAB)
    with pytest.raises(QuotaExceeded, match="you can have at most 1 GB"):
        await launch(platform, await person(platform, "b4", "B"), memory_bytes=2 * GB)
    actions = [row for (row,) in world.rows("SELECT action FROM audit WHERE subject = 'A'")]
    assert actions == ["lab_capacity.changed"] * 2
    with pytest.raises(InvalidInput, match="would be guaranteed in all"):
        await platform.lab_capacity.set_lab("C", LabCapacity(guaranteed_memory_bytes=3 * GB), ACTOR, world.clock())


async def test_labs_have_what_the_settings_say_until_somebody_changes_it(tmp_path: Path) -> None:
    lab_capacity = [{"lab": "A", "guaranteed_memory": "1g", "max_cpus": 4}]
    world = World(tmp_path, {"capacity": {"memory": "2g", "cpus": 1000}, "lab_capacity": lab_capacity})
    platform = await world.open()
    of_settings = LabCapacity(guaranteed_memory_bytes=GB, most_cpus=4)
    assert await platform.lab_capacity.labs() == {"A": of_settings}
    await platform.lab_capacity.set_lab("B", LabCapacity(most_cpus=1), ACTOR, world.clock())
    assert await platform.lab_capacity.labs() == {"A": of_settings, "B": LabCapacity(most_cpus=1)}
    await platform.lab_capacity.set_lab("A", LabCapacity(), ACTOR, world.clock())
    assert list(await (await world.open()).lab_capacity.labs()) == ["B"]
    await world.close()


@pytest.mark.slow
async def test_somebody_who_changes_labs_counts_for_the_new_one(world: World) -> None:
    platform = await world.open()
    await full(world, platform, "Rich")
    ann, ben = await person(platform, "ann", "Rich"), await person(platform, "ben", "Poor")
    queued = [await asks(world, platform, one) for one in (ann, ben)]
    assert await positions(platform, *queued) == [2, 1]
    await platform.users.change(ann.id, UserChange(lab="New"), ACTOR, world.clock())
    await platform.admission.admit(world.clock())
    assert await positions(platform, *queued) == [1, 2]


# -- two processes -----------------------------------------------------------------------------------------------------

PLACES, LABS, PEOPLE = 20, 20, 200
LONG_PATIENCE_SECONDS = 240
COUNTS_AT_EVERY_CHANGE = (
    "CREATE TABLE given_out (number integer)",
    """
    CREATE FUNCTION count_given_out() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO given_out SELECT count(*) FROM instances WHERE state IN ('starting', 'running', 'stopping');
        RETURN NULL;
    END $$
    """,
    "CREATE TRIGGER count_given_out AFTER INSERT OR UPDATE OF state ON instances EXECUTE FUNCTION count_given_out()",
)


async def in_the_end(look: Callable[[], Awaitable[T | None]]) -> T:
    """As `until`, with the patience of a busy machine for many starts and stops."""
    deadline = monotonic() + LONG_PATIENCE_SECONDS
    while not (found := await look()):
        assert monotonic() < deadline
        await asyncio.sleep(0.05)
    return found


@pytest.mark.slow
@pytest.mark.postgresql
async def test_200_people_of_20_labs_against_20_places_by_two_processes(tmp_path: Path) -> None:
    """On PostgreSQL: exactly 20 run while anybody waits, labs take turns, and everybody has had theirs in the end."""
    chance = random.Random(7)
    name = f"queue{new_id()}"
    url = databases.server.create(name)
    settings = {"capacity": {"memory": f"{PLACES}g", "cpus": 1000}, "database_url": url}
    world = World(tmp_path, settings)
    world.clock = utc_now  # type: ignore[assignment]
    platform = await world.open(mail=False)
    async with platform.database.transaction() as db:
        for n in range(PEOPLE):
            lab = f"L{n % LABS:02}"
            user = User(
                new_id(), f"p{n}@a.org", f"p{n}", 300_000 + n, Role.USER, UserStatus.ACTIVE, lab, utc_now(), None
            )
            await users.add(db, user)
    for statement in COUNTS_AT_EVERY_CHANGE:
        await world.change(statement)
    emails = [f"p{n}@a.org" for n in range(PEOPLE)]
    chance.shuffle(emails)
    elsewhere = {"state_dir": str(tmp_path / "second"), "engine": {"runtime": "fake"}}
    told = {"people": emails[::2], "settings": {**world.settings, **elsewhere}}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.queue_client",
        json.dumps(told, default=str),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        here = [(await launch(platform, await platform.users.by_email(email))).id for email in emails[1::2]]
        there = []
        while (line := (await process.stdout.readline()).decode().strip()) != "done":
            assert line, "the second process has died"
            there.append(line)
        everybody = {*here, *there}
        assert len(everybody) == PEOPLE
        second = set(there)

        async def all_places_taken() -> list[Instance] | None:
            async with platform.database.reading() as db:
                live = await instances.in_states(db, *LIVE)
            given_out = [one for one in live if one.state is not State.QUEUED]
            assert len(given_out) <= PLACES, "never more"
            running = [one for one in given_out if one.state is State.RUNNING]
            expected = min(PLACES, len(live))
            return running if len(running) == expected and len(given_out) == expected else None

        served: set[str] = set()
        while len(served) < PEOPLE:
            running = await in_the_end(all_places_taken)
            assert len(running) == min(PLACES, PEOPLE - len(served)), "exactly as many as there are places"
            stopping = chance.sample(running, max(4 * len(running) // 5, 1))
            served |= {one.id for one in stopping}
            for one in stopping:
                if one.id in second:
                    process.stdin.write(f"stop {one.id}\n".encode())
                else:
                    await platform.instances.stop_any(one.id, ACTOR, utc_now())
            if any(one.id in second for one in stopping):
                await process.stdin.drain()
                for one in (one for one in stopping if one.id in second):
                    assert (await process.stdout.readline()).split()[0] == b"stopped", one.id
        await in_the_end(lambda: _nothing_is_live(platform))
    finally:
        process.stdin.close()
        await process.wait()
        await world.close()
    history = world.rows(
        "SELECT instance_id, lab, state, admitted_at, started_at, ended_at FROM instance_history ORDER BY admitted_at"
    )
    assert {row[0] for row in history} == everybody, "nothing is lost, and nothing is there twice"
    assert {row[2] for row in history} == {"stopped"}
    assert all(row[4] is not None for row in history), "everybody has worked"
    assert world.rows("SELECT max(number) FROM given_out") == [(PLACES,)], "after no change of any row were there more"
    for n in range(3 * PLACES, PEOPLE - 2 * PLACES, PLACES):
        turns = Counter(row[1] for row in history[:n])
        assert max(turns.values()) - min(turns[f"L{lab:02}"] for lab in range(LABS)) <= 6, "labs take turns"
    databases.server.drop(name)


async def _nothing_is_live(platform: Platform) -> bool:
    counted = await platform.instances.count_by_state()
    return not LIVE & counted.keys()
