"""What a rule would have ended, of what was recorded: decided as the portal decides, and never too early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.domain.activity import ActivitySample, Point, Step, merged, point_of, step_of
from launchpad.domain.activity_codec import chunk_of, packed, stretches, unpacked
from launchpad.domain.policy import IdleAction, IdleRule, decide, watched
from launchpad.domain.replay import Afterwards, PastInstance, Replay, ReplayedEnd, Stretch, Totals

AT = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
GAP = timedelta(minutes=5)
SETTLE = timedelta(minutes=10)
GB = 1024**3
STOP = IdleRule(IdleAction.STOP, 240)
NOW = AT + timedelta(days=3)
ADA = PastInstance("one", "ada@example.org", "genomics", "jupyterlab", 8 * GB, 2.0, AT, None)


def hours(number: float) -> datetime:
    return AT + timedelta(hours=number)


def seen(since: float, until: float, *, work: bool = False, person: bool = False, step: Step = Step.QUARTER) -> Stretch:
    return Stretch(hours(since), hours(until), int(step), work, person, 0.01, 3 * GB)


def replayed(
    *stretches: Stretch,
    rule: IdleRule = STOP,
    instance: PastInstance = ADA,
    settle: timedelta = timedelta(0),
    frees_memory: bool = True,
    now: datetime = NOW,
) -> list[ReplayedEnd]:
    replay = Replay(rule, now, GAP, settle, frees_memory)
    for stretch in stretches:
        replay.add(instance, stretch)
    return replay.finish()


# -- what ends ---------------------------------------------------------------------------------------------------------


def test_an_end_after_so_long_without_a_person_and_work() -> None:
    (end,) = replayed(seen(0, 2, work=True), seen(2, 20), instance=replace(ADA, ended_at=hours(20)))
    assert (end.idle_since, end.at, end.until) == (hours(2), hours(6), hours(20))
    assert (end.gb_hours, end.core_hours) == (8 * 14, 2 * 14)
    assert end.afterwards is Afterwards.NOTHING
    assert end.evidence == (
        "no person and no work for 4 h; a little CPU of 2 cores, 3 GB of 8 GB; not used again in the 14 h after that"
    )


def test_a_shorter_idle_time_ends_nothing() -> None:
    assert replayed(seen(0, 2, work=True), seen(2, 5.75), seen(5.75, 6, person=True), seen(6, 9.75)) == []


def test_one_that_had_ended_before_is_left_alone() -> None:
    """Its last step is whole in the series, and it ended in the midst of it."""
    assert replayed(seen(0, 4.5), instance=replace(ADA, ended_at=hours(4.2))) == []


def test_idle_time_counts_from_the_beginning_of_the_time_that_is_replayed() -> None:
    """As where a rule is turned on."""
    (end,) = replayed(seen(10, 20))
    assert (end.at, end.idle_since) == (hours(14.25), hours(10.25))


def test_nothing_ends_before_it_has_been_watched_for_the_time_to_settle() -> None:
    (end,) = replayed(seen(0, 2, step=Step.MINUTE), rule=IdleRule(IdleAction.STOP, 1), settle=timedelta(minutes=10))
    assert end.at == AT + timedelta(minutes=11)


def test_a_person_who_comes_back_would_have_to_launch_again() -> None:
    first, second = replayed(
        seen(0, 1, work=True),
        seen(1, 9),
        seen(9, 10, person=True),
        seen(10, 24),
        instance=replace(ADA, ended_at=hours(24)),
    )
    assert (first.at, first.until, first.afterwards) == (hours(5), hours(9), Afterwards.PERSON)
    assert first.evidence.endswith("used again after 4 h")
    assert (second.at, second.until, second.afterwards) == (hours(14), hours(24), Afterwards.NOTHING)
    totals = Totals.of([first, second])
    assert (totals.ends, totals.instances, totals.people, totals.came_back, totals.people_back) == (2, 1, 1, 1, 1)
    assert (totals.gb_hours, totals.core_hours, totals.working, totals.worked_later) == (8 * 14, 2 * 14, 0, 0)


@pytest.mark.parametrize(("pause", "was_working"), [(0.5, True), (6, False)])
def test_work_that_goes_on_with_nobody_there_would_have_been_lost(pause: float, was_working: bool) -> None:
    begin = 5 + pause
    (end,) = replayed(seen(0, 1, work=True), seen(1, begin), seen(begin, 20, work=True))
    assert (end.at, end.until, end.afterwards) == (hours(5), hours(begin), Afterwards.WORK)
    assert end.was_working is was_working
    assert "with nobody there" in end.evidence
    totals = Totals.of([end])
    assert (totals.working, totals.worked_later) == ((1, 0) if was_working else (0, 1))


def test_the_worst_come_first() -> None:
    def instance(name: str, memory_gb: int) -> PastInstance:
        return replace(ADA, id=name, memory_bytes=memory_gb * GB)

    replay = Replay(STOP, NOW, GAP)
    for one in (instance("small", 1), instance("large", 8), instance("back", 8), instance("works", 1)):
        replay.add(one, seen(0, 9))
    replay.add(instance("back", 8), seen(9, 10, person=True))
    replay.add(instance("works", 1), seen(9, 10, work=True))
    assert [end.instance.id for end in replay.finish()] == ["works", "back", "large", "small"]


# -- freezing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frees_memory", "gb"), [(True, 5), (False, 0)])
def test_a_freeze_frees_what_is_not_held(frees_memory: bool, gb: int) -> None:
    rule = IdleRule(IdleAction.FREEZE, 240)
    (end,) = replayed(
        seen(0, 14.25), rule=rule, instance=replace(ADA, ended_at=hours(14.25)), frees_memory=frees_memory
    )
    assert (end.action, end.at, end.gb_hours, end.core_hours) == (IdleAction.FREEZE, hours(4.25), gb * 10, 2 * 10)


# -- what is not known -------------------------------------------------------------------------------------------------


def test_a_step_counts_as_if_everything_were_at_its_end() -> None:
    (fine,) = replayed(seen(0, 1, person=True, step=Step.MINUTE), seen(1, 9, step=Step.MINUTE))
    (coarse,) = replayed(seen(0, 2, person=True, step=Step.HOUR), seen(2, 9, step=Step.HOUR))
    assert (fine.at, coarse.at) == (hours(5), hours(6))
    assert (fine.step_seconds, coarse.step_seconds) == (60, 3600)


def test_time_that_nobody_watched_does_not_count() -> None:
    (end,) = replayed(seen(0, 3), seen(3.5, 12))
    assert end.at == hours(3.5 + 0.25 + 4)


def test_missing_minutes_are_a_gap_where_the_samples_beside_them_may_lie_too_far_apart() -> None:
    def at(minutes: int) -> list[ReplayedEnd]:
        return replayed(seen(0, 3, step=Step.MINUTE), seen(3 + minutes / 60, 12, step=Step.MINUTE))

    assert at(3)[0].at == hours(4) + timedelta(minutes=1)
    assert at(4)[0].at == hours(7) + timedelta(minutes=5)


def test_a_watch_goes_on_however_often_what_is_seen_changes_at_its_beginning() -> None:
    """Idle, used, and left again, a minute each."""
    (end,) = replayed(
        seen(0, 1 / 60, step=Step.MINUTE),
        seen(1 / 60, 2 / 60, person=True, step=Step.MINUTE),
        seen(2 / 60, 9, step=Step.MINUTE),
    )
    assert end.at == hours(4) + timedelta(minutes=2)


# -- the same as the live decision -------------------------------------------------------------------------------------


def live(
    rule: IdleRule, samples: Sequence[ActivitySample], seen: Sequence[tuple[bool, bool]], settle: timedelta
) -> datetime | None:
    """As the portal does, look by look: when it would have ended the instance first."""
    watched_since, seen_at, work_at, person_at = None, None, None, AT
    for sample, (is_working, is_used) in zip(samples, seen, strict=True):
        now = sample.sampled_at
        watched_since, seen_at = watched(watched_since, seen_at, now, GAP), now
        work_at = now if is_working else work_at
        person_at = now if is_used else person_at
        decision = decide(
            rule,
            last_person_at=person_at,
            last_work_at=work_at,
            is_working=is_working,
            watched_since=watched_since,
            not_before=watched_since + settle,
            now=now,
        )
        if decision.is_due(now):
            return decision.at
    return None


LOOKS = st.lists(
    # How long after the look before, in seconds, and what was seen for how many looks.
    st.tuples(st.sampled_from([1, 29, 30, 61, 200, 300, 301, 2000]), st.sampled_from("iiiwpb"), st.integers(1, 40)),
    min_size=1,
    max_size=12,
)


def looked(looks: Sequence[tuple[int, str, int]]) -> tuple[list[ActivitySample], list[tuple[bool, bool]]]:
    samples, what, now = [], [], AT
    for seconds, kind, times in looks:
        for _ in range(times):
            now += timedelta(seconds=seconds)
            samples.append(ActivitySample("one", now, 0.01, 10, 8, 5))
            what.append((kind in "wb", kind in "pb"))
    return samples, what


def first(ends: Sequence[ReplayedEnd]) -> datetime | None:
    return min((end.at for end in ends), default=None)


@pytest.mark.slow
@given(LOOKS, st.integers(1, 90), st.integers(0, 20))
def test_of_the_same_samples_the_replay_decides_as_the_portal_does(
    looks: list[tuple[int, str, int]], minutes: int, settle_minutes: int
) -> None:
    rule = IdleRule(IdleAction.STOP, minutes)
    samples, what = looked(looks)
    exact = [
        Stretch(one.sampled_at, one.sampled_at, 0, work, person)
        for one, (work, person) in zip(samples, what, strict=True)
    ]
    settle = timedelta(minutes=settle_minutes)
    assert first(replayed(*exact, rule=rule, settle=settle)) == live(rule, samples, what, settle)


@pytest.mark.slow
@given(LOOKS, st.integers(1, 300), st.sampled_from(list(Step)))
def test_of_the_series_it_decides_no_earlier_and_two_steps_later_unless_it_is_seen_again_soon(
    looks: list[tuple[int, str, int]], minutes: int, step: Step
) -> None:
    """Of looks that are lost within a step a series of that resolution does not tell: there are none here."""
    rule = IdleRule(IdleAction.STOP, minutes)
    looks = [(min(seconds, 61), kind, times) for seconds, kind, times in looks]
    samples, what = looked(looks)
    points: dict[datetime, list[Point]] = {}
    for sample, (work, person) in zip(samples, what, strict=True):
        at = step_of(sample.sampled_at, step)
        points.setdefault(at, []).append(point_of(sample, at, was_working=work, was_used=person))
    series = [merged(few, at) for at, few in points.items()]
    chunks: dict[int, list[Point]] = {}
    for point in series:
        chunks.setdefault(chunk_of(point.at, step), []).append(point)
    end = samples[-1].sampled_at + timedelta(days=1)
    found = [
        stretch
        for begins_at, few in chunks.items()
        for stretch in stretches(packed(few, begins_at, step), begins_at, step, AT, end)
    ]
    now = samples[-1].sampled_at
    portal, replay = live(rule, samples, what, SETTLE), first(replayed(*found, rule=rule, settle=SETTLE, now=now))
    if replay is not None:
        assert portal is not None
        assert portal <= replay
    if portal is not None:
        latest, seen_until = portal + 2 * timedelta(seconds=step), portal + 3 * timedelta(seconds=step)
        seen_again = any(
            any(kinds) and portal <= one.sampled_at <= seen_until for one, kinds in zip(samples, what, strict=True)
        )
        assert seen_again or (replay is None and now <= seen_until) or (replay is not None and replay <= latest)


# -- stretches of a chunk ----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 95), st.booleans(), st.booleans()), max_size=96, unique_by=lambda one: one[0]))
def test_stretches_are_the_points_of_a_chunk(places: list[tuple[int, bool, bool]]) -> None:
    begin = chunk_of(AT, Step.QUARTER)
    points = [
        Point(
            datetime.fromtimestamp(begin + place * 900, UTC),
            place / 100,
            place * 1024,
            0,
            1,
            was_working=work,
            was_used=use,
        )
        for place, work, use in places
    ]
    data = packed(points, begin, Step.QUARTER)
    since, until = datetime.fromtimestamp(begin + 10 * 900, UTC), datetime.fromtimestamp(begin + 90 * 900, UTC)
    wanted = [one for one in unpacked(data, begin, Step.QUARTER) if since <= one.at < until]
    found = stretches(data, begin, Step.QUARTER, since, until)
    again = [
        (one.since + timedelta(seconds=900 * number), one.was_working, one.was_used)
        for one in found
        for number in range(int((one.until - one.since).total_seconds()) // 900)
    ]
    assert again == [(one.at, one.was_working, one.was_used) for one in wanted]
    last = {one.at: one for one in wanted}
    for one in found:
        point = last[one.until - timedelta(seconds=900)]
        assert (one.cpu_cores, one.memory_bytes) == (point.cpu_cores, point.memory_bytes)
    for before, after in pairwise(found):
        same = (before.was_working, before.was_used) == (after.was_working, after.was_used)
        assert before.until < after.since or not same
