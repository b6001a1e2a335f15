"""Mail that does not arrive, over a real database: what is kept of it, for how long, and what is not believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from launchpad.domain.instances import State
from launchpad.domain.mail import FailureKind
from launchpad.domain.users import UserStatus
from launchpad.errors import InvalidInput, MailboxUnavailable, MailUnavailable, NotFound, WrongCode
from launchpad.platform import Platform
from launchpad.services.bounces import BounceService
from launchpad.services.logins import Client
from launchpad.services.users import UserChange
from support.databases import on_every_database
from support.platforms import ACTOR, World, launch, reaches, sign_in
from support.reports import ORDINARY, READ_RECEIPT, report

ALICE = "alice@a.org"
HERE = Client("192.0.2.1", "Firefox")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, {"sign_in": {"allowed_domains": ["a.org", "b.org"]}, "audit_days": 30})
    yield world
    await world.close()


async def ask(platform: Platform, address: str = ALICE) -> str:
    """Somebody asks for a code, and it is sent or given up; returns the cookie."""
    asked = await platform.sign_in.ask(address, HERE, platform.now())
    await platform.mail.drain()
    return asked.cookie


async def listed(platform: Platform) -> list[tuple[str, FailureKind, str | None, int]]:
    return [(one.address, one.kind, one.status, one.count) for one in await platform.mail_failures.page()]


# -- what fails at once ------------------------------------------------------------------------------------------------


@on_every_database
async def test_a_refused_recipient_is_kept_with_its_code_and_mail_goes_on_for_everybody_else(
    world: World, platform: Platform
) -> None:
    """One address with a mistake in it is no fault of the mail server, and no visitor is told."""
    world.letters.refusing = MailUnavailable("no", permanent=True, recipient_refused=True, mail_status="5.1.1")
    await ask(platform)
    assert await listed(platform) == [(ALICE, FailureKind.REFUSED, "5.1.1", 1)]
    assert not platform.mail.failing
    (failure,) = await platform.mail_failures.page()
    assert failure.reason == "no such mailbox"
    assert (failure.first_at, failure.last_at) == (world.clock(), world.clock())
    world.clock.now += timedelta(hours=1)
    await ask(platform)
    (failure,) = await platform.mail_failures.page()
    assert (failure.count, failure.last_at - failure.first_at) == (2, timedelta(hours=1))
    assert (await platform.mail_failures.totals())[FailureKind.REFUSED] == 2


@on_every_database
async def test_a_refusal_that_means_us_is_kept_and_shown_as_the_mail_servers(world: World, platform: Platform) -> None:
    world.letters.refusing = MailUnavailable("no", permanent=True, mail_status="5.7.8")
    await ask(platform)
    assert await listed(platform) == [(ALICE, FailureKind.REFUSED, "5.7.8", 1)]
    assert platform.mail.failing


async def test_nothing_of_the_mail_is_kept(world: World, platform: Platform) -> None:
    await ask(platform)
    code = world.letters.codes(ALICE)[0]
    world.mailbox.put(report(ALICE).replace(b"--b--", b"--b\n\nYour code is " + code.encode() + b"\n--b--"))
    await platform.bounces.collect(world.clock())
    (row,) = world.rows("SELECT * FROM mail_failures")
    assert row[:4] == (ALICE, "bounced", "5.1.1", 1)
    assert code not in str(row)


# -- reports -----------------------------------------------------------------------------------------------------------


@on_every_database
async def test_reports_about_people_who_were_mailed_are_taken(world: World, platform: Platform) -> None:
    """A user, and somebody who waits for their first code; others' mail is left alone."""
    await sign_in(platform, ALICE)
    await ask(platform, "new@b.org")
    for content in (
        report(ALICE, "5.2.2"),
        report("New@B.org", "5.1.1"),
        report("stranger@a.org"),
        ORDINARY,
        READ_RECEIPT,
        report(ALICE, action="delayed"),
    ):
        world.mailbox.put(content)
    assert await platform.bounces.collect(world.clock()) == 2
    assert sorted(await listed(platform)) == [
        (ALICE, FailureKind.BOUNCED, "5.2.2", 1),
        ("new@b.org", FailureKind.BOUNCED, "5.1.1", 1),
    ]
    assert world.mailbox.seen == {1, 2}
    assert await platform.bounces.problem() is None


