"""Administrators' lists: the database's answer is the one that looking at every row gives, page by page."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from conftest import Clock
from launchpad.domain.history import HistoryRecord
from launchpad.domain.instances import ENDED, LIVE, Instance, Stage, State
from launchpad.domain.limits import Limits
from launchpad.domain.mail import FailureKind
from launchpad.domain.naming import new_id
from launchpad.domain.users import Role, User, UserStatus
from launchpad.errors import InvalidInput
from launchpad.services.audit import LOOKED_THROUGH, Actor, AuditService
from launchpad.services.listings import InstanceFilter, ListingService, ListStart
from launchpad.store import audit, instance_history, instances, listings, mail_failures, users
from launchpad.store.database import Database
from support.databases import on_every_database

pytestmark = on_every_database
SEARCHES = ("", "person1@", "PERSON1", "example.org", "lab.edu", "rstudio", "JUP", "nobody", "%", "_", "erson1@x")
STATES = (LIVE, ENDED, LIVE | ENDED, {State.FAILED}, {State.QUEUED}, {State.STOPPED, State.RUNNING})


async def populate(database: Database, now: datetime, number: int = 150) -> tuple[dict[str, User], list[Instance]]:
    chance = random.Random(3)
    people = {}
    made = []
    async with database.transaction() as db:
        for n in range(20):
            domain = "lab.edu" if n % 7 == 0 else "example.org"
            one = User(new_id(), f"person{n}@{domain}", f"p{n}", n + 1, Role.USER, UserStatus.ACTIVE, None, now)
            await users.add(db, one)
            people[one.id] = one
        for _ in range(number):
            state = chance.choice(list(State))
            instance = Instance(
                id=new_id(),
                owner_id=chance.choice(list(people)),
                environment=chance.choice(["rstudio", "jupyterlab", "no-longer-offered"]),
                state=state,
                stage=Stage.READY,
                reason=None,
                limits=Limits(1, 1.0, 1, 1),
                created_at=now + timedelta(minutes=chance.randrange(60)),  # several of one instant
                expires_at=now + timedelta(days=1),
            )
            await instances.add(db, instance)
            if state in ENDED:
                ended_at = now + timedelta(minutes=chance.randrange(60))
                instance = replace(instance, ended_at=ended_at, reason="stopped by you", stage=Stage.ENDED)
                await instance_history.add(db, HistoryRecord(instance, people[instance.owner_id].email, None))
            made.append(instance)
    return people, made


def expected(people: dict[str, User], made: list[Instance], wanted: InstanceFilter) -> list[str]:
    def wants(one: Instance) -> bool:
        text = wanted.search.lower()
        return one.state in wanted.states and (text in people[one.owner_id].email or text in one.environment)

    found = [one for one in made if wants(one)]
    live = sorted((one for one in found if one.is_live), key=lambda one: (one.created_at, one.id), reverse=True)
    ended = sorted((one for one in found if not one.is_live), key=lambda one: (one.ended_at, one.id), reverse=True)
    return [one.id for one in [*live, *ended]]


@pytest.mark.slow
@pytest.mark.parametrize("few", [0, 5, 500])
async def test_every_filter_finds_what_a_look_at_all_rows_finds(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """However many owners are looked up one by one."""
    monkeypatch.setattr(listings, "FEW_OWNERS", few)
    people, made = await populate(database, clock())
    service = ListingService(database)
    for search in SEARCHES:
        for states in STATES:
            wanted = InstanceFilter(search, frozenset(states))
            seen: list[str] = []
            start: ListStart | None = ListStart(ended=wanted.begins_with_ended)
            while start is not None:
                found, start = await service.instances(wanted, limit=17, start=start)
                assert len(found) == 17 or start is None
                start = start and ListStart.parse(str(start))
                seen += [listed.instance.id for listed in found]
                assert all(listed.owner == people[listed.instance.owner_id] for listed in found)
            assert seen == expected(people, made, wanted), (search, states)


async def test_queued_ones_say_their_position(database: Database, clock: Clock) -> None:
    _, made = await populate(database, clock())
    queue = sorted((one for one in made if one.state is State.QUEUED), key=lambda one: (one.created_at, one.id))
    positions = {one.id: position for position, one in enumerate(queue, start=1)}
    service = ListingService(database)
    found, _ = await service.instances(InstanceFilter(), limit=200)
    assert {one.instance.id: one.queue_position for one in found if one.queue_position} == positions
    everyone = await service.everyone(with_ended=True, limit=200, before=None)
    assert {one.instance.id: one.queue_position for one in everyone if one.queue_position} == positions
    assert len(everyone) == len(made)


async def test_a_page_that_nobody_wrote_is_refused() -> None:
    for text in ("yesterday", "ended~", "active~2026-03-02T09:30:00~"):
        with pytest.raises(InvalidInput):
            ListStart.parse(text)


@pytest.mark.slow
async def test_users_come_with_their_live_instances_and_delivery_problems(database: Database, clock: Clock) -> None:
    people, made = await populate(database, clock())
    async with database.transaction() as db:
        await mail_failures.record(db, "person3@example.org", FailureKind.BOUNCED, None, clock())
    found = await ListingService(database).users(search="example.org", limit=100, after=None)
    addresses = sorted(user.email for user in people.values() if "example.org" in user.email)
    assert sorted(one.user.email for one in found) == addresses
    for one in found:
        assert one.live_instances == sum(i.owner_id == one.user.id and i.is_live for i in made)
        assert (one.mail_failure is not None) is (one.user.email == "person3@example.org")


@pytest.mark.parametrize("search", ["über", "ÜBER", "Überlingen", "ß", "LINGEN"])
async def test_letters_of_any_alphabet_are_found_in_either_case(database: Database, clock: Clock, search: str) -> None:
    async with database.transaction() as db:
        for n, lab in enumerate(("Überlingen ß", "Genomics", None)):
            one = User(new_id(), f"p{n}@x.org", f"p{n}", n + 1, Role.USER, UserStatus.ACTIVE, lab, clock())
            await users.add(db, one)
        found = await users.page(db, search=search)
        await audit.add(db, at=clock(), actor="a", client="c", action="b", subject="s", details={"lab": "Überlingen ß"})
        recorded = await audit.page(db, search="Überlingen")
    assert [one.username for one in found] == ["p0"]
    assert len(recorded) == 1


async def test_a_search_of_the_audit_goes_through_all_of_it_page_by_page(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LOOKED_THROUGH > 1000
    monkeypatch.setattr("launchpad.services.audit.LOOKED_THROUGH", 10)
    service = AuditService(database)
    assert await service.look(limit=3) == ([], None)
    for n in range(35):
        await service.record(clock(), Actor("a"), "odd" if n % 17 == 1 else "even", f"s{n}")
    for search, subjects in (("odd", ["s18", "s1"]), ("", [f"s{n}" for n in range(34, -1, -1)]), ("none", [])):
        seen, before, pages = [], None, 0
        while True:
            found, before = await service.look(limit=3, before_id=before, search=search)
            seen += [record.subject for record in found]
            pages += 1
            if before is None:
                break
        assert seen == subjects
        assert pages == (12 if not search else 4)
