"""Limits, offers and quotas come back from their tables as they were."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.domain.limits import Limits, Offer, OfferedLimits, Quota
from launchpad.domain.sizes_codec import limits_of, limits_table, offered_of, offered_table, quota_of, quota_table

SIZES = st.integers(1, 2**60)
CPUS = st.floats(0.01, 1024, allow_nan=False)
DAYS = st.integers(1, 366)
LIMITS = st.builds(Limits, SIZES, CPUS, SIZES, DAYS)
OFFERS = st.builds(
    Offer,
    st.lists(SIZES).map(tuple),
    st.lists(CPUS).map(tuple),
    st.lists(SIZES).map(tuple),
    st.lists(DAYS).map(tuple),
    LIMITS,
)
QUOTAS = st.builds(Quota, st.none() | SIZES, st.none() | CPUS, st.none() | SIZES, st.none() | st.integers(0, 10_000))


@given(LIMITS)
def test_limits_come_back(limits: Limits) -> None:
    assert limits_of(json.loads(json.dumps(limits_table(limits)))) == limits


@pytest.mark.slow
@given(st.builds(OfferedLimits, OFFERS, st.integers(0, 10_000)))
def test_offers_come_back(offered: OfferedLimits) -> None:
    assert offered_of(json.loads(json.dumps(offered_table(offered)))) == offered


@given(QUOTAS)
def test_quotas_come_back(quota: Quota) -> None:
    assert quota_of(json.loads(json.dumps(quota_table(quota)))) == quota


def test_what_a_quota_does_not_name_it_does_not_cap() -> None:
    assert quota_of({}) == Quota()
    assert quota_of({"memory": None, "instances": 0}) == Quota(instances=0)


def test_what_is_no_size_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a size"):
        quota_of({"memory": "much"})
