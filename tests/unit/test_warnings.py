"""Warnings before ends: when one is due, what falls together, what a mail says, and that nobody is warned twice."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest

from launchpad.domain.instances import State
from launchpad.domain.warnings import Ending, EndKind, IdleEnd, Sent, leads_of, warning_of
from launchpad.services.audit import CLI
from launchpad.services.extensions import LinkState
from launchpad.services.warnings import WarningService
from support.platforms import START, World, launch, reaches, sign_in

HOUR = timedelta(hours=1)
LEADS = (24 * HOUR, HOUR)
END = datetime(2026, 3, 9, 9, 30, tzinfo=UTC)


def expiry(span: timedelta = 7 * 24 * HOUR, at: datetime = END, instance_id: str = "a" * 16) -> Ending:
    return Ending(instance_id, EndKind.EXPIRY, at, at - span)


def told(ending: Ending, lead: timedelta) -> Sent:
    return Sent(ending.instance_id, ending.kind, ending.ends_at, int(lead.total_seconds()))


@pytest.mark.parametrize(
    ("span", "leads"),
    [
        (7 * 24 * HOUR, [24 * HOUR, HOUR]),
        (48 * HOUR, [24 * HOUR, HOUR]),
        (47 * HOUR, [HOUR]),  # who has chosen a day, or extended, is not told at once
        (2 * HOUR, [HOUR]),
        (HOUR, [HOUR / 2]),
        (timedelta(minutes=8), []),
    ],
)
def test_a_lead_counts_where_the_end_was_known_for_as_long_before(span: timedelta, leads: list[timedelta]) -> None:
    assert leads_of(expiry(span), LEADS) == leads


def test_news_is_told_however_soon_it_comes() -> None:
    ending = Ending("a" * 16, EndKind.MAINTENANCE, END, None)
    due = warning_of([ending], LEADS, (), END - timedelta(minutes=10))
    assert due is not None
    assert set(due.sent) == {told(ending, lead) for lead in LEADS}, "one mail for both"


def test_each_lead_is_told_once() -> None:
    ending = expiry()
    assert warning_of([ending], LEADS, (), END - 24 * HOUR - timedelta(seconds=1)) is None
    first = warning_of([ending], LEADS, (), END - 24 * HOUR)
    assert first is not None
    assert first.sent == (told(ending, 24 * HOUR),)
    for hours in (23, 12, 2):
        assert warning_of([ending], LEADS, first.sent, END - hours * HOUR) is None
    second = warning_of([ending], LEADS, first.sent, END - HOUR)
    assert second is not None
    assert second.sent == (told(ending, HOUR),)
    assert warning_of([ending], LEADS, first.sent + second.sent, END - timedelta(minutes=1)) is None
    assert warning_of([ending], LEADS, (), END) is None, "not after the end"


def test_who_comes_late_tells_once() -> None:
    ending = expiry()
    late = warning_of([ending], LEADS, (), END - timedelta(minutes=20))
    assert late is not None
    assert set(late.sent) == {told(ending, lead) for lead in LEADS}


def test_another_end_is_another_warning() -> None:
    before, after = expiry(), expiry(at=END + 24 * HOUR)
    sent = [told(before, lead) for lead in LEADS]
    assert warning_of([after], LEADS, sent, END) is not None


def test_several_that_fall_together_are_one() -> None:
    """What would be told within the quarter of an hour after is told along, and not again; what is far is not."""
    now = END - HOUR
    near = expiry(at=END + timedelta(minutes=14), instance_id="b" * 16)
    idle = Ending("a" * 16, EndKind.IDLE, END + timedelta(minutes=5), END - 9 * HOUR)
    far = expiry(at=END + timedelta(minutes=20), instance_id="c" * 16)
    sent = {told(one, 24 * HOUR) for one in (expiry(), near, far)}
    due = warning_of([far, near, idle, expiry()], LEADS, sent, now)
    assert due is not None
    assert due.endings == (expiry(), idle, near)
    assert set(due.sent) == {told(one, HOUR) for one in (expiry(), idle, near)}
    later = warning_of([far, near, idle, expiry()], LEADS, sent | set(due.sent), now + timedelta(minutes=14))
    assert later is None
    last = warning_of([far, near, idle, expiry()], LEADS, sent | set(due.sent), now + timedelta(minutes=20))
    assert last is not None
    assert last.endings == (far,)


# -- the service -------------------------------------------------------------------------------------------------------


class SetIdleEnds:
    def __init__(self) -> None:
        self.ends: dict[str, IdleEnd] = {}

    def idle_ends(self) -> Mapping[str, IdleEnd]:
        return self.ends


@pytest.fixture
async def world(tmp_path: Path, every_database: object) -> AsyncIterator[World]:
    world = World(tmp_path, {"limits": {"days": [1, 2, 7], "instances_per_user": 5}})
    yield world
    await world.close()


def text_of(letter: EmailMessage) -> str:
    body = letter.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


@pytest.mark.slow
async def test_an_owner_is_warned_in_one_mail_in_their_own_time(world: World) -> None:
    """Two instances and a maintenance that fall together: one mail, with times of the owner's zone, and once."""
    platform = await world.open()
    anna, _ = await sign_in(platform, "anna@example.org")
    anna = await platform.users.set_time_zone(anna, "Asia/Singapore")
    bert, _ = await sign_in(platform, "bert@example.org")
    for owner, name in ((anna, "jupyterlab"), (anna, "rstudio"), (bert, "rstudio")):
        one = await launch(platform, owner, name, days=2 if owner is anna else 7)
        await reaches(platform, one.id, State.RUNNING)
    world.letters.sent.clear()
    assert await platform.warnings.warn(world.clock.now) == 0
    world.clock.now = START + 24 * HOUR
    assert await platform.warnings.warn(world.clock.now) == 1
    assert await platform.warnings.warn(world.clock.now) == 0
    assert await platform.warnings.sent_since(START) == {EndKind.EXPIRY: 2}
    assert await platform.warnings.sent_since(world.clock.now + HOUR) == {}
    await platform.mail.drain()
    [letter] = world.letters.sent
    assert letter["To"] == "anna@example.org"
    assert letter["Subject"] == "2 instances end soon, the first on Wed 4 Mar, 17:30 UTC+8"
    text = text_of(letter)
    assert text.count("Expires on Wed 4 Mar, 17:30 UTC+8.") == 2
    assert text.count(f"{platform.settings.public_url}/extend/") == 2
    assert "Times are those of Asia/Singapore" in text
    world.letters.sent.clear()
    stop = START + 47 * HOUR
    await platform.announcements.announce("New disks", CLI, world.clock.now, stop_instances_at=stop)
    world.clock.now = START + 46 * HOUR
    assert await platform.warnings.warn(world.clock.now) == 2
    await platform.mail.drain()
    of = {str(letter["To"]): text_of(letter) for letter in world.letters.sent}
    assert len(world.letters.sent) == 2
    assert of["anna@example.org"].count("Stops on Wed 4 Mar, 16:30 UTC+8 for maintenance: New disks.") == 2
    assert "/extend/" not in of["bert@example.org"], "nothing puts off a maintenance"
    assert "Stops on Wed 4 Mar, 08:30 UTC for maintenance" in of["bert@example.org"]


