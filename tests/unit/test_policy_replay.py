"""A replay of a rule over what the portal recorded: whose, how finely, of how long; on both databases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from launchpad.domain.activity import Point, Step, step_of
from launchpad.domain.history import HistoryRecord
from launchpad.domain.instances import Instance, Stage, State
from launchpad.domain.limits import Limits
from launchpad.domain.policy import EVERYONE, IdleAction, IdleRule, Scope, Verdict
from launchpad.domain.replay import Afterwards
from launchpad.domain.usage import ContainerActivity, Usage
from launchpad.errors import InvalidInput
from launchpad.platform import Platform
from launchpad.services.policy_replay import PolicyReplayService, ReplayReport, ReplayRequest
from launchpad.store import activity, instance_history
from support.platforms import START, World, launch, reaches, sign_in, until

pytestmark = pytest.mark.usefixtures("every_database")
GB = 1024**3
RULE = IdleRule(IdleAction.STOP, 240)
GAP, SETTLE = timedelta(minutes=3), timedelta(minutes=10)


async def replayed(world: World, platform: Platform, days: int = 30, scope: Scope = EVERYONE) -> ReplayReport:
    service = PolicyReplayService(platform.database, GAP, SETTLE, frees_memory=True)
    return await service.replay(ReplayRequest(RULE, days, scope), world.clock.now)


async def ended(
    platform: Platform,
    name: str,
    started_at: datetime,
    ended_at: datetime,
    email: str = "ada@example.org",
    lab: str = "",
) -> None:
    instance = Instance(
        id=name,
        owner_id="somebody",
        environment="jupyterlab",
        state=State.STOPPED,
        stage=Stage.ENDED,
        reason="stopped by you",
        limits=Limits(8 * GB, 2.0, GB, 1),
        created_at=started_at,
        expires_at=ended_at,
        started_at=started_at,
        ended_at=ended_at,
    )
    async with platform.database.transaction() as db:
        await instance_history.add(db, HistoryRecord(instance, email, lab or None))


def series(begin: datetime, step: Step, what: str) -> list[Point]:
    """A letter a step: "w" worked, "p" used by a person, "." idle, a blank nothing known."""
    begin = step_of(begin, step)
    return [
        Point(
            begin + number * timedelta(seconds=step), 0.01, 3 * GB, GB, 9, was_working=one == "w", was_used=one == "p"
        )
        for number, one in enumerate(what)
        if one != " "
    ]


async def record(platform: Platform, step: Step, points: Mapping[str, Sequence[Point]]) -> None:
    async with platform.database.transaction() as db:
        await activity.add(db, step, points)


@pytest.mark.slow
async def test_the_finest_that_is_kept_of_each_time_is_read(world: World) -> None:
    """Hours of what is older than five weeks, quarters of what is older than two days, then minutes."""
    platform = await world.open()
    now = world.clock.now
    old, middle, new = now - timedelta(days=40), now - timedelta(days=10), now - timedelta(days=1)
    for name, begin in (("old", old), ("middle", middle), ("new", new)):
        await ended(platform, name, begin, begin + timedelta(hours=12))
    for step in Step:  # all of them have all resolutions, as before anything is pruned
        number = 12 * 3600 // step
        idle = "w" * (3600 // step) + "." * (number - 3600 // step)
        await record(platform, step, {"old": series(old, step, idle), "middle": series(middle, step, idle)})
        await record(platform, step, {"new": series(new, step, idle)})
    report = await replayed(world, platform, days=60)
    assert {end.instance.id: end.step_seconds for end in report.ends} == {"old": 3600, "middle": 900, "new": 60}
    assert [one.step for one in report.resolutions] == [Step.HOUR, Step.QUARTER, Step.MINUTE]
    assert report.resolutions[0].since == report.since
    assert [(a.until, b.since) for a, b in zip(report.resolutions, report.resolutions[1:], strict=False)] == [
        (one.until, one.until) for one in report.resolutions[:-1]
    ]
    assert report.recorded_since is not None
    assert abs(report.recorded_since - old) < timedelta(hours=1)
    assert (report.instances, report.totals.instances) == (3, 3)
    assert report.totals.gb_hours == pytest.approx(3 * 8 * 7, abs=8 * 3)
    assert [one.step for one in (await replayed(world, platform, days=1)).resolutions] == [Step.MINUTE]


@pytest.mark.slow
async def test_a_series_of_steps_goes_on_over_its_chunks_and_resolutions(world: World) -> None:
    """Idle from three days ago to now: the quarters become minutes in between, and that is no gap."""
    platform = await world.open()
    begin = step_of(world.clock.now, Step.HOUR) - timedelta(days=3)
    await ended(platform, "long", begin, world.clock.now)
    await record(platform, Step.QUARTER, {"long": series(begin, Step.QUARTER, "." * 4 * 72)})
    await record(platform, Step.MINUTE, {"long": series(begin + timedelta(days=1), Step.MINUTE, "." * 60 * 48)})
    service = PolicyReplayService(platform.database, GAP, SETTLE, frees_memory=True)
    request = ReplayRequest(IdleRule(IdleAction.STOP, 60 * 24 * 2), 30)
    (end,) = (await service.replay(request, world.clock.now)).ends
    assert end.at == begin + timedelta(days=2, minutes=15)


@pytest.mark.slow
async def test_the_rule_is_about_an_environment_a_lab_or_a_user(world: World) -> None:
    platform = await world.open()
    begin = world.clock.now - timedelta(hours=30)
    for name, email, lab in (("one", "ada@example.org", "genomics"), ("two", "bob@example.org", "")):
        await ended(platform, name, begin, begin + timedelta(hours=20), email, lab)
        await record(platform, Step.MINUTE, {name: series(begin, Step.MINUTE, "." * 60 * 20)})

    async def of(**scope: str) -> list[str]:
        return sorted(end.instance.id for end in (await replayed(world, platform, scope=Scope(**scope))).ends)

    assert await of() == ["one", "two"]
    assert await of(lab="genomics") == await of(user="ada@example.org") == ["one"]
    assert await of(environment="jupyterlab", user="bob@example.org") == ["two"]
    assert await of(environment="rstudio") == await of(lab="physics") == []


@pytest.mark.slow
async def test_what_runs_is_replayed_up_to_now_and_its_owner_told(world: World) -> None:
    platform = await world.open()
    user, _ = await sign_in(platform, "ada@example.org")
    instance = await launch(platform, user)

    async def runs() -> bool:
        found = await platform.live.instances.find(instance.id)
        return found is not None and found.state == "running"

    await until(runs)
    world.clock.now = START + timedelta(hours=24)
    points = series(START, Step.MINUTE, "p" + "." * (60 * 12) + "p" + "." * (60 * 12 - 2))
    await record(platform, Step.MINUTE, {instance.id: points})
    first, second = (await replayed(world, platform)).ends
    assert first.instance.owner_email == "ada@example.org"
    assert (first.afterwards, second.afterwards) == (Afterwards.PERSON, Afterwards.NOTHING)
    assert second.until == world.clock.now
    report = await replayed(world, platform, scope=Scope(user="bob@example.org"))
    assert (report.ends, report.instances, report.recorded_since) == ([], 0, None)


# What three instances do, a letter for two minutes: "w" works for a moment of it, "p" somebody is there.
LIVES = ("p" + "." * 20, "pw" + "." * 5 + "w" + "." * 20, "p" + "." * 7 + "p" + "." * 3 + "w" + "." * 18)
LOOK = timedelta(seconds=30)
LIVE_RULE = IdleRule(IdleAction.STOP, 20)


async def lived(world: World) -> tuple[Platform, dict[str, str]]:
    """A portal that has looked at three instances again and again; whose each was."""
    platform = await world.open()
    owners: dict[str, str] = {}
    for number, _ in enumerate(LIVES):
        user, _ = await sign_in(platform, f"person{number}@example.org")
        instance = await reaches(platform, (await launch(platform, user)).id, State.RUNNING)
        owners[instance.id] = user.email
        world.runtime.activities[instance.id] = ContainerActivity(Usage(GB, 5.0, 7), 2 * GB)
    for step in range(max(map(len, LIVES))):
        for look in range(4):
            for name, life in zip(owners, LIVES, strict=True):
                kind = life[step] if step < len(life) else "."
                if kind == "p" and look == 1:
                    platform.activity.note_person(name, world.clock.now)
                if kind == "w" and look == 2 and name in world.runtime.activities:
                    before = world.runtime.activities[name]
                    usage = replace(before.usage, cpu_seconds=before.usage.cpu_seconds + 15)
                    world.runtime.activities[name] = replace(before, usage=usage)
            world.clock.now += LOOK
            await platform.activity.sample(world.clock.now)
            await platform.idle.tend(world.clock.now)
    return platform, owners


@pytest.mark.slow
async def test_of_what_it_recorded_itself_the_portal_would_have_ended_the_same(tmp_path: Path) -> None:
    """The same lives twice: with the rule on, and with it off and replayed afterwards."""
    settings = {"idle": {"action": "stop", "idle_minutes": LIVE_RULE.idle_minutes}}
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    with_rule, without = World(tmp_path / "with", settings), World(tmp_path / "without")
    try:
        platform, owners = await lived(with_rule)
        decisions = [one for one in await platform.keeping.decisions() if one.verdict is Verdict.STOP]
        live = {owners[one.instance_id]: one.idle_since for one in decisions if one.idle_since is not None}
        assert len(live) == len(LIVES), "all of them are left alone for long enough at last"
        platform, _ = await lived(without)
        report = await platform.policy_replay.replay(ReplayRequest(LIVE_RULE, 1), without.clock.now)
        assert len(report.ends) == len(LIVES)
        for end in report.ends:
            at = live[end.instance.owner_email] + LIVE_RULE.idle_time
            assert at <= end.at <= at + timedelta(minutes=2), (end, at)
    finally:
        await with_rule.close()
        await without.close()


@pytest.mark.parametrize(
    ("rule", "days", "field"), [(IdleRule(), 30, "action"), (RULE, 0, "days"), (RULE, 9999, "days")]
)
async def test_what_cannot_be_replayed_is_refused(world: World, rule: IdleRule, days: int, field: str) -> None:
    platform = await world.open()
    service = PolicyReplayService(platform.database, GAP, SETTLE, frees_memory=True)
    with pytest.raises(InvalidInput) as refused:
        await service.replay(ReplayRequest(rule, days), world.clock.now)
    assert field in refused.value.fields