@pytest.mark.slow
@on_every_database
async def test_forged_reports_fill_nothing(world: World, platform: Platform) -> None:
    """Not about who was never mailed, also not when they were asked for and refused, or mailed long ago."""
    suspended, _ = await sign_in(platform, "gone@a.org")
    await platform.users.change(suspended.id, UserChange(status=UserStatus.SUSPENDED), ACTOR, world.clock())
    with pytest.raises(InvalidInput):
        await ask(platform, "x@elsewhere.org")
    await ask(platform, "long-ago@a.org")
    world.clock.now += timedelta(days=8)
    for number in range(150):
        world.mailbox.put(report(f"p{number}@a.org"))
    world.mailbox.put(report("x@elsewhere.org"))
    world.mailbox.put(report("long-ago@a.org"))
    for _ in range(3):
        await platform.bounces.collect(world.clock())
        world.clock.now += timedelta(minutes=5)
    assert await listed(platform) == []
    assert world.mailbox.seen == set()
    world.mailbox.put(report("gone@a.org"))
    await platform.bounces.collect(world.clock())
    assert len(await listed(platform)) == 1, "while the report about a user is taken"


async def test_reports_are_looked_for_every_few_minutes_whoever_looks(world: World, platform: Platform) -> None:
    await ask(platform)
    other = await world.open()
    await platform.bounces.collect(world.clock())
    world.mailbox.put(report(ALICE))
    world.clock.now += timedelta(minutes=4, seconds=59)
    for process in (platform, other):
        await process.bounces.collect(world.clock())
    assert await listed(platform) == []
    world.clock.now += timedelta(seconds=1)
    await asyncio.gather(*(process.bounces.collect(world.clock()) for process in (platform, other)))
    assert await listed(platform) == [(ALICE, FailureKind.BOUNCED, "5.1.1", 1)]
    world.clock.now -= timedelta(days=1)  # the clock was wrong, and is set back
    world.mailbox.put(report(ALICE))
    await platform.bounces.collect(world.clock())
    assert (await listed(platform))[0][3] == 2


async def test_a_mailbox_that_is_down_stops_no_sweep_and_is_told(world: World, platform: Platform) -> None:
    alice, _ = await sign_in(platform, ALICE)
    instance = await launch(platform, alice)
    await platform.runner.wait()
    world.mailbox.is_down = True
    world.clock.now += timedelta(days=1)
    with pytest.raises(MailboxUnavailable):
        await platform.bounces.collect(world.clock())
    assert [one.action for one in await platform.sweep.sweep(world.clock())] == ["expired"]
    await reaches(platform, instance.id, State.EXPIRED)
    assert "could not be read" in str(await platform.bounces.problem())
    world.mailbox.is_down = False
    world.mailbox.put(report(ALICE))
    world.clock.now += timedelta(minutes=5)
    await platform.bounces.collect(world.clock())
    assert await platform.bounces.problem() is None
    assert len(await listed(platform)) == 1


async def test_an_administrator_need_not_wait_for_the_next_look(world: World, platform: Platform) -> None:
    await ask(platform)
    await platform.bounces.collect(world.clock())
    world.mailbox.put(report(ALICE))
    assert await platform.bounces.collect(world.clock()) == 0
    assert await platform.bounces.collect(world.clock(), at_once=True) == 1