@pytest.mark.slow  # waits for a clock
async def test_an_extension_is_another_end_and_an_idle_end_is_told_with_its_since(world: World) -> None:
    platform = await world.open()
    anna, _ = await sign_in(platform, "anna@example.org")
    one = await reaches(platform, (await launch(platform, anna, days=2)).id, State.RUNNING)
    world.letters.sent.clear()
    world.clock.now = START + 24 * HOUR
    assert await platform.warnings.warn(world.clock.now) == 1
    await platform.instances.extend(one.id, anna, 1, CLI, world.clock.now)
    world.clock.now = START + 47 * HOUR
    assert await platform.warnings.warn(world.clock.now) == 0, "it ends a day later now"
    idle = SetIdleEnds()
    service = platform.warnings
    watched = WarningService(
        platform.database, platform.settings, platform.mail, service._links, platform.catalogue, idle, service._clock
    )
    world.clock.now = START + 45 * HOUR
    idle.ends[one.id] = IdleEnd(START + 46 * HOUR, START + 38 * HOUR)
    assert await watched.warn(world.clock.now) == 1
    assert await watched.warn(world.clock.now) == 0
    await platform.mail.drain()
    letter = world.letters.sent[-1]
    assert letter["Subject"] == "JupyterLab ends on Wed 4 Mar, 07:30 UTC"
    assert "Stops on Wed 4 Mar, 07:30 UTC unless it is used: idle since Tue 3 Mar, 23:30 UTC." in text_of(letter)
    assert "Keep JupyterLab" in text_of(letter)


