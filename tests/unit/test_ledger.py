"""The access ledger: looks are counted, what is recorded is for its owner, and all of it stands in the chain."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from launchpad.domain.audit import EVERYONE
from launchpad.domain.instances import Instance
from launchpad.domain.users import User
from launchpad.platform import Platform
from launchpad.services.audit import CLI, SWEEP, SYSTEM, Actor
from launchpad.store import audit
from support.databases import on_every_database
from support.platforms import World, launch, sign_in

ADMIN = Actor("admin@example.org", "192.0.2.1", "admin")


@pytest.fixture
async def ada(platform: Platform) -> User:
    user, _ = await sign_in(platform, "ada@example.org")
    return user


@pytest.fixture
async def instance(platform: Platform, ada: User) -> Instance:
    return await launch(platform, ada)


async def told(platform: Platform, user: User, *, everyone: bool = False) -> list[tuple[str, str, int]]:
    found, _ = await platform.ledger.page(user, limit=50, everyone=everyone)
    return [(one.record.actor, one.record.action, one.times) for one in found if one.record.actor != "test"]


async def chain_holds(platform: Platform) -> bool:
    return (await platform.audit_verifier.verify()).holds


@on_every_database
async def test_looks_of_an_hour_are_one_entry_that_counts(
    world: World, platform: Platform, ada: User, instance: Instance
) -> None:
    look = platform.ledger.looked_at_instance
    began = world.clock.now
    for _ in range(30):
        await look(ADMIN, instance, "instance.log_read", world.clock.now)
        world.clock.now += timedelta(seconds=100)
    assert await told(platform, ada) == [(ADMIN.name, "instance.log_read", 30)]
    (entry,), _ = await platform.ledger.page(ada, limit=1)
    assert (entry.record.at, entry.last_at) == (began, began + timedelta(seconds=2900))
    records = "SELECT count(*) FROM audit WHERE action = 'instance.log_read'"
    assert world.rows(records) == [(1,)], "the count comes with the end of the hour"
    world.clock.now = began + timedelta(hours=1)
    await platform.ledger.close_old(world.clock.now)
    await platform.ledger.close_old(world.clock.now)
    assert world.rows(records) == [(2,)]
    assert world.rows("SELECT * FROM audit_looks") == []
    assert await told(platform, ada) == [(ADMIN.name, "instance.log_read", 30)]
    await look(ADMIN, instance, "instance.log_read", world.clock.now)
    assert await told(platform, ada) == [(ADMIN.name, "instance.log_read", 1), (ADMIN.name, "instance.log_read", 30)]
    assert await chain_holds(platform)


async def test_a_look_after_the_hour_says_first_how_many_there_were(
    world: World, platform: Platform, ada: User, instance: Instance
) -> None:
    for minutes in (0, 10, 61, 62):
        await platform.ledger.looked_at_instance(
            ADMIN, instance, "instance.log_read", world.clock.now + timedelta(minutes=minutes)
        )
    assert [times for _, _, times in await told(platform, ada)] == [2, 2]


async def test_one_look_is_one_entry_also_after_the_hour(
    world: World, platform: Platform, ada: User, instance: Instance
) -> None:
    await platform.ledger.looked_at_instance(ADMIN, instance, "instance.log_read", world.clock.now)
    await platform.ledger.close_old(world.clock.now + timedelta(hours=2))
    assert world.rows("SELECT count(*) FROM audit WHERE action = 'instance.log_read'") == [(1,)]


async def test_others_places_and_things_are_counted_apart(
    world: World, platform: Platform, ada: User, instance: Instance
) -> None:
    now, ledger = world.clock.now, platform.ledger
    for actor in (ADMIN, ADMIN, replace(ADMIN, client="192.0.2.2"), replace(ADMIN, name="b@example.org"), CLI):
        await ledger.looked_at_instance(actor, instance, "instance.log_read", now)
    await ledger.looked_at_user(ADMIN, ada, "user.read", now)
    assert sorted(await told(platform, ada)) == [
        ("admin@example.org", "instance.log_read", 1),
        ("admin@example.org", "instance.log_read", 2),
        ("admin@example.org", "user.read", 1),
        ("b@example.org", "instance.log_read", 1),
        ("cli", "instance.log_read", 1),
    ]


async def test_a_clock_that_is_set_back_begins_a_new_entry(
    world: World, platform: Platform, ada: User, instance: Instance
) -> None:
    for hours in (0, -5, -5):
        at = world.clock.now + timedelta(hours=hours)
        await platform.ledger.looked_at_instance(ADMIN, instance, "instance.log_read", at)
    assert [times for _, _, times in await told(platform, ada)] == [2, 1]


async def test_a_list_is_a_look_at_one_person_or_at_everybody(world: World, platform: Platform, ada: User) -> None:
    bob, _ = await sign_in(platform, "bob@example.org")
    now, ledger = world.clock.now, platform.ledger
    own = Actor.of(ada, "192.0.2.1")
    await ledger.looked_at_list(own, {ada.id}, "user.listed", now)
    await ledger.looked_at_list(own, set(), "user.listed", now)
    assert world.rows("SELECT count(*) FROM audit WHERE action = 'user.listed'") == [(0,)]
    await ledger.looked_at_list(own, {ada.id, bob.id}, "user.listed", now)
    assert await told(platform, bob) == [(ada.email, "user.listed", 1)]
    await ledger.looked_at_list(ADMIN, {ada.id, bob.id}, "user.listed", now)
    assert await told(platform, ada) == []
    assert await told(platform, ada, everyone=True) == [(ADMIN.name, "user.listed", 1)]
    assert len(await told(platform, bob, everyone=True)) == 2
    late, _ = await sign_in(platform, "late@example.org")
    late = replace(late, created_at=now + timedelta(seconds=1))
    assert await told(platform, late, everyone=True) == [], "it was before their time"


@pytest.mark.parametrize(("actor", "whose"), [(SWEEP, None), (SYSTEM, None), (CLI, "x"), (ADMIN, "x")])
def test_rules_of_the_platform_are_nobodys_act(actor: Actor, whose: str | None) -> None:
    assert actor.on("x") == whose
    assert replace(actor, user_id="x").on("x") is None


@on_every_database
async def test_it_is_read_page_by_page_while_it_grows(
    world: World, platform: Platform, ada: User, instance: Instance
) -> None:
    for n in range(7):
        at = world.clock.now + timedelta(minutes=n)
        await platform.ledger.looked_at_instance(
            replace(ADMIN, client=f"192.0.2.{n}"), instance, "instance.log_read", at
        )
    seen, before_id = [], None
    while True:
        found, before_id = await platform.ledger.page(ada, limit=3, before_id=before_id)
        seen += [one.record.client for one in found]
        await platform.ledger.looked_at_user(ADMIN, ada, f"x.{len(seen)}", world.clock.now)
        if before_id is None:
            break
    assert seen[:7] == [f"192.0.2.{n}" for n in reversed(range(7))]
    exported = [one.record.id async for page in platform.ledger.everything(ada, everyone=True) for one in page]
    assert exported == sorted(exported, reverse=True)
    assert len(exported) >= 10


async def test_it_outlives_whoever_acted_and_what_it_was_done_to(
    world: World, platform: Platform, ada: User, instance: Instance
) -> None:
    """The entry holds what it says; instances that were removed from the list, or forgotten, are still named."""
    await platform.instances.stop_any(instance.id, ADMIN, world.clock.now)
    await platform.runner.wait()
    await platform.instances.forget(instance.id, ada, world.clock.now)
    (entry,) = [one for one in (await platform.ledger.page(ada, limit=9))[0] if one.record.actor == ADMIN.name]
    assert entry.record.details["environment"] == instance.environment
    assert entry.record.details["owner"] == ada.email
    assert entry.record.owner_id == ada.id != EVERYONE


async def test_what_the_platform_did_with_somebodys_instance_is_no_less_a_look_at_the_record(
    platform: Platform, ada: User, instance: Instance
) -> None:
    """Searching for the rules' own acts shows whose instances they were."""
    now = platform.now()
    async with platform.database.transaction() as db:
        details = {"environment": instance.environment, "owner": ada.email}
        await audit.add(
            db, at=now, actor=SWEEP.name, client="", action="instance.expired", subject=instance.id, details=details
        )
    found, _ = await platform.audit.look(limit=10, before_id=None, search="instance.expired")
    assert [one.actor for one in found] == [SWEEP.name]
    before = await told(platform, ada, everyone=True)
    await platform.ledger.looked_at_audit(Actor(ada.email, user_id=ada.id), found, now)
    assert await told(platform, ada, everyone=True) == before, "only herself is in it"
    await platform.ledger.looked_at_audit(ADMIN, found, now)
    assert await told(platform, ada, everyone=True) == [(ADMIN.name, "audit.read", 1), *before]