@on_every_database
async def test_what_cannot_be_marked_as_read_is_still_counted_once(world: World, platform: Platform) -> None:
    await ask(platform)
    world.mailbox.put(report(ALICE))
    world.mailbox.is_read_only = True
    with pytest.raises(MailboxUnavailable):
        await platform.bounces.collect(world.clock())
    assert await platform.bounces.problem()
    world.mailbox.is_read_only = False
    world.clock.now += timedelta(minutes=5)
    await platform.bounces.collect(world.clock())
    assert await listed(platform) == [(ALICE, FailureKind.BOUNCED, "5.1.1", 1)]


@on_every_database
async def test_one_report_can_be_handed_in(world: World, platform: Platform) -> None:
    await ask(platform)
    assert await platform.bounces.take(report(ALICE), world.clock()) == 1
    assert await platform.bounces.take(report("stranger@a.org"), world.clock()) == 0
    assert await platform.bounces.take(ORDINARY, world.clock()) == 0
    assert await listed(platform) == [(ALICE, FailureKind.BOUNCED, "5.1.1", 1)]


# -- how it ends -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@on_every_database
async def test_a_code_that_arrived_takes_the_address_off_the_list(world: World, platform: Platform) -> None:
    """A mail that the server took proves nothing; its code does, at the sign-in and when somebody confirms."""
    await sign_in(platform, "bob@a.org")
    await platform.bounces.take(report("bob@a.org"), world.clock())
    cookie = await ask(platform)
    await platform.bounces.take(report(ALICE), world.clock())
    cookie = await ask(platform)
    assert len(await listed(platform)) == 2
    signed_in = await platform.sign_in.verify(cookie, world.letters.codes(ALICE)[-1], False, HERE, world.clock())
    assert [row[0] for row in await listed(platform)] == ["bob@a.org"], "and no other"
    await platform.bounces.take(report(ALICE), world.clock())
    found = await platform.logins.authenticate(signed_in.secret, world.clock())
    assert found is not None
    cookie = await ask(platform)
    await platform.sign_in.confirm(cookie, world.letters.codes(ALICE)[-1], *found, HERE, world.clock())
    assert [row[0] for row in await listed(platform)] == ["bob@a.org"]


@on_every_database
async def test_a_wrong_code_takes_nothing_off(world: World, platform: Platform) -> None:
    cookie = await ask(platform)
    await platform.bounces.take(report(ALICE), world.clock())
    with pytest.raises(WrongCode):
        await platform.sign_in.verify(cookie, "nothing", False, HERE, world.clock())
    assert len(await listed(platform)) == 1


@on_every_database
async def test_an_administrator_forgets_an_address_and_it_stands_in_the_record(
    world: World, platform: Platform
) -> None:
    await ask(platform)
    await platform.bounces.take(report(ALICE), world.clock())
    await platform.mail_failures.forget(f" {ALICE.upper()}", ACTOR, world.clock())
    assert await listed(platform) == []
    with pytest.raises(NotFound):
        await platform.mail_failures.forget(ALICE, ACTOR, world.clock())
    (record,) = await platform.audit.page(search="mail.failure-forgotten")
    assert (record.actor, record.subject) == ("test", ALICE)
    assert (await platform.mail_failures.totals())[FailureKind.BOUNCED] == 1, "what was counted stays counted"


@on_every_database
async def test_what_is_older_than_the_record_goes_with_the_sweep(world: World, platform: Platform) -> None:
    await ask(platform)
    await platform.bounces.take(report(ALICE), world.clock())
    world.clock.now += timedelta(days=30)
    await platform.sweep.sweep(world.clock())
    assert len(await listed(platform)) == 1
    world.clock.now += timedelta(seconds=1)
    await platform.sweep.sweep(world.clock())
    assert await listed(platform) == []


async def test_without_a_mailbox_nobody_looks(world: World, platform: Platform) -> None:
    none = BounceService(platform.database, None)
    assert await none.collect(world.clock()) == 0
    assert await none.problem() is None
    assert world.rows("SELECT count(*) FROM kv WHERE key = 'mail.bounces'") == [(0,)]
