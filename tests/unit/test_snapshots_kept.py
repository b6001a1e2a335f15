"""Which snapshots are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.domain.snapshots import Cause, Keeping, Snapshot, is_due, kept

NOW = datetime(2026, 11, 27, 14, 30, tzinfo=UTC)  # a Friday
USUAL = Keeping(hourly=24, daily=7, weekly=8, before=10)
HOUR = timedelta(hours=1)

moments = st.integers(0, 330 * 86400).map(lambda seconds: NOW - timedelta(seconds=seconds))
snapshots = st.sets(st.builds(Snapshot, moments, st.sampled_from(Cause)), max_size=80)
keepings = st.builds(Keeping, *(st.integers(0, 30) for _ in range(4)))


def hourly(days: int) -> set[Snapshot]:
    """One an hour, up to now."""
    first = NOW.replace(minute=0)
    return {Snapshot(first - number * HOUR) for number in range(days * 24)}


def test_of_a_year_of_hours_the_last_of_each_hour_day_and_week_is_kept() -> None:
    taken = hourly(365)
    found = sorted(kept(taken, USUAL, NOW), reverse=True)
    assert [one.taken_at for one in found[:24]] == [NOW.replace(minute=0) - number * HOUR for number in range(24)]
    days = [one.taken_at for one in found[24:] if one.taken_at >= NOW - timedelta(days=7)]
    assert [(at.day, at.hour) for at in days] == [(25 - number, 23) for number in range(5)], "the last of each day"
    weeks = [one.taken_at for one in found if one.taken_at.isoweekday() == 7 and one.taken_at.hour == 23]
    assert len(weeks) == 7, "the eighth week is this one, whose last is the newest"
    assert len(found) == 24 + 5 + 7 - sum(one in days for one in weeks)
    assert min(found).taken_at == datetime(2026, 10, 11, 23, tzinfo=UTC), "the Sunday seven weeks ago"


def test_what_is_kept_of_the_oldest_is_what_the_settings_say() -> None:
    taken = hourly(100)
    assert kept(taken, Keeping(1, 0, 0, 0), NOW) == {max(taken)}
    assert len(kept(taken, Keeping(3, 0, 0, 0), NOW)) == 3
    assert {one.taken_at.hour for one in kept(taken, Keeping(0, 5, 0, 0), NOW) - {max(taken)}} == {23}
    assert len(kept(taken, Keeping(0, 5, 0, 0), NOW)) == 5
    assert len(kept(taken, Keeping(0, 0, 6, 0), NOW)) == 6


def test_the_newest_is_kept_however_old_it_is_and_nothing_is_kept_of_nothing() -> None:
    old = Snapshot(NOW - timedelta(days=700))
    assert kept({old, Snapshot(NOW - timedelta(days=701))}, USUAL, NOW) == {old}
    assert kept(set(), USUAL, NOW) == set()


def test_those_before_changes_are_counted_apart() -> None:
    before = {Snapshot(NOW - number * timedelta(days=30), Cause.BEFORE) for number in range(1, 6)}
    found = kept(before | hourly(2), Keeping(24, 7, 8, 3), NOW)
    assert {one for one in found if one.cause is Cause.BEFORE} == set(sorted(before)[-3:])


@pytest.mark.slow
@given(snapshots, keepings)
def test_what_is_kept_was_there_and_the_newest_is_among_it(taken: set[Snapshot], keeping: Keeping) -> None:
    found = kept(taken, keeping, NOW)
    assert found <= taken
    if taken:
        assert max(taken) in found
    timed = [one for one in found if one.cause is Cause.TIME]
    assert len(timed) <= keeping.hourly + keeping.daily + keeping.weekly + 1


@pytest.mark.slow
@given(snapshots, keepings)
def test_thinning_twice_is_thinning_once(taken: set[Snapshot], keeping: Keeping) -> None:
    once = kept(taken, keeping, NOW)
    assert kept(once, keeping, NOW) == once


@pytest.mark.slow
@given(snapshots, keepings, st.integers(0, 24 * 90))
def test_thinning_often_keeps_what_thinning_seldom_does(taken: set[Snapshot], keeping: Keeping, hours: int) -> None:
    """What is dropped now would be dropped later anyway; a portal that was away loses nothing by that."""
    later = NOW + hours * HOUR
    assert kept(kept(taken, keeping, NOW), keeping, later) == kept(taken, keeping, later)


@pytest.mark.slow
@given(snapshots, keepings)
def test_more_is_kept_where_more_is_set(taken: set[Snapshot], keeping: Keeping) -> None:
    more = Keeping(keeping.hourly + 1, keeping.daily + 1, keeping.weekly + 1, keeping.before + 1)
    assert kept(taken, keeping, NOW) <= kept(taken, more, NOW)


@pytest.mark.slow
@given(st.builds(Snapshot, moments, st.sampled_from(Cause)))
def test_a_name_says_all_of_it(one: Snapshot) -> None:
    assert Snapshot.named(one.name) == one


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "20261127T140000", "20261127T140000z", "20261127T140000Z/", "../20261127T140000Z"),
        *("20261327T140000Z", "20261127T140000Z\n", "20261127T140000Z-time", "20261127T140000Z-before-"),
        "\uff12" + "0261127T140000Z",
    ],
)
def test_other_names_are_none(name: str) -> None:
    assert Snapshot.named(name) is None


def test_one_an_hour_is_due() -> None:
    assert is_due((), NOW)
    assert not is_due([Snapshot(NOW.replace(minute=0))], NOW)
    assert is_due([Snapshot(NOW.replace(minute=0) - timedelta(seconds=1))], NOW)
    assert not is_due([Snapshot(NOW - 3 * HOUR), Snapshot(NOW, Cause.BEFORE)], NOW)
    assert is_due([Snapshot(NOW + 9000 * HOUR)], NOW), "a clock that was wrong once stops nothing"
