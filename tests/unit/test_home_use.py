"""What homes take up: what is honestly foretold, what is kept, who is told by mail, and what administrators see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest

from launchpad.domain.home_lists import Sort
from launchpad.domain.home_use import (
    Growth,
    MeasuredUse,
    Warned,
    full_in,
    growth_of,
    signed_bytes,
    trend_in_words,
    warning_due,
)
from launchpad.domain.users import User, UserStatus
from launchpad.errors import HomeUnavailable
from launchpad.platform import Platform
from launchpad.services.home_use import KEPT, LIVE_EVERY, OTHERS_EVERY, REST_FACTOR
from launchpad.services.users import UserChange
from launchpad.storage.base import DiskSpace, HomeUse
from launchpad.storage.plain import PlainHomes
from launchpad.store import home_history, home_use
from support.databases import on_every_database
from support.platforms import ACTOR, START, World, launch, sign_in

GB = 1024**3
DAY = timedelta(days=1)
NOW = datetime(2026, 3, 9, 9, 30, tzinfo=UTC)
TODAY = NOW.date()


def use(
    used: int | None, limit: int | None = 64 * GB, week: int | None = None, month: int | None = None
) -> MeasuredUse:
    return MeasuredUse(used, limit, 900 * GB, NOW, growth=Growth(week, month))


# -- what is foretold --------------------------------------------------------------------------------------------------


def test_growth_is_told_where_there_is_a_point_of_then() -> None:
    points = {TODAY - 30 * DAY: 10, TODAY - 31 * DAY: 5, TODAY - 8 * DAY: 20, TODAY - DAY: 90}
    assert growth_of(100, points, TODAY) == Growth(80, 90)
    assert growth_of(100, {TODAY - 9 * DAY: 20, TODAY - 37 * DAY: 10}, TODAY) == Growth(80, 90), "days were missed"
    assert growth_of(100, {TODAY - 10 * DAY: 20, TODAY - 38 * DAY: 10}, TODAY) == Growth(None, None), "too many"
    assert growth_of(100, {TODAY - 6 * DAY: 20}, TODAY) == Growth(None, None)
    assert growth_of(None, points, TODAY) == Growth(None, None)
    assert growth_of(1, points, TODAY) == Growth(-19, -9)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (use(55 * GB, week=3 * GB, month=12 * GB), "+12 GB in the last 30 days, full in about 3 weeks at this rate"),
        (use(63 * GB, week=3 * GB, month=12 * GB), "+12 GB in the last 30 days, full in about 2 days at this rate"),
        (use(16 * GB, week=3 * GB, month=12 * GB), "+12 GB in the last 30 days, full in about 4 months at this rate"),
        (use(55 * GB, week=0, month=12 * GB), "+12 GB in the last 30 days"),  # it has stopped
        (use(55 * GB, week=11 * GB, month=12 * GB), "+12 GB in the last 30 days"),  # all at once
        (use(55 * GB, week=None, month=12 * GB), "+12 GB in the last 30 days"),
        (use(55 * GB, week=3 * GB), "+3 GB in the last 7 days"),  # too short to say more
        (use(1 * GB, week=100, month=400), "+400 bytes in the last 30 days"),  # so little
        (use(1 * GB, week=GB // 5, month=GB), "+1 GB in the last 30 days"),  # five years
        (use(64 * GB, week=3 * GB, month=12 * GB), "+12 GB in the last 30 days"),  # it is full
        (use(55 * GB, None, 3 * GB, 12 * GB), "+12 GB in the last 30 days"),  # without a limit it does not get full
        (use(5 * GB, week=-GB, month=-2 * GB), "-2 GB in the last 30 days"),
        (use(5 * GB, week=0, month=0), "no change in the last 30 days"),
        (use(5 * GB), ""),
        (use(None), ""),
    ],
)
def test_an_end_is_foretold_only_where_that_is_honest(known: MeasuredUse, words: str) -> None:
    assert trend_in_words(known) == words
    assert (full_in(known) is not None) is ("at this rate" in words)


def test_changes_have_their_sign() -> None:
    assert [signed_bytes(one) for one in (0, GB, -GB)] == ["no change", "+1 GB", "-1 GB"]


def test_each_warning_is_due_once_until_it_had_fallen_below_four_fifths() -> None:
    told, said = Warned.NOTHING, []
    for percent in (50, 89, 90, 95, 85, 91, 98, 100, 95, 81, 99, 79, 90, 99):
        before, told = told, warning_due(percent / 100, told)
        said.append((percent, told) if told not in (before, Warned.NOTHING) else None)
    assert [one for one in said if one] == [
        (90, Warned.NEARLY_FULL),
        (98, Warned.FULL),
        (90, Warned.NEARLY_FULL),
        (99, Warned.FULL),
    ]
    assert warning_due(1.2, Warned.NOTHING) is Warned.FULL, "one mail where both are due"
    assert warning_due(None, Warned.FULL) is Warned.FULL


# -- the service -------------------------------------------------------------------------------------------------------


class SetHomes(PlainHomes):
    """Homes that hold what a test says: counted where it stands in `counted`, else found by a walk."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.counted: dict[str, HomeUse] = {}
        self.walkable: dict[str, int] = {}
        self.looks: list[str] = []
        self.walks: list[str] = []
        self.away = False
        self.space = DiskSpace(1000 * GB, 100 * GB, 900 * GB)

    async def use(self, username: str) -> HomeUse:
        self.looks.append(username)
        if self.away:
            raise HomeUnavailable("The helper does not answer.")
        if username in self.walkable:
            return HomeUse(None, None, 5 * GB)
        return self.counted.get(username, HomeUse(None, None))

    async def measure(self, username: str) -> HomeUse:
        self.walks.append(username)
        if self.away:
            raise HomeUnavailable("The helper does not answer.")
        return HomeUse(self.walkable[username], None, 5 * GB)

    async def disk(self) -> DiskSpace:
        return self.space