async def test_where_its_time_is_up_soon_too_the_link_extends_it(world: World) -> None:
    """An extension puts off both ends; a link that only keeps it would leave the expiry where it is."""
    platform = await world.open()
    anna, _ = await sign_in(platform, "anna@example.org")
    one = await reaches(platform, (await launch(platform, anna, days=2)).id, State.RUNNING)
    idle = SetIdleEnds()
    service = platform.warnings
    watched = WarningService(
        platform.database, platform.settings, platform.mail, service._links, platform.catalogue, idle, service._clock
    )
    world.clock.now = START + 47 * HOUR
    idle.ends[one.id] = IdleEnd(START + 47.75 * HOUR, START + 40 * HOUR)
    world.letters.sent.clear()
    assert await watched.warn(world.clock.now) == 1
    await platform.mail.drain()
    text = text_of(world.letters.sent[-1])
    assert "unless it is used" in text
    assert "Expires on" in text
    assert "Extend JupyterLab" in text
    [token] = re.findall(r"/extend/(\S+)", text)
    outlook = await platform.extensions.outlook(token, world.clock.now)
    assert (outlook.keeps, outlook.state) == (False, LinkState.OPEN)


async def test_the_owner_of_a_frozen_instance_is_warned_before_it_may_stand_still_no_longer(world: World) -> None:
    world.settings["freezing"] = {"longest_hours": 72}
    platform = await world.open()
    anna, _ = await sign_in(platform, "anna@example.org")
    one = await reaches(platform, (await launch(platform, anna, days=7)).id, State.RUNNING)
    assert await platform.freezing.freeze(one.id, world.clock.now, "by its owner")
    world.clock.now += timedelta(seconds=2)
    await platform.freezing.tend(world.clock.now)
    world.letters.sent.clear()
    assert await platform.warnings.warn(START + 47 * HOUR) == 0
    world.clock.now = START + 49 * HOUR
    assert await platform.warnings.warn(world.clock.now) == 1
    assert await platform.warnings.warn(world.clock.now) == 0
    await platform.mail.drain()
    [letter] = world.letters.sent
    assert letter["Subject"] == "JupyterLab ends on Thu 5 Mar, 09:30 UTC"
    assert (
        "unless it is opened before, and what it holds in memory is lost: frozen since Mon 2 Mar, 09:30 UTC"
        in text_of(letter).replace("\n", " ")
    )
    await platform.freezing.thaw(one.id, world.clock.now)
    world.clock.now = START + 71 * HOUR + timedelta(minutes=30)
    assert await platform.warnings.warn(world.clock.now) == 0, "it goes on"


async def test_nobody_is_warned_where_that_is_set_or_the_owner_is_suspended(world: World) -> None:
    world.settings["ends"] = {"warn_hours_before": []}
    quiet = await world.open()
    anna, _ = await sign_in(quiet, "anna@example.org")
    await reaches(quiet, (await launch(quiet, anna, days=2)).id, State.RUNNING)
    world.clock.now = START + 47 * HOUR
    assert await quiet.warnings.warn(world.clock.now) == 0


async def test_a_clock_that_jumped_warns_nobody(world: World) -> None:
    """Neither before nor after a sweep has noticed; set right again, it does as ever."""
    elapsed = 0.0
    platform = await world.open()
    platform.warnings._clock._elapsed = lambda: elapsed
    anna, _ = await sign_in(platform, "anna@example.org")
    await reaches(platform, (await launch(platform, anna, days=2)).id, State.RUNNING)
    await platform.sweep.sweep(world.clock.now)
    elapsed, world.clock.now = 60.0, START + 25 * HOUR
    assert await platform.warnings.warn(world.clock.now) == 0
    await platform.sweep.sweep(world.clock.now)
    assert await platform.warnings.warn(world.clock.now) == 0
    elapsed, world.clock.now = 120.0, START + timedelta(minutes=2)
    await platform.sweep.sweep(world.clock.now)
    elapsed, world.clock.now = 120.0 + 24 * 3600, START + 24 * HOUR + timedelta(minutes=2)
    assert await platform.warnings.warn(world.clock.now) == 1
