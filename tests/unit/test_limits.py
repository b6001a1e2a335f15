"""Choices, quotas and capacity."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.domain.limits import Capacity, Limits, Offer, Quota, Use, quota_problems

GB = 1024**3
OFFER = Offer(
    memory_bytes=(8 * GB, 16 * GB, 32 * GB),
    cpus=(1.0, 2.0, 4.0),
    storage_bytes=(64 * GB, 256 * GB),
    days=(1, 2, 7),
    defaults=Limits(8 * GB, 2.0, 64 * GB, 1),
)
ONE = Limits(8 * GB, 2.0, 64 * GB, 1)


def test_what_is_left_out_is_the_default() -> None:
    assert OFFER.choose() == (OFFER.defaults, {})


def test_what_is_offered_can_be_chosen() -> None:
    assert OFFER.choose(32 * GB, 4, 256 * GB, 7) == (Limits(32 * GB, 4, 256 * GB, 7), {})


def test_every_field_that_is_not_offered_is_named_with_the_choices() -> None:
    _, refused = OFFER.choose(9 * GB, 64, 1, 365)
    assert refused == {
        "memory": "9 GB is not offered; choose one of 8 GB, 16 GB, 32 GB",
        "cpus": "64 cores is not offered; choose one of 1 core, 2 cores, 4 cores",
        "storage": "1 bytes is not offered; choose one of 64 GB, 256 GB",
        "days": "365 days is not offered; choose one of 1 day, 2 days, 7 days",
    }


@given(st.integers(), st.floats(allow_nan=True), st.integers(), st.integers())
def test_nothing_beyond_the_offer_is_ever_chosen(memory: int, cpus: float, storage: int, days: int) -> None:
    chosen, _ = OFFER.choose(memory, cpus, storage, days)
    assert chosen.memory_bytes in OFFER.memory_bytes
    assert chosen.cpus in OFFER.cpus
    assert chosen.storage_bytes in OFFER.storage_bytes
    assert chosen.days in OFFER.days


def test_a_sound_offer_has_no_problems() -> None:
    assert OFFER.problems() == {}


@pytest.mark.parametrize(
    ("days", "default", "said"),
    [
        ((), 1, "at least one"),
        ((0, 1), 1, "above zero"),
        ((-1,), -1, "above zero"),
        ((7, 1), 1, "smallest first"),
        ((1, 1), 1, "once"),
        ((1, 2), 7, "default"),
    ],
)
def test_an_offer_that_cannot_be_made_says_why(days: tuple[int, ...], default: int, said: str) -> None:
    offer = replace(OFFER, days=days, defaults=replace(OFFER.defaults, days=default))
    assert list(offer.problems()) == ["days"]
    assert said in offer.problems()["days"]


def test_there_is_room_up_to_the_last_byte_core_and_place() -> None:
    capacity = Capacity(memory_bytes=16 * GB, cpus=4, instances=2)
    assert capacity.has_room(Use(8 * GB, 2, 1), ONE)
    assert not capacity.has_room(Use(8 * GB + 1, 2, 1), ONE)
    assert not capacity.has_room(Use(8 * GB, 2.5, 1), ONE)
    assert not capacity.has_room(Use(8 * GB, 2, 2), ONE)


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0.5, 8)), max_size=40))
def test_admitting_only_what_has_room_never_promises_too_much(wishes: list[tuple[int, float]]) -> None:
    capacity, promised = Capacity(memory_bytes=64 * GB, cpus=16, instances=10), Use()
    for gigabytes, cpus in wishes:
        limits = Limits(gigabytes * GB, cpus, 64 * GB, 1)
        if capacity.has_room(promised, limits):
            promised = promised.plus(limits)
    assert promised.memory_bytes <= capacity.memory_bytes
    assert promised.cpus <= capacity.cpus
    assert promised.instances <= capacity.instances


def test_without_a_quota_only_the_number_of_instances_counts() -> None:
    assert quota_problems(Quota(), 2, Use(900 * GB, 90, 1), ONE) == {}
    assert quota_problems(Quota(), 2, Use(0, 0, 2), ONE) == {
        "instances": "you can run 2 at the same time and have 2; stop one first"
    }


def test_a_users_own_number_of_instances_beats_the_default() -> None:
    assert quota_problems(Quota(instances=5), 1, Use(0, 0, 4), ONE) == {}
    assert quota_problems(Quota(instances=0), 5, Use(), ONE) == {"instances": "you may not run instances"}


def test_every_field_over_the_quota_is_named_with_what_is_left() -> None:
    quota = Quota(memory_bytes=12 * GB, cpus=3, storage_bytes=32 * GB, instances=2)
    assert quota_problems(quota, 9, Use(8 * GB, 2, 1), ONE) == {
        "memory": "your quota is 12 GB, of which 4 GB are left",
        "cpus": "your quota is 3 cores, of which 1 are left",
        "storage": "your quota is 32 GB",
    }


def test_a_quota_that_was_lowered_below_the_use_leaves_nothing_not_less() -> None:
    over = quota_problems(Quota(memory_bytes=GB, cpus=1), 9, Use(8 * GB, 2, 1), ONE)
    assert over["memory"].endswith("of which 0 bytes are left")
    assert over["cpus"].endswith("of which 0 are left")


def test_a_quota_is_used_up_to_its_end() -> None:
    quota = Quota(memory_bytes=16 * GB, cpus=4, storage_bytes=64 * GB, instances=2)
    assert quota_problems(quota, 9, Use(8 * GB, 2, 1), ONE) == {}