class HomesWorld(World):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.homes = SetHomes(self.homes_root)

    async def with_homes(self) -> Platform:
        platform = await self.open()
        # The parts that look, as they were built: over these homes.
        for part in (platform.live.homes, platform.home_use):
            part._homes = self.homes
        return platform

    async def pass_at(self, platform: Platform, at: datetime) -> None:
        self.clock.now = at
        await platform.home_use.count(at)

    async def mails(self, platform: Platform) -> list[EmailMessage]:
        """Those that were sent since it was last asked."""
        await platform.mail.drain()
        sent, self.letters.sent[:] = list(self.letters.sent), []
        return sent


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HomesWorld]:
    world = HomesWorld(tmp_path)
    yield world
    await world.close()


async def kept(platform: Platform, user: User) -> MeasuredUse:
    found = await platform.live.measured.of(user.id)
    assert found is not None
    return found


async def test_homes_in_use_are_measured_often_and_others_seldom(world: HomesWorld) -> None:
    platform = await world.with_homes()
    anna, _ = await sign_in(platform, "anna@example.org")
    await sign_in(platform, "bert@example.org")
    await world.pass_at(platform, START)
    assert sorted(world.homes.looks) == ["anna", "bert"], "each once, to know it"
    instance = await launch(platform, anna)
    for seconds, expected in ((5, ["anna"]), (10, []), (20, ["anna"])):
        world.homes.looks.clear()
        await world.pass_at(platform, START + timedelta(seconds=seconds))
        assert world.homes.looks == expected, seconds
    await platform.instances.stop(instance.id, anna, ACTOR, world.clock.now)
    await platform.runner.wait()
    world.homes.looks.clear()
    await world.pass_at(platform, START + LIVE_EVERY + timedelta(seconds=7))
    assert world.homes.looks == ["anna"], "once more, what is left"
    world.homes.looks.clear()
    await world.pass_at(platform, START + OTHERS_EVERY - timedelta(minutes=1))
    assert world.homes.looks == []
    await world.pass_at(platform, START + 2 * OTHERS_EVERY)
    assert sorted(world.homes.looks) == ["anna", "bert"]


@on_every_database
async def test_what_is_found_is_kept_with_a_point_a_day_for_thirteen_months(world: HomesWorld) -> None:
    platform = await world.with_homes()
    anna, _ = await sign_in(platform, "anna@example.org")
    async with platform.database.transaction() as db:
        for day in range(399):
            used = {anna.id: (day + 1) * GB, home_use.DISK: GB}
            await home_history.put(db, (START + day * DAY).date(), used)
    world.homes.counted["anna"] = HomeUse(400 * GB, 1000 * GB, 900 * GB)
    await world.pass_at(platform, START + 399 * DAY)
    found = await kept(platform, anna)
    assert (found.used_bytes, found.limit_bytes, found.measured_at) == (400 * GB, 1000 * GB, START + 399 * DAY)
    assert found.growth == Growth(7 * GB, 30 * GB)
    async with platform.database.reading() as db:
        points = (await home_history.between(db, [anna.id], date(2000, 1, 1), date(2100, 1, 1)))[anna.id]
        disk = (await home_history.between(db, [home_use.DISK], date(2000, 1, 1), date(2100, 1, 1)))[home_use.DISK]
    assert len(points) == KEPT.days + 1
    assert points[(START + 399 * DAY).date()] == 400 * GB
    assert set(disk) == set(points)
    world.homes.counted["anna"] = HomeUse(500 * GB, 1000 * GB, 900 * GB)
    await world.pass_at(platform, START + 399 * DAY + 2 * OTHERS_EVERY)
    async with platform.database.reading() as db:
        points = (await home_history.between(db, [anna.id], date(2000, 1, 1), date(2100, 1, 1)))[anna.id]
    assert points[(START + 399 * DAY).date()] == 500 * GB, "the last one of a day"


