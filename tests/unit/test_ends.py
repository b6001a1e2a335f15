"""How an end is told: no more than is known, to whom it concerns, the first cause kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from launchpad.domain.ends import (
    REASON_LENGTH,
    EndFacts,
    Gap,
    is_recent,
    memory_notice,
    notices_of,
    reason_for_others,
    why_ended,
    with_cause,
    with_first_cause,
)
from launchpad.domain.instances import Instance, Stage, State, shortages
from launchpad.domain.limits import Limits

GB = 1024**3
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
RUNNING = Instance(
    id="0" * 16,
    owner_id="1" * 16,
    environment="rstudio",
    state=State.RUNNING,
    stage=Stage.READY,
    reason=None,
    limits=Limits(8 * GB, 1, 1, 1),
    created_at=NOW,
    expires_at=NOW + timedelta(days=1),
)
HUNGRY = replace(RUNNING, oom_at=NOW, oom_count=1)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (EndFacts(True, 137, out_of_memory=True), "out of memory at 8 GB"),
        (EndFacts(True, 137, out_of_memory=True, signalled=True), "out of memory at 8 GB"),
        (EndFacts(False), "its container was removed from outside the platform"),
        (EndFacts(True, 137, signalled=True), "X was killed from outside the platform, by a command on the server"),
        (EndFacts(True, 0, signalled=True), "X was stopped from outside the platform, by a command on the server"),
        (EndFacts(True, 255, gap=Gap.SERVER), "the server was restarted"),
        (EndFacts(True, 137, gap=Gap.ENGINE), "it ended while the server's container engine was restarted"),
        (EndFacts(True, 137), "X was killed (exit code 137), by a program in it or on the server; no lack of memory"),
        (EndFacts(True, 143), "X was told to end (exit code 143)"),
        (EndFacts(True, 0), "X was shut down from inside"),
        (EndFacts(True, 3), "X ended by itself with exit code 3"),
    ],
)
def test_a_reason_says_what_is_known(facts: EndFacts, reason: str) -> None:
    assert why_ended("X", 8 * GB, facts).startswith(reason)


@pytest.mark.parametrize(
    "facts", [EndFacts(False), EndFacts(False, signalled=True), EndFacts(True, 137, signalled=True)]
)
def test_what_was_removed_from_outside_does_not_suggest_memory(facts: EndFacts) -> None:
    assert "memory" not in why_ended("X", 8 * GB, facts)
    assert facts.from_outside


def test_only_a_good_end_from_inside_is_one_by_itself() -> None:
    assert EndFacts(True, 0).by_itself
    for other in (
        EndFacts(True, 1),
        EndFacts(True, 0, signalled=True),
        EndFacts(False),
        EndFacts(True, 0, gap=Gap.ENGINE),
    ):
        assert not other.by_itself


def test_a_second_lack_of_memory_reads_differently_from_the_first() -> None:
    first = memory_notice(HUNGRY)
    second = memory_notice(replace(HUNGRY, oom_count=2, oom_at=NOW + timedelta(minutes=5)))
    assert memory_notice(RUNNING) is None
    assert str(first).startswith(
        "a program in it needed more than its 8 GB of memory and was ended on 2 March at 09:30"
    )
    assert "for the 2nd time" in str(second)
    assert "09:35" in str(second)


def test_every_notice_is_told_and_only_while_it_runs() -> None:
    lacks = shortages(200, 200, 100, 100)
    assert len(lacks) == 2
    assert len(notices_of(HUNGRY, lacks)) == 3
    assert notices_of(replace(HUNGRY, state=State.STOPPED), lacks) == ()


def test_the_first_cause_stays_when_it_ends() -> None:
    reason = with_first_cause("stopped by you", HUNGRY)
    assert reason.startswith("stopped by you; before, a program in it ran out of memory at 8 GB")
    assert with_first_cause("stopped by you", RUNNING) == "stopped by you"
    assert with_first_cause("out of memory at 8 GB", HUNGRY) == "out of memory at 8 GB", "said once is enough"


def test_a_reason_fits_its_column() -> None:
    assert len(with_cause("x", "y" * 2000)) == REASON_LENGTH
    assert with_cause("x", None) == "x"


def test_what_happened_shortly_before_an_end_explains_it() -> None:
    assert is_recent(NOW, NOW + timedelta(seconds=10))
    assert not is_recent(NOW, NOW + timedelta(minutes=10))
    assert not is_recent(None, NOW)


@pytest.mark.parametrize(
    ("reason", "ended_by", "read"),
    [
        (None, None, None),
        ("stopped by you", "alice@a.org", "stopped by alice@a.org"),
        ("stopped by you", None, "stopped by its owner"),
        ("stopped by you; before, a program …", "a@a.org", "stopped by a@a.org; before, a program …"),
        ("stopped by an administrator", "root@a.org", "stopped by root@a.org"),
        ("stopped by an administrator", "cli", "stopped by an administrator on the server"),
        ("stopped by an administrator", None, "stopped by an administrator"),
        ("stopped, since your account was suspended", "root@a.org", "stopped, since its owner was suspended"),
        ("x; and your home folder is full (1 GB of 1 GB), so launch with more storage if you may", None,
         "x; and its owner's home folder is full (1 GB of 1 GB)"),
        ("x: your settings file ~/.Rprofile does not work", None,
         "x: its owner's settings file ~/.Rprofile does not work"),
        ("x: the R package “a” in your home folder does not work", None,
         "x: the R package “a” in its owner's home folder does not work"),
        ("out of memory at 8 GB", None, "out of memory at 8 GB"),
    ],
)  # fmt: skip
def test_administrators_read_about_others(reason: str | None, ended_by: str | None, read: str | None) -> None:
    assert reason_for_others(reason, ended_by) == read
    assert " you" not in str(reason_for_others(reason, ended_by))
