"""The idle policy at work: what is watched, ended, frozen and kept, also when processes come and go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from launchpad.domain.activity import Program
from launchpad.domain.instances import Instance, State
from launchpad.domain.policy import EVERYONE, IdleAction, IdleRule, Scope, Verdict, Why
from launchpad.domain.usage import ContainerActivity, Usage
from launchpad.errors import Conflict, InvalidInput, NotFound
from launchpad.platform import Platform
from launchpad.runtime.base import Freezer
from launchpad.services.extension_links import ExtensionLinks, Link
from launchpad.services.freezing import DRAIN, PAUSE_TRIES
from launchpad.services.users import UserChange
from support.databases import on_every_database
from support.platforms import ACTOR, World, launch, reaches, sign_in, until

MB = 1024**2
IDLE = ContainerActivity(Usage(100 * MB, 5.0, 7), 300 * MB)
STOP = IdleRule(IdleAction.STOP, 30)
FREEZE = IdleRule(IdleAction.FREEZE, 30)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
STEP = 3 * MINUTE  # between two passes; they may be four minutes apart
SPAN = 30 * MINUTE  # of the rule
LATE = 2 * STEP  # after its end, an instance is stopped at the latest


SETTINGS = {"activity": {"sample_seconds": 60}, "limits": {"days": [1, 7]}}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, {**SETTINGS, "idle": {"action": "stop", "idle_minutes": 30}})
    yield world
    await world.close()


async def running(world: World, platform: Platform, who: str = "ada@example.org") -> Instance:
    user, _ = await sign_in(platform, who)
    instance = await reaches(platform, (await launch(platform, user, days=7)).id, State.RUNNING)
    world.runtime.activities[instance.id] = IDLE
    return instance


def works(world: World, instance: Instance, cores: float, seconds: float) -> None:
    """It computes until the next look, which is so far away."""
    before = world.runtime.activities[instance.id]
    usage = replace(before.usage, cpu_seconds=before.usage.cpu_seconds + cores * seconds)
    programs = (Program("STAR", cores, MB),) if cores else ()
    world.runtime.activities[instance.id] = replace(before, usage=usage, programs=programs)


async def look(world: World, *platforms: Platform, after: timedelta = STEP) -> list[str]:
    """A pass of each process after some time: of the one that owns the work first; what was acted upon."""
    world.clock.now += after
    acted: list[str] = []
    for platform in platforms:
        if platform.lease.is_held:
            await platform.activity.sample(world.clock.now)
            acted += await platform.idle.tend(world.clock.now)
        else:
            await platform.activity.read()
            await platform.idle.read(world.clock.now)
    return acted


async def look_for(world: World, span: timedelta, *platforms: Platform) -> dict[str, datetime]:
    """Passes for some time; when what was acted upon."""
    until = world.clock.now + span
    acted: dict[str, datetime] = {}
    while world.clock.now < until:
        acted |= dict.fromkeys(await look(world, *platforms), world.clock.now)
    return acted


async def state_of(platform: Platform, instance: Instance) -> State:
    return (await platform.instances.get_any(instance.id)).state


async def verdicts(platform: Platform, instance: Instance) -> list[tuple[Verdict, Why]]:
    """The oldest first."""
    return [(one.verdict, one.why) for one in reversed(await platform.keeping.decisions_of(instance))]


@pytest.mark.slow
async def test_an_instance_without_a_person_and_without_work_is_stopped_and_both_read_why(world: World) -> None:
    platform = await world.open()
    instance = await running(world, platform)
    began = instance.started_at
    assert began is not None
    await look(world, platform)
    idle_since = world.clock.now
    acted = await look_for(world, SPAN + LATE, platform)
    assert list(acted) == [instance.id]
    assert idle_since + SPAN <= acted[instance.id] <= idle_since + SPAN + LATE
    ended = await reaches(platform, instance.id, State.STOPPED)
    assert ended.reason == f"idle since {idle_since:%-d %B %Y at %H:%M} UTC: no person and no work"
    assert ended.ended_by is None
    [decision] = await platform.keeping.decisions_of(ended)
    assert (decision.verdict, decision.why, decision.at) == (Verdict.STOP, Why.IDLE, acted[instance.id])
    assert decision.rule == "stopped after 30 minutes (everyone)"
    assert decision.idle_since == idle_since
    assert "no person and no work" in decision.evidence
    assert f"a person was last seen on {began:%-d %B %Y at %H:%M} UTC" in decision.evidence
    assert await platform.keeping.decisions() == [decision]
    assert await platform.idle.decided_since(idle_since) == {Verdict.STOP: 1}
    [(actor, details)] = world.rows("SELECT actor, details FROM audit WHERE action = 'instance.stopped'")
    assert actor == "system"
    assert "no person and no work" in details
    assert await platform.idle.tend(world.clock.now) == []


@pytest.mark.slow
async def test_the_portals_own_loops_do_it(world: World) -> None:
    world.settings |= {
        "activity": {"sample_seconds": 0.5},
        "idle": {"action": "stop", "idle_minutes": 4, "settle_minutes": 1},
    }
    platform = await world.open()
    assert "idle" in {loop.name for loop in platform.background.health()}
    instance = await running(world, platform)
    world.run(platform, platform.activity.loop(world.clock), platform.idle.loop(world.clock))

    async def ended() -> bool:
        """Time goes by whenever both loops have looked."""
        if platform.activity.sampled_at == platform.idle.looked_at == world.clock.now:
            world.clock.now += 2 * MINUTE
        return await state_of(platform, instance) is State.STOPPED

    await until(ended)
    assert (await platform.keeping.decisions_of(instance))[0].verdict is Verdict.STOP


@pytest.mark.slow
async def test_nothing_is_done_and_nothing_is_written_unless_a_rule_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, SETTINGS)
    platform = await world.open()
    instance = await running(world, platform)
    assert await look_for(world, 2 * SPAN, platform) == {}
    assert await state_of(platform, instance) is State.RUNNING
    assert platform.idle.idle_ends() == {}
    assert world.rows("SELECT count(*) FROM idle_watches") == [(0,)]
    assert world.rows("SELECT count(*) FROM kv WHERE key = 'idle.passed'") == [(0,)]
    await world.close()


@pytest.mark.slow
async def test_work_keeps_it_however_long_nobody_is_there_and_a_burst_now_and_then_is_enough(world: World) -> None:
    platform = await world.open()
    instance = await running(world, platform)
    await look(world, platform)
    for _ in range(12):
        assert await look_for(world, SPAN - LATE, platform) == {}
        works(world, instance, 11, STEP.total_seconds())
        assert await look(world, platform) == []
        works(world, instance, 0, 0)
    assert await state_of(platform, instance) is State.RUNNING
    decisions = await platform.keeping.decisions_of(instance)
    assert {(one.verdict, one.why) for one in decisions} == {(Verdict.KEEP, Why.WORKING)}
    assert len(decisions) == 1, "what keeps it is written down, and not each time"
    assert "STAR, 11 cores" in decisions[0].evidence
    assert await look_for(world, SPAN + LATE, platform) != {}


@pytest.mark.slow
async def test_a_persons_act_puts_it_off_also_one_that_only_another_process_has_seen(world: World) -> None:
    owner = await world.open()
    other = await world.open(mail=False)
    instance = await running(world, owner)
    assert await look_for(world, SPAN - STEP, owner, other) == {}
    other.activity.note_person(instance.id, world.clock.now)
    acted = world.clock.now
    await other.activity.settle()
    assert await look_for(world, SPAN, owner, other) == {}
    assert list(await look_for(world, LATE, owner, other)) == [instance.id]
    assert world.clock.now > acted + SPAN


@pytest.mark.slow  # waits for a clock
@on_every_database
async def test_an_act_between_the_last_look_and_the_end_is_seen_before_it_ends(world: World) -> None:
    """What another process has written down since is read in the transaction that would end it."""
    owner = await world.open()
    other = await world.open(mail=False)
    instance = await running(world, owner)
    assert await look_for(world, SPAN, owner) == {}
    other.activity.note_person(instance.id, world.clock.now)
    await other.activity.settle()
    world.clock.now += STEP
    seen = owner.activity.latest(instance.id)
    assert seen is not None
    assert world.clock.now - seen.last_person_at > SPAN, "this process has not read it yet"
    assert await owner.idle.tend(world.clock.now) == []
    assert await state_of(owner, instance) is State.RUNNING
    assert await verdicts(owner, instance) == []


@pytest.mark.slow
async def test_the_most_specific_rule_applies_to_whom_it_names(world: World) -> None:
    platform = await world.open()
    ada = await running(world, platform)
    bob = await running(world, platform, "bob@example.org")
    await platform.users.change(ada.owner_id, UserChange(lab="genomics"), ACTOR, world.clock.now)
    await platform.idle_policy.set_rule(Scope(lab="genomics"), IdleRule(), ACTOR, world.clock.now)
    await platform.idle_policy.set_rule(
        Scope(user="bob@example.org"), IdleRule(IdleAction.STOP, 15), ACTOR, world.clock.now
    )
    acted = await look_for(world, 15 * MINUTE + LATE, platform)
    assert list(acted) == [bob.id]
    assert await look_for(world, 2 * SPAN, platform) == {}, "her lab is exempt"
    [decision] = await platform.keeping.decisions_of(bob)
    assert decision.rule == "stopped after 15 minutes (bob@example.org)"


@pytest.mark.slow
async def test_a_rule_counts_from_when_it_is_in_force(world: World) -> None:
    """Nothing ends at once when an administrator turns a rule on or makes one stricter."""
    platform = await world.open()
    instance = await running(world, platform)
    await look_for(world, SPAN - STEP, platform)
    await platform.idle_policy.set_rule(EVERYONE, IdleRule(IdleAction.STOP, 15), ACTOR, world.clock.now)
    assert await look_for(world, 15 * MINUTE, platform) == {}
    assert list(await look_for(world, LATE, platform)) == [instance.id]


@pytest.mark.slow
async def test_a_rule_that_is_turned_off_at_the_last_moment_ends_nothing(world: World) -> None:
    platform = await world.open()
    other = await world.open(mail=False)
    instance = await running(world, platform)
    await look_for(world, SPAN, platform)
    held = platform.idle._held[instance.id]
    found = platform.idle.decision(instance, world.clock.now + STEP)
    assert found is not None
    await other.idle_policy.set_rule(EVERYONE, IdleRule(), ACTOR, world.clock.now)
    assert not await platform.idle._stop(held, found, world.clock.now + STEP)
    assert await look_for(world, SPAN, platform) == {}


@pytest.mark.slow
async def test_what_is_not_known_is_kept_and_counts_anew_afterwards(world: World) -> None:
    """The engine does not answer, so nobody looks; instances go on."""
    platform = await world.open()
    instance = await running(world, platform)
    await look_for(world, SPAN - STEP, platform)
    for _ in range(5):
        world.clock.now += STEP
        assert await platform.idle.tend(world.clock.now) == [], "what was seen is too old"
    assert platform.idle.idle_ends() == {}
    assert (Verdict.KEEP, Why.UNKNOWN) in await verdicts(platform, instance)
    assert await look_for(world, SPAN, platform) == {}
    assert list(await look_for(world, LATE, platform)) == [instance.id]


@pytest.mark.slow
async def test_a_portal_that_was_away_for_a_moment_goes_on_counting_and_settles_first(world: World) -> None:
    first = await world.open()
    instance = await running(world, first)
    await look_for(world, SPAN - STEP, first)
    await world.crash(first)
    second = await world.open()
    assert await look_for(world, 12 * MINUTE, second) == {}, "it has not watched for ten minutes"
    assert list(await look_for(world, LATE, second)) == [instance.id]
    assert world.rows("SELECT count(*) FROM idle_decisions WHERE verdict = 'stop'") == [(1,)]


@pytest.mark.slow
async def test_after_an_outage_idle_time_begins_anew(world: World) -> None:
    first = await world.open()
    instance = await running(world, first)
    await look_for(world, SPAN - STEP, first)
    await world.crash(first)
    world.clock.now += 5 * MINUTE
    second = await world.open()
    assert await look_for(world, SPAN, second) == {}
    assert list(await look_for(world, LATE, second)) == [instance.id]


@pytest.mark.slow
async def test_a_short_rule_waits_until_an_instance_has_settled(tmp_path: Path) -> None:
    world = World(tmp_path, {**SETTINGS, "idle": {"action": "stop", "idle_minutes": 1}})
    platform = await world.open()
    instance = await running(world, platform)
    began = world.clock.now
    acted = await look_for(world, 18 * MINUTE, platform)
    assert acted[instance.id] >= began + 10 * MINUTE
    await world.close()


@pytest.mark.slow
async def test_a_clock_that_jumped_ends_nothing_and_idle_time_begins_anew(world: World) -> None:
    elapsed = [0.0]
    world.elapsed = lambda: elapsed[0]
    platform = await world.open()
    instance = await running(world, platform)

    async def passes(number: int) -> list[str]:
        acted = []
        for _ in range(number):
            elapsed[0] += STEP.total_seconds()
            acted += await look(world, platform)
            await platform.sweep.sweep(world.clock.now)
        return acted

    assert await passes(5) == []
    world.clock.now += timedelta(hours=10)
    assert await passes(20) == [], "an hour of doubt"
    assert await state_of(platform, instance) is State.RUNNING
    assert await passes(9) == []
    assert await passes(4) == [instance.id]


@pytest.mark.slow
async def test_the_clock_set_back_ends_nothing_early(world: World) -> None:
    platform = await world.open()
    instance = await running(world, platform)
    await look_for(world, SPAN - STEP, platform)
    world.clock.now -= 15 * MINUTE
    set_back = world.clock.now
    acted = await look_for(world, 2 * SPAN, platform)
    assert acted[instance.id] >= set_back + SPAN


@pytest.mark.slow
async def test_its_owner_keeps_it_until_then_and_every_process_knows(world: World) -> None:
    owner = await world.open()
    other = await world.open(mail=False)
    instance = await running(world, owner)
    await look_for(world, SPAN - STEP, owner, other)
    with pytest.raises(InvalidInput, match="so long"):
        await other.keeping.keep(instance, 73, ACTOR, world.clock.now)
    kept = await other.keeping.keep(instance, 1.5, ACTOR, world.clock.now)
    await other.activity.settle()  # else the pass that is to act may be the one in which the owner learns of the person
    assert kept.kept_until == world.clock.now + 1.5 * HOUR
    assert other.idle.idle_ends()[instance.id].ends_at == kept.kept_until
    assert await look_for(world, 1.5 * HOUR, owner, other) == {}
    for platform in (owner, other):
        assert platform.idle.idle_ends()[instance.id].ends_at == kept.kept_until
    assert list(await look_for(world, STEP, owner, other)) == [instance.id]
    found = await verdicts(owner, instance)
    assert found == [(Verdict.KEEP, Why.KEPT), (Verdict.KEEP, Why.KEPT), (Verdict.STOP, Why.IDLE)]
    [(actor,)] = world.rows("SELECT actor FROM audit WHERE action = 'instance.kept'")
    assert actor == ACTOR.name


def keeping_token(platform: Platform, instance: Instance) -> str:
    """Of a link in an e-mail that puts off the idle end."""
    end = platform.idle.idle_ends()[instance.id].ends_at
    links = ExtensionLinks(platform.state.key("extension-links"), "")
    return links.token(Link(instance.id, instance.expires_at, end))


async def owners_acts(platform: Platform, instance: Instance) -> dict[str, Callable[[], Awaitable[object]]]:
    """What an owner does to an instance without going into it."""
    owner = await platform.users.get(instance.owner_id)
    now = platform.now
    token = keeping_token(platform, instance)
    shown = platform.extensions.show(token, now() - MINUTE)
    gb = instance.limits.memory_bytes
    return {
        "extend": lambda: platform.instances.extend(instance.id, owner, 1, ACTOR, now()),
        "memory": lambda: platform.rescue.give(instance.id, 2 * gb, ACTOR, now(), owner=owner),
        "link": lambda: platform.extensions.use(
            token, days=None, mark=shown.mark, held=shown.proof, number="", client="", now=now()
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize("way", ["extend", "memory", "link"])
async def test_what_an_owner_does_to_it_elsewhere_puts_the_end_off_at_the_last_moment_too(
    world: World, way: str
) -> None:
    """In another process, and this one has not read it yet as it would end it."""
    owner = await world.open()
    other = await world.open(mail=False)
    instance = await running(world, owner)
    assert await look_for(world, SPAN, owner, other) == {}
    act = (await owners_acts(other, instance))[way]
    world.clock.now += STEP
    held, found = owner.idle._held[instance.id], owner.idle.decision(instance, world.clock.now)
    assert found is not None
    assert found.is_due(world.clock.now)
    await act()
    acted = world.clock.now
    assert not await owner.idle._stop(held, found, world.clock.now)
    assert await look_for(world, SPAN, owner, other) == {}
    assert list(await look_for(world, LATE, owner, other)) == [instance.id]
    assert world.clock.now > acted + SPAN


@pytest.mark.slow
async def test_a_link_says_when_the_instance_has_ended_meanwhile(world: World) -> None:
    """Between the look at the link and its use: nobody is told that it is kept."""
    platform = await world.open()
    instance = await running(world, platform)
    await look_for(world, SPAN, platform)
    outlook = await platform.extensions.outlook(keeping_token(platform, instance), world.clock.now)
    await platform.runner.end(instance, State.STOPPED, "stopped by you", world.clock.now)
    with pytest.raises(Conflict, match="has ended"):
        await platform.extensions._keep(outlook, ACTOR, world.clock.now)
    assert world.rows("SELECT * FROM audit WHERE action = 'instance.kept'") == []


@pytest.mark.slow  # waits for a clock
async def test_keeping_is_taken_back_bounded_by_the_expiry_and_refused_where_it_is_off(world: World) -> None:
    platform = await world.open()
    instance = await running(world, platform)
    world.clock.now = instance.expires_at - 5 * HOUR
    kept = await platform.keeping.keep(instance, 20, ACTOR, world.clock.now)
    assert kept.kept_until == instance.expires_at
    assert (await platform.keeping.keep(instance, 0, ACTOR, world.clock.now)).kept_until is None
    assert (await platform.instances.get_any(instance.id)).kept_until is None
    world.clock.now = instance.expires_at + MINUTE
    with pytest.raises(Conflict, match="time is up"):
        await platform.keeping.keep(instance, 20, ACTOR, world.clock.now)
    await platform.runner.end(instance, State.STOPPED, "stopped by you", world.clock.now)
    with pytest.raises(Conflict, match="runs"):
        await platform.keeping.keep(instance, 1, ACTOR, world.clock.now)
    world.settings["idle"] = {"keep_hours": 0}
    strict = await world.open(mail=False)
    with pytest.raises(Conflict, match="on this server"):
        await strict.keeping.keep(instance, 1, ACTOR, world.clock.now)


@pytest.mark.slow
async def test_one_is_frozen_and_ends_only_after_it_stood_still_for_as_long_as_it_may(world: World) -> None:
    world.settings |= {"idle": {"action": "freeze", "idle_minutes": 30}, "freezing": {"longest_hours": 2}}
    platform = await world.open()
    other = await world.open(mail=False)
    instance = await running(world, platform)
    acted = await look_for(world, SPAN + LATE, platform, other)
    assert list(acted) == [instance.id]
    world.clock.now += DRAIN
    await platform.freezing.tend(world.clock.now)
    frozen = await platform.instances.get_any(instance.id)
    assert frozen.is_frozen
    assert frozen.frozen_reason is not None
    assert frozen.frozen_reason.startswith("idle since 2 March 2026 at 09:33 UTC")
    assert await verdicts(platform, instance) == [(Verdict.FREEZE, Why.IDLE)]
    assert await look_for(world, SPAN + LATE, platform, other) == {}
    assert frozen.frozen_at is not None
    for one in (platform, other):
        assert one.idle.idle_ends() == {}, "how long it may stand still is no idle time"
    world.clock.now = frozen.frozen_at + 2 * HOUR
    await platform.sweep.sweep(world.clock.now)
    assert (await reaches(platform, instance.id, State.EXPIRED)).reason is not None


@pytest.mark.slow
async def test_a_thawed_one_has_its_whole_idle_time_again(world: World) -> None:
    world.settings |= {"idle": {"action": "freeze", "idle_minutes": 30}}
    platform = await world.open()
    instance = await running(world, platform)
    assert list(await look_for(world, SPAN + LATE, platform)) == [instance.id]
    world.clock.now += DRAIN
    await platform.freezing.tend(world.clock.now)
    await look_for(world, SPAN, platform)
    await platform.freezing.thaw(instance.id, world.clock.now, reason="somebody else made it go on")
    assert await look_for(world, SPAN, platform) == {}
    assert list(await look_for(world, LATE, platform)) == [instance.id]


@pytest.mark.slow
async def test_one_that_is_thawed_before_the_next_look_has_its_whole_idle_time_again_too(world: World) -> None:
    """Its owner freezes it for a moment; or it is frozen for being idle, and its owner thaws it at once."""
    world.settings |= {"idle": {"action": "freeze", "idle_minutes": 30}}
    platform = await world.open()
    instance = await running(world, platform)
    await look_for(world, SPAN - STEP, platform)
    await platform.freezing.freeze(instance.id, world.clock.now, "by its owner", actor=ACTOR)
    await platform.freezing.thaw(instance.id, world.clock.now, actor=ACTOR)
    assert await look_for(world, SPAN, platform) == {}
    held, found = platform.idle._held[instance.id], platform.idle.decision(instance, world.clock.now)
    assert found is not None
    assert found.verdict is Verdict.FREEZE
    assert list(await look_for(world, LATE, platform)) == [instance.id]
    await platform.freezing.thaw(instance.id, world.clock.now, actor=ACTOR)
    assert platform.idle.idle_ends() == {}, "none that is past"
    assert not await platform.idle._freeze(held, found, {}, world.clock.now), "decided before the thaw"
    assert await look_for(world, SPAN, platform) == {}
    assert list(await look_for(world, LATE, platform)) == [instance.id]


@pytest.mark.slow
async def test_one_that_the_engine_does_not_pause_is_tried_again_only_after_its_whole_idle_time(world: World) -> None:
    world.settings |= {"idle": {"action": "freeze", "idle_minutes": 30}}
    platform = await world.open()
    instance = await running(world, platform)
    await look_for(world, SPAN + LATE, platform)
    facts, world.runtime.freezer_facts = world.runtime.freezer_facts, Freezer(False, "unable to freeze")
    for _ in range(PAUSE_TRIES):
        world.clock.now += DRAIN
        await platform.freezing.tend(world.clock.now)
    world.runtime.freezer_facts = facts
    assert not (await platform.instances.get_any(instance.id)).is_to_be_frozen
    assert await look_for(world, SPAN, platform) == {}
    assert await verdicts(platform, instance) == [(Verdict.FREEZE, Why.IDLE)]


@pytest.mark.slow  # waits for a clock
async def test_keeping_a_frozen_one_thaws_it(world: World) -> None:
    world.settings |= {"idle": {"action": "freeze", "idle_minutes": 30}}
    platform = await world.open()
    instance = await running(world, platform)
    await look_for(world, SPAN + LATE, platform)
    assert (await platform.instances.get_any(instance.id)).is_to_be_frozen
    assert (await platform.keeping.keep(instance, 0, ACTOR, world.clock.now)).is_to_be_frozen
    kept = await platform.keeping.keep(instance, 8, ACTOR, world.clock.now)
    assert not kept.is_to_be_frozen
    assert kept.kept_until == world.clock.now + 8 * HOUR


@pytest.mark.slow
async def test_where_nothing_can_be_frozen_it_goes_on_and_that_is_recorded(world: World) -> None:
    world.settings |= {"idle": {"action": "freeze", "idle_minutes": 30}}
    world.runtime.freezer_facts = Freezer(False, "this kernel has none")
    platform = await world.open()
    instance = await running(world, platform)
    assert await look_for(world, 2 * SPAN, platform) == {}
    assert await verdicts(platform, instance) == [(Verdict.KEEP, Why.CANNOT)]


@pytest.mark.slow
@on_every_database
async def test_two_processes_know_the_same_end_and_the_next_owner_keeps_to_it(world: World) -> None:
    first = await world.open()
    second = await world.open(mail=False)
    instance = await running(world, first)
    await look_for(world, SPAN / 2, first, second)
    ends = [platform.idle.idle_ends()[instance.id] for platform in (first, second)]
    assert ends[0] == ends[1]
    assert not ends[0].freezes
    assert ends[0].ends_at == ends[0].idle_since + SPAN
    await world.crash(first)
    assert await second.lease.try_acquire()
    await look(world, second)
    assert second.idle.idle_ends()[instance.id] == ends[0], "nothing was missed"


@pytest.mark.slow
async def test_what_goes_on_is_recorded_in_one_transaction_however_many_there_are(world: World) -> None:
    """As of all, after the engine was silent for a while."""
    platform = await world.open()
    several = [await running(world, platform, f"{name}@example.org") for name in ("ada", "bob", "eve")]
    await look_for(world, SPAN - STEP, platform)
    world.clock.now += 3 * STEP
    begun = platform.database.changes.begin
    transactions = 0

    async def counted(db: AsyncConnection) -> None:
        nonlocal transactions
        transactions += 1
        await begun(db)

    platform.database.changes.begin = counted  # type: ignore[method-assign]
    await platform.idle.tend(world.clock.now)
    assert transactions == 2, "the watches, and the decisions"
    for instance in several:
        assert await verdicts(platform, instance) == [(Verdict.KEEP, Why.UNKNOWN)]


@pytest.mark.slow
async def test_one_that_fails_stops_no_other(world: World) -> None:
    world.settings |= {"idle": {"action": "freeze", "idle_minutes": 30}}
    platform = await world.open()
    ada = await running(world, platform)
    bob = await running(world, platform, "bob@example.org")
    asked = platform.freezing.freeze

    async def refuse_adas(instance_id: str, *args: object, **rest: object) -> bool:
        if instance_id == ada.id:
            raise Conflict("not now")
        return await asked(instance_id, *args, **rest)  # type: ignore[arg-type]

    platform.freezing.freeze = refuse_adas  # type: ignore[method-assign]
    assert list(await look_for(world, SPAN + LATE, platform)) == [bob.id]


@pytest.mark.slow
async def test_owners_are_warned_before_it_and_a_keep_puts_the_warning_off(world: World) -> None:
    platform = await world.open()
    instance = await running(world, platform)
    await look(world, platform)
    world.letters.sent.clear()
    await look_for(world, SPAN / 3, platform)
    assert await platform.warnings.warn(world.clock.now) == 0
    await look_for(world, SPAN / 3, platform)
    assert await platform.warnings.warn(world.clock.now) == 1
    await platform.mail.drain()
    body = world.letters.sent[-1].get_body(("plain",))
    assert body is not None
    assert "unless it is used: idle since" in body.get_content()
    await platform.keeping.keep(instance, 24, ACTOR, world.clock.now)
    await look_for(world, SPAN, platform)
    assert await platform.warnings.warn(world.clock.now) == 0


async def test_a_warning_says_that_an_instance_is_frozen_where_it_is(world: World) -> None:
    world.settings |= {"idle": {"action": "freeze", "idle_minutes": 30}}
    platform = await world.open()
    await running(world, platform)
    await look_for(world, 2 * SPAN / 3, platform)
    assert await platform.warnings.warn(world.clock.now) == 1
    await platform.mail.drain()
    letter = world.letters.sent[-1]
    assert letter["Subject"] == "JupyterLab is frozen on Mon 2 Mar, 10:03 UTC"
    body = letter.get_body(("plain",))
    assert body is not None
    assert "Is frozen on Mon 2 Mar, 10:03 UTC unless it is used" in body.get_content()


@pytest.mark.slow
async def test_decisions_are_forgotten_after_a_while(world: World) -> None:
    platform = await world.open()
    instance = await running(world, platform)
    await look_for(world, SPAN + LATE, platform)
    ended = await reaches(platform, instance.id, State.STOPPED)
    world.clock.now += timedelta(days=89)
    await platform.sweep.sweep(world.clock.now)
    assert len(await platform.keeping.decisions_of(ended)) == 1
    world.clock.now += timedelta(days=2)
    await platform.sweep.sweep(world.clock.now)
    assert await platform.keeping.decisions_of(ended) == []


async def test_a_rule_is_refused_with_what_is_wrong_and_a_change_is_audited(world: World) -> None:
    platform = await world.open()
    service, now = platform.idle_policy, world.clock.now
    for scope, rule, field in (
        (Scope(environment="nothing"), STOP, "environment"),
        (Scope(user="ada"), STOP, "user"),
        (Scope(user="ada@example.org", lab="x"), STOP, "lab"),
        (Scope(lab="x"), IdleRule(IdleAction.STOP, 0), "idle_minutes"),
        (EVERYONE, None, "action"),
    ):
        with pytest.raises(InvalidInput) as refused:
            await service.set_rule(scope, rule, ACTOR, now)
        assert list(refused.value.fields) == [field]
    await service.set_rule(Scope(environment="rstudio"), FREEZE, ACTOR, now)
    other = await world.open(mail=False)
    assert (await other.idle_policy.policy()).rules == {Scope(environment="rstudio"): FREEZE}
    await service.set_rule(Scope(environment="rstudio"), None, ACTOR, now)
    assert (await service.policy()).rules == {}
    with pytest.raises(NotFound, match="no rule for rstudio of everyone"):
        await service.set_rule(Scope(environment="rstudio"), None, ACTOR, now)
    found = world.rows("SELECT subject, details FROM audit WHERE action = 'idle_policy.changed' ORDER BY id")
    assert [subject for subject, _ in found] == ["rstudio of everyone"] * 2
    assert "frozen after 30 minutes" in found[0][1]
