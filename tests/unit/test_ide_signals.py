"""What Jupyter servers answer is written by users' programs: it is read as far as it makes sense, and never raises."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from launchpad.services.ide_signals import Kernels, kernels_in


def test_kernels_that_are_busy_and_the_latest_activity_are_read() -> None:
    text = b"""[
        {"execution_state": "busy", "last_activity": "2026-03-02T09:00:00.000001Z"},
        {"execution_state": "idle", "last_activity": "2026-03-02T11:00:00+01:00"},
        {"execution_state": "idle"}
    ]"""
    assert kernels_in(text) == Kernels(1, datetime(2026, 3, 2, 10, tzinfo=UTC))


@pytest.mark.parametrize("text", [b"", b"no", b"{}", b"\xff\xfe", b"[" * 100_000, b"[" + b"9" * 5000 + b"]"])
def test_what_is_no_list_of_kernels_is_none(text: bytes) -> None:
    """One instance that answers so would else end the look at everybody's."""
    assert kernels_in(text) is None


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-03-02T09:00:00", "x"])
def test_a_time_that_is_none_is_left_out(time: str) -> None:
    text = f'[{{"execution_state": "busy", "last_activity": "{time}"}}, {{"execution_state": ["busy"]}}, 7]'
    assert kernels_in(text.encode()) == Kernels(1, None)