async def test_what_hardly_changes_is_not_written_each_time(world: HomesWorld) -> None:
    platform = await world.with_homes()
    anna, _ = await sign_in(platform, "anna@example.org")
    await launch(platform, anna)
    world.homes.counted["anna"] = HomeUse(10 * GB, 64 * GB, 900 * GB)
    await world.pass_at(platform, START)
    await platform.runner.wait()
    position = platform.database.changes.position
    for number in range(1, 10):
        world.homes.counted["anna"] = HomeUse(10 * GB + number, 64 * GB, 900 * GB)
        await platform.home_use.count(START + number * LIVE_EVERY)
    assert (await kept(platform, anna)).measured_at == START
    assert platform.live.homes.latest("anna").used_bytes == 10 * GB + 9, "and this process knows all the same"
    world.homes.counted["anna"] = HomeUse(11 * GB, 64 * GB, 900 * GB)
    await platform.home_use.count(START + 10 * LIVE_EVERY)
    assert (await kept(platform, anna)).used_bytes == 11 * GB
    assert platform.database.changes.position > position


@on_every_database
async def test_what_nobody_counts_is_walked_one_at_a_time_and_not_again_too_soon(world: HomesWorld) -> None:
    platform = await world.with_homes()
    anna, _ = await sign_in(platform, "anna@example.org")
    bert, _ = await sign_in(platform, "bert@example.org")
    world.homes.walkable = {"anna": 3 * GB, "bert": 4 * GB}
    await world.pass_at(platform, START)
    assert (await kept(platform, anna)).used_bytes is None
    await launch(platform, bert)
    await world.pass_at(platform, START + timedelta(seconds=20))
    walked = [await platform.home_use.walk(world.clock) for _ in range(3)]
    assert [one and one.username for one in walked] == ["bert", "anna", None], "who uses theirs comes first"
    found = await kept(platform, anna)
    assert (found.used_bytes, found.limit_bytes, found.free_bytes) == (3 * GB, None, 5 * GB)
    assert found.walked_seconds is not None

    world.clock.now = START + timedelta(minutes=50)
    await platform.home_use.count(world.clock.now)
    assert (await kept(platform, bert)).used_bytes == 4 * GB, "a look takes nothing away"
    assert await platform.home_use.walk(world.clock) is None
    world.clock.now = START + timedelta(minutes=62)
    again = await platform.home_use.walk(world.clock)
    assert again is not None
    assert again.username == "bert"
    assert await platform.home_use.walk(world.clock) is None
    world.clock.now = START + timedelta(hours=25)
    await platform.home_use.count(world.clock.now)
    await platform.home_use.keep({bert.id: HomeUse(GB, None, GB)}, world.clock.now, walked_seconds=7200.0)
    again = await platform.home_use.walk(world.clock)
    assert again is not None
    assert again.username == "anna"
    world.clock.now += timedelta(hours=3)
    assert await platform.home_use.walk(world.clock) is None, "what took long is left alone for longer"
    world.clock.now += timedelta(seconds=7200 * REST_FACTOR)
    assert await platform.home_use.walk(world.clock) is not None


