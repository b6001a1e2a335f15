"""Which ports of instances nginx keeps connections to, and that the engine takes these first."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.ops.nginx.keepalive import keepalive_ports, numbers_pattern
from launchpad.settings import EngineSettings


@given(st.integers(1, 99_999), st.integers(0, 2000))
def test_a_pattern_fits_every_number_of_its_range_and_no_other(first: int, more: int) -> None:
    last = first + more
    pattern = re.compile(numbers_pattern(range(first, last + 1)))
    around = range(max(0, first - 150), last + 150)
    assert [number for number in around if pattern.fullmatch(str(number))] == list(range(first, last + 1))
    for text in (f"0{first}", f"{first} ", f"{last}0000", ""):
        assert pattern.fullmatch(text) is None


def test_a_pattern_for_none_fits_nothing() -> None:
    assert re.search(numbers_pattern(range(0)), "12345") is None


@pytest.mark.parametrize(
    ("settings", "kept", "asked_for"),
    [
        ({}, range(20000, 20256), ("20000-20255", "20000-29999")),
        ({"keepalive_ports": 1}, range(20000, 20001), ("20000-20000", "20000-29999")),
        ({"keepalive_ports": 0}, range(0), ("20000-29999",)),
        ({"port_range": "30000-30099"}, range(30000, 30100), ("30000-30099",)),
    ],
)
def test_the_first_ports_are_kept_and_asked_for_first(
    settings: dict[str, object], kept: range, asked_for: tuple[str, ...]
) -> None:
    engine = EngineSettings.model_validate(settings)
    assert list(keepalive_ports(engine)) == list(kept)
    assert engine.port_choices == asked_for
