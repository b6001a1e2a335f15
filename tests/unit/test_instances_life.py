"""An instance's states, which may follow which, and what time alone makes of one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.domain.instances import (
    ENDED,
    LIVE,
    Address,
    Instance,
    Stage,
    State,
    extended_until,
    may_follow,
    next_transition,
)
from launchpad.domain.limits import Limits

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ALLOWED = {
    ("queued", "starting"),
    ("queued", "stopped"),
    ("queued", "expired"),
    ("queued", "failed"),
    ("starting", "running"),
    ("starting", "stopping"),
    ("starting", "failed"),
    ("running", "stopping"),
    ("running", "failed"),
    ("stopping", "stopped"),
    ("stopping", "expired"),
    ("stopping", "failed"),
}
instants = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - given UTC


def instance(state: State = State.RUNNING, expires_at: datetime = NOW + timedelta(days=1)) -> Instance:
    return Instance(
        id="0" * 16,
        owner_id="1" * 16,
        environment="rstudio",
        state=state,
        stage=Stage.READY,
        reason=None,
        limits=Limits(1, 1, 1, 1),
        created_at=NOW - timedelta(days=1),
        expires_at=expires_at,
    )


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_the_table_of_transitions(before: State, after: State) -> None:
    assert may_follow(before, after) is ((before, after) in ALLOWED)


def test_every_state_either_lives_or_has_ended() -> None:
    assert set(State) == LIVE | ENDED
    assert not LIVE & ENDED
    assert all(state.is_live is (state in LIVE) for state in State)


def test_nothing_follows_an_end_and_every_live_state_can_reach_one() -> None:
    assert not any(may_follow(before, after) for before in ENDED for after in State)
    reached = set(LIVE)
    for _ in State:
        reached -= {before for before in reached if any(may_follow(before, end) for end in ENDED)}
        reached -= {before for before in reached if any(may_follow(before, after) for after in LIVE - reached)}
    assert not reached


@pytest.mark.parametrize("state", State)
def test_before_its_time_is_up_time_changes_nothing(state: State) -> None:
    one = instance(state)
    assert next_transition(one, one.expires_at - timedelta(microseconds=1)) is None


@pytest.mark.parametrize("state", [State.STARTING, State.RUNNING])
def test_what_runs_expires_at_its_instant_and_says_when(state: State) -> None:
    one = instance(state, datetime(2026, 3, 2, 9, 5, tzinfo=UTC))
    assert next_transition(one, one.expires_at) == (State.EXPIRED, "expired on 2 March 2026 at 09:05 UTC")


def test_what_still_waits_when_its_time_is_up_expires_with_another_reason() -> None:
    one = instance(State.QUEUED)
    assert next_transition(one, one.expires_at) == (State.EXPIRED, "its time ran out while it was queued")


@pytest.mark.parametrize("state", [State.STOPPING, *sorted(ENDED)])
def test_what_is_ending_or_has_ended_is_left_alone(state: State) -> None:
    assert next_transition(instance(state), NOW + timedelta(days=400)) is None


@given(st.sampled_from(State), instants, instants)
def test_time_alone_never_asks_for_a_step_that_cannot_be_taken(
    state: State, expires_at: datetime, now: datetime
) -> None:
    """An end is reached directly from the queue, and by way of `stopping` from what runs."""
    due = next_transition(instance(state, expires_at), now)
    if due is not None:
        assert now >= expires_at
        assert may_follow(state, due[0]) or (may_follow(state, State.STOPPING) and may_follow(State.STOPPING, due[0]))


def test_extending_adds_days_to_the_end() -> None:
    one = instance(expires_at=NOW + timedelta(hours=3))
    assert extended_until(one, 2, 7, NOW) == NOW + timedelta(days=2, hours=3)


def test_extending_goes_no_further_than_the_longest_duration_from_now() -> None:
    one = instance(expires_at=NOW + timedelta(days=6))
    assert extended_until(one, 7, 7, NOW) == NOW + timedelta(days=7)


def test_extending_never_shortens() -> None:
    """An administrator has lowered the longest duration since."""
    one = instance(expires_at=NOW + timedelta(days=30))
    assert extended_until(one, 1, 7, NOW) == one.expires_at


@given(st.integers(1, 366), st.integers(1, 366), instants, instants)
def test_an_extension_lies_between_the_old_end_and_the_longest(
    days: int, longest: int, expires_at: datetime, now: datetime
) -> None:
    until = extended_until(instance(expires_at=expires_at), days, longest, now)
    assert expires_at <= until <= max(expires_at, now + timedelta(days=longest))


def test_an_instance_is_live_as_its_state_is() -> None:
    assert instance(State.STOPPING).is_live
    assert not replace(instance(), state=State.FAILED).is_live


def test_an_address_reads_as_host_and_port() -> None:
    assert str(Address("127.0.0.1", 20001)) == "127.0.0.1:20001"
