"""Moments in somebody's time zone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from launchpad.domain.times import exact, is_time_zone, label, localized, short, time_zones, zone_of

AT = datetime(2026, 11, 28, 7, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "told"),
    [
        ("Asia/Singapore", "Sat 28 Nov, 15:07 UTC+8"),
        ("Europe/Berlin", "Sat 28 Nov, 08:07 CET"),
        ("Asia/Kathmandu", "Sat 28 Nov, 12:52 UTC+5:45"),
        ("America/St_Johns", "Sat 28 Nov, 03:37 NST"),
        ("America/Caracas", "Sat 28 Nov, 03:07 UTC-4"),
        (None, "Sat 28 Nov, 07:07 UTC"),
        ("Nowhere/Land", "Sat 28 Nov, 07:07 UTC"),
    ],
)
def test_a_moment_in_a_zone(zone: str | None, told: str) -> None:
    assert short(AT, zone_of(zone)) == told
    assert exact(AT, zone_of(zone)).endswith(told.split(", ")[1])


def test_texts_of_ours_are_told_in_another_zone() -> None:
    zone = zone_of("Europe/Berlin")
    text = "expired on 3 July 2026 at 23:30 UTC; before, it ran out of memory (on 31 December at 23:59:07 UTC)"
    told = localized(text, zone, datetime(2027, 1, 5, tzinfo=UTC))
    assert told == "expired on 4 July 2026 at 01:30 CEST; before, it ran out of memory (on 1 January at 00:59:07 CET)"
    assert localized(text, UTC, AT) == text
    for other in ("at 10:00 UTC", "30 February 2026 at 10:00 UTC", "3 July 2026 at 10:00"):
        assert localized(other, zone, AT) == other


@pytest.mark.parametrize("name", ["", "x", "../etc/passwd", "Europe/../../etc", "Europe/Berlin\n", "A" * 80, "Europe"])
def test_what_is_no_zone(name: str) -> None:
    assert not is_time_zone(name)


def test_the_zones_that_are_offered_are_known() -> None:
    assert {"UTC", "Asia/Singapore", "America/New_York"} <= set(time_zones())
    assert all(is_time_zone(name) for name in time_zones())
    assert label(AT) == "UTC"
