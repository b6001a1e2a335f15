"""What the idle policy decides: which rule applies, and what it makes of what is known."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from launchpad.domain.policy import (
    EVERYONE,
    IdleAction,
    IdlePolicy,
    IdleRule,
    Scope,
    Verdict,
    Why,
    decide,
    watched,
)

NOW = datetime(2026, 3, 2, 18, 0, tzinfo=UTC)
STOP = IdleRule(IdleAction.STOP, 240)
FREEZE = IdleRule(IdleAction.FREEZE, 240)


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


# -- which rule --------------------------------------------------------------------------------------------------------

ADA = ("jupyterlab", "genomics", "ada@example.org")
MOST_SPECIFIC_LAST = (
    Scope(environment="jupyterlab"),
    Scope(lab="genomics"),
    Scope(lab="genomics", environment="jupyterlab"),
    Scope(user="ada@example.org"),
    Scope(user="ada@example.org", environment="jupyterlab"),
)


def test_the_most_specific_rule_applies_whatever_their_order() -> None:
    for number in range(1, len(MOST_SPECIFIC_LAST) + 1):
        some = MOST_SPECIFIC_LAST[:number]
        for order in permutations(some):
            policy = IdlePolicy(STOP, {scope: IdleRule(IdleAction.FREEZE, 60 + len(order)) for scope in order})
            scope, rule = policy.rule_for(*ADA)
            assert (scope, rule) == (some[-1], policy.rules[some[-1]])


@pytest.mark.parametrize(
    "scope",
    [Scope(environment="rstudio"), Scope(lab="physics"), Scope(user="bob@example.org"),
     Scope(lab="genomics", environment="rstudio")],
)  # fmt: skip
def test_a_rule_about_others_does_not_apply(scope: Scope) -> None:
    assert IdlePolicy(STOP, {scope: FREEZE}).rule_for(*ADA) == (EVERYONE, STOP)


def test_of_thousands_of_rules_the_one_that_applies_is_looked_up() -> None:
    """All instances are held to them every half minute: no rule is even compared but those that can apply."""
    compared = 0

    class Rules(dict[Scope, IdleRule]):
        def __iter__(self) -> Iterator[Scope]:
            raise AssertionError("gone through")

        def get(self, *scope: Any) -> Any:
            nonlocal compared
            compared += 1
            return super().get(*scope)

    rules = Rules({Scope(user=f"u{number}@example.org"): FREEZE for number in range(5000)})
    policy = IdlePolicy(STOP, rules)
    assert policy.rule_for("rstudio", "genomics", "u4999@example.org") == (Scope(user="u4999@example.org"), FREEZE)
    assert policy.rule_for(*ADA) == (EVERYONE, STOP)
    assert compared <= 16


def test_nobodys_lab_is_no_lab_of_a_rule() -> None:
    policy = IdlePolicy(STOP, {Scope(lab="genomics"): FREEZE})
    assert policy.rule_for("jupyterlab", None, "ada@example.org") == (EVERYONE, STOP)


def test_a_more_specific_rule_may_exempt() -> None:
    policy = IdlePolicy(STOP, {Scope(lab="genomics"): IdleRule()})
    _, rule = policy.rule_for(*ADA)
    assert not rule.is_on
    assert policy.is_on


def test_nothing_is_done_by_default() -> None:
    assert not IdlePolicy().is_on
    _, rule = IdlePolicy().rule_for(*ADA)
    long_idle = decide(
        rule, last_person_at=ago(900), last_work_at=None, is_working=False, watched_since=ago(900), now=NOW
    )
    assert (long_idle.verdict, long_idle.why, long_idle.at) == (Verdict.KEEP, Why.NO_RULE, None)


# -- what it decides ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "verdict"), [(STOP, Verdict.STOP), (FREEZE, Verdict.FREEZE)])
def test_without_a_person_and_without_work_for_the_whole_time_it_is_due(rule: IdleRule, verdict: Verdict) -> None:
    found = decide(rule, last_person_at=ago(6), last_work_at=ago(4), is_working=False, watched_since=ago(20), now=NOW)
    assert (found.verdict, found.why, found.at, found.idle_since) == (verdict, Why.IDLE, NOW, ago(4))
    assert found.is_due(NOW)
    assert not found.is_due(NOW - timedelta(seconds=1))
    assert "no person and no work" in found.evidence


@pytest.mark.parametrize(
    ("person", "work", "watched_since"),
    [(3.9, 9.0, 20.0), (9.0, 3.9, 20.0), (9.0, 9.0, 3.9), (9.0, None, 3.9), (None, None, 3.9)],
)
def test_a_person_or_work_or_a_look_too_short_puts_it_off(
    person: float | None, work: float | None, watched_since: float
) -> None:
    found = decide(
        STOP,
        last_person_at=None if person is None else ago(person),
        last_work_at=None if work is None else ago(work),
        is_working=False,
        watched_since=ago(watched_since),
        now=NOW,
    )
    assert found.at == ago(3.9) + STOP.idle_time
    assert found.idle_since == ago(3.9)
    assert not found.is_due(NOW)


def test_what_works_is_kept_and_the_evidence_says_by_what() -> None:
    found = decide(
        STOP, last_person_at=ago(50), last_work_at=ago(49), is_working=True, evidence="STAR, 11 cores",
        watched_since=ago(90), now=NOW,
    )  # fmt: skip
    assert (found.verdict, found.why, found.evidence, found.at) == (Verdict.KEEP, Why.WORKING, "STAR, 11 cores", None)


@pytest.mark.parametrize("since", [None, NOW + timedelta(minutes=3)])
def test_what_is_not_known_is_kept(since: datetime | None) -> None:
    found = decide(STOP, last_person_at=ago(50), last_work_at=None, is_working=False, watched_since=since, now=NOW)
    assert (found.verdict, found.why, found.at) == (Verdict.KEEP, Why.UNKNOWN, None)


def test_the_owner_keeps_it_until_then_and_not_longer() -> None:
    def at(kept_until: datetime, now: datetime) -> tuple[Why, datetime | None, bool]:
        found = decide(
            STOP, last_person_at=ago(6), last_work_at=None, is_working=False, watched_since=ago(9),
            kept_until=kept_until, now=now,
        )  # fmt: skip
        return found.why, found.at, found.is_due(now)

    kept = NOW + timedelta(hours=3)
    assert at(kept, NOW) == (Why.KEPT, kept, False)
    assert at(kept, kept) == (Why.IDLE, kept, True)
    assert at(ago(3), NOW) == (Why.IDLE, ago(2), True)  # kept until before it would end: of no account


def test_nothing_is_done_before_the_portal_has_looked_for_a_while() -> None:
    found = decide(
        STOP, last_person_at=ago(6), last_work_at=None, is_working=False, watched_since=ago(9),
        not_before=NOW + timedelta(minutes=10), now=NOW,
    )  # fmt: skip
    assert (found.at, found.is_due(NOW)) == (NOW + timedelta(minutes=10), False)


def test_the_end_does_not_move_while_nothing_happens() -> None:
    ends = {
        decide(
            STOP, last_person_at=ago(3), last_work_at=None, is_working=False, watched_since=ago(9),
            now=NOW + timedelta(minutes=minutes),
        ).at
        for minutes in range(0, 90, 7)
    }  # fmt: skip
    assert ends == {ago(3) + STOP.idle_time}


# -- since when it was watched -----------------------------------------------------------------------------------------

GAP = timedelta(minutes=3)


def test_looks_in_a_row_are_one_watch() -> None:
    assert watched(ago(5), NOW - timedelta(seconds=30), NOW, GAP) == ago(5)
    assert watched(ago(5), NOW - GAP, NOW, GAP) == ago(5)


@pytest.mark.parametrize(
    ("before", "seen_at"),
    [(None, None), (ago(5), None), (None, NOW), (ago(5), NOW - GAP - timedelta(seconds=1)), (ago(5), NOW + 2 * GAP)],
)
def test_after_a_gap_or_a_clock_set_back_it_begins_anew(before: datetime | None, seen_at: datetime | None) -> None:
    assert watched(before, seen_at, NOW, GAP) == NOW