async def test_among_many_homes_those_in_use_and_those_that_can_be_walked_have_their_turn(
    world: HomesWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else is older: more idle homes than are considered at once, and more that nobody can walk."""
    monkeypatch.setattr("launchpad.services.home_use.WALKS_CONSIDERED", 2)
    platform = await world.with_homes()
    broken = [f"b{number}" for number in range(3)]
    names = [*broken, *(f"i{number}" for number in range(3)), "used"]
    people = {name: (await sign_in(platform, f"{name}@example.org"))[0] for name in names}
    world.homes.walkable = dict.fromkeys(names, GB)
    world.clock.now = START
    for name in names:  # idle ones were walked hours ago, the one in use somewhat later; of the broken ones none ever
        seen = HomeUse(None if name in broken else GB, None, GB)
        at = START - timedelta(hours=2 if name == "used" else 20)
        await platform.home_use.keep({people[name].id: seen}, at, walked_seconds=None if name in broken else 1.0)
    platform.home_use._in_use = {people["used"].id}
    platform.home_use._walk_failed = {people[name].id: START for name in broken}
    walked = [await platform.home_use.walk(world.clock) for _ in range(2)]
    assert [one and one.username for one in walked] == ["used", None]
    world.clock.now += timedelta(minutes=50)
    platform.home_use._in_use = set()
    platform.home_use._walk_failed = {people[name].id: world.clock.now for name in broken}
    assert await platform.home_use.walk(world.clock) is None
    world.clock.now += timedelta(hours=5)
    platform.home_use._walk_failed = {people[name].id: world.clock.now for name in broken}
    found = await platform.home_use.walk(world.clock)
    assert found is not None
    assert found.username.startswith("i"), "one that nobody can walk is before none"


async def test_what_cannot_be_told_changes_nothing_and_the_loop_says_so(world: HomesWorld) -> None:
    platform = await world.with_homes()
    people = [(await sign_in(platform, f"{name}@example.org"))[0] for name in ("anna", "bert", "carl", "dora")]
    for one in people:
        world.homes.counted[one.username] = HomeUse(10 * GB, 64 * GB, 900 * GB)
    world.homes.walkable["dora"] = GB
    await world.pass_at(platform, START)
    world.homes.away = True
    with pytest.raises(HomeUnavailable):
        await world.pass_at(platform, START + 2 * OTHERS_EVERY)
    assert len(world.homes.looks) == 4 + 3, "three in a row are enough"
    found = await kept(platform, people[0])
    assert (found.used_bytes, found.measured_at) == (10 * GB, START)
    assert (await platform.home_use.walk(world.clock)) is not None
    assert (await platform.home_use.walk(world.clock)) is None, "not again at once"


async def test_an_owner_is_told_once_at_ninety_percent_and_once_when_it_is_full(world: HomesWorld) -> None:
    """In their own time zone, with what to do; again only after it had fallen below 80 %."""
    platform = await world.with_homes()
    anna, _ = await sign_in(platform, "anna@example.org")
    anna = await platform.users.set_time_zone(anna, "Asia/Singapore")
    await world.mails(platform)
    at = START

    async def told(used: float) -> list[EmailMessage]:
        nonlocal at
        at += 2 * OTHERS_EVERY
        world.homes.counted["anna"] = HomeUse(round(used * GB), 100 * GB, 900 * GB)
        await world.pass_at(platform, at)
        return await world.mails(platform)

    assert await told(50) == []
    [nearly] = await told(91)
    assert nearly["To"] == "anna@example.org"
    assert nearly["Subject"].endswith("your home folder is nearly full (91 GB of 100 GB)")
    text = nearly.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert "91 GB of the 100 GB that it may (91 %), as of Mon 2 Mar, 21:30 UTC+8" in " ".join(text.split())
    for words in (
        "du -xh",
        "~/.cache",
        "Trash",
        "ask your administrators",
        f"{platform.settings.public_url}/dashboard",
    ):
        assert words in text
    assert await told(95) == []
    [full] = await told(99.5)
    assert full["Subject"].endswith("your home folder is full (99.5 GB of 100 GB)")
    assert "You can still launch" in " ".join(full.get_body(("plain",)).get_content().split())  # type: ignore[union-attr]
    for calm in (100, 92, 85, 99, 81):
        assert await told(calm) == []
    assert (await kept(platform, anna)).warned is Warned.FULL
    assert await told(79) == []
    assert len(await told(90)) == 1


async def test_who_is_suspended_is_not_written_to(world: HomesWorld) -> None:
    platform = await world.with_homes()
    anna, _ = await sign_in(platform, "anna@example.org")
    await platform.users.change(anna.id, UserChange(status=UserStatus.SUSPENDED), ACTOR, START)
    await world.mails(platform)
    world.homes.counted["anna"] = HomeUse(99 * GB, 100 * GB, 900 * GB)
    await world.pass_at(platform, START)
    assert await world.mails(platform) == []
    await platform.users.change(anna.id, UserChange(status=UserStatus.ACTIVE), ACTOR, START)
    await world.pass_at(platform, START + 2 * OTHERS_EVERY)
    assert len(await world.mails(platform)) == 1


async def test_administrators_are_told_of_the_disk(world: HomesWorld) -> None:
    platform = await world.with_homes()
    await sign_in(platform, "admin@example.org")
    await sign_in(platform, "anna@example.org")
    await world.mails(platform)
    await world.pass_at(platform, START)
    assert await world.mails(platform) == []
    world.homes.space = DiskSpace(1000 * GB, 930 * GB, 70 * GB)
    await world.pass_at(platform, START + OTHERS_EVERY)
    [letter] = await world.mails(platform)
    assert letter["To"] == "admin@example.org"
    assert letter["Subject"].endswith("the disk with home folders is nearly full")
    text = " ".join(letter.get_body(("plain",)).get_content().split())  # type: ignore[union-attr]
    assert "(1000 GB), 70 GB are free" in text
    assert "/admin/storage" in text
    await world.pass_at(platform, START + 2 * OTHERS_EVERY)
    assert await world.mails(platform) == []
    disk = await platform.live.measured.disk()
    assert disk is not None
    assert (disk.used_bytes, disk.limit_bytes, disk.free_bytes) == (930 * GB, 1000 * GB, 70 * GB)


# -- administrators' lists ---------------------------------------------------------------------------------------------


@on_every_database
async def test_every_order_comes_whole_page_by_page(world: HomesWorld) -> None:
    """Many have the same number, and some none; each comes once, the larger before the smaller."""
    platform = await world.with_homes()
    measured: dict[str, MeasuredUse] = {}
    for number in range(25):
        user, _ = await sign_in(platform, f"user{number:02}@example.org")
        if number % 6:
            used, limit = (number % 5) * GB, (100 * GB if number % 4 else None)
            measured[user.id] = use(used, limit, (number % 3 - 1) * GB, None if number % 7 else number * GB)
    async with platform.database.transaction() as db:
        await home_use.put(db, measured)

    def of(one: MeasuredUse | None, sort: Sort) -> float:
        if one is None:
            return float("-inf")
        numbers: dict[Sort, float | None] = {
            Sort.USED: one.used_bytes,
            Sort.LIMIT: one.limit_bytes,
            Sort.SHARE: one.share,
            Sort.WEEK: one.growth.week_bytes,
            Sort.MONTH: one.growth.month_bytes,
        }
        found = numbers[sort]
        return float("-inf") if found is None else found

    for sort in Sort:
        rows, after = [], None
        while page := await platform.home_use.page(sort, search="", limit=4, after=after):
            assert len(page) <= 4
            rows += page
            after = page[-1].place
        assert sorted(row.user.email for row in rows) == [f"user{number:02}@example.org" for number in range(25)]
        if sort is Sort.EMAIL:
            assert [row.user.email for row in rows] == sorted(row.user.email for row in rows)
        else:
            values = [of(row.use, sort) for row in rows]
            assert values == sorted(values, reverse=True), sort
        assert all(row.use == measured.get(row.user.id) or row.use.looked_at for row in rows if row.use), sort
    found = await platform.home_use.page(Sort.USED, search="user07", limit=9, after=None)
    assert [row.user.email for row in found] == ["user07@example.org"]


@on_every_database
async def test_labs_and_counts_add_up(world: HomesWorld) -> None:
    platform = await world.with_homes()
    uses = {
        "anna": ("Genomics", use(99 * GB, 100 * GB, 1 * GB, 2 * GB)),
        "bert": ("Genomics", use(92 * GB, 100 * GB, 3 * GB, None)),
        "carl": ("Physics", use(10 * GB, 100 * GB)),
        "dora": (None, use(5 * GB, None)),
        "emil": (None, use(None, None)),
        "fred": (None, None),
    }
    measured = {}
    for name, (lab, known) in uses.items():
        user, _ = await sign_in(platform, f"{name}@example.org")
        await platform.users.change(user.id, UserChange(lab=lab), ACTOR, START)
        if known is not None:
            measured[user.id] = known
    async with platform.database.transaction() as db:
        await home_use.put(db, measured | {home_use.DISK: use(500 * GB, 1000 * GB)})
    labs = await platform.home_use.by_lab()
    shown = [(one.lab, one.people, one.used_bytes // GB, one.limit_bytes // GB) for one in labs]
    assert shown == [("Genomics", 2, 191, 200), ("Physics", 1, 10, 100), (None, 3, 5, 0)]
    assert (labs[0].grown_week_bytes, labs[0].grown_month_bytes) == (4 * GB, 2 * GB)
    counts = await platform.home_use.counts()
    assert (counts.full, counts.nearly_full, counts.with_room, counts.without_limit, counts.unknown) == (1, 1, 1, 1, 1)
    assert counts.used_bytes == 206 * GB
