"""Moments, devices and meters in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from launchpad.domain.instances import Instance, Stage, State
from launchpad.domain.limits import Limits, Offer
from launchpad.domain.return_paths import RETURN_PATH_MAX
from launchpad.web.pages.rendering import local_path
from launchpad.web.views.devices import device_in_words
from launchpad.web.views.meters import bytes_meter, number_meter
from launchpad.web.views.values import extension_choices
from launchpad.web.views.words import ago_in_words, exact, initials, left_in_words, with_breaks

GB = 1024**3
NOW = datetime(2026, 3, 4, 14, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (timedelta(seconds=-1), "time is up"),
        (timedelta(seconds=59), "less than a minute left"),
        (timedelta(minutes=42, seconds=59), "42 min left"),
        (timedelta(hours=6, minutes=20), "6 h 20 min left"),
        (timedelta(hours=6), "6 h left"),
        (timedelta(days=1, hours=3, minutes=59), "1 day 3 h left"),
        (timedelta(days=7), "7 days left"),
    ],
)
def test_time_left_is_told_in_its_two_largest_units(left: timedelta, words: str) -> None:
    assert left_in_words(NOW + left, NOW) == words


@pytest.mark.parametrize(
    ("since", "words"),
    [
        (timedelta(seconds=-5), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=5, seconds=30), "5 min ago"),
        (timedelta(hours=3, minutes=50), "3 h ago"),
        (timedelta(days=1, hours=23), "1 day ago"),
        (timedelta(days=40), "40 days ago"),
    ],
)
def test_the_past_is_told_in_its_largest_unit(since: timedelta, words: str) -> None:
    assert ago_in_words(NOW - since, NOW) == words


def test_the_exact_moment_names_its_time_zone() -> None:
    assert exact(NOW) == "Wednesday, 4 March 2026, 14:05 UTC"


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Safari/604.1", "Safari on iPhone"),
        ("Mozilla/5.0 (Linux; Android 16) Chrome/140.0 Mobile Safari/537.36", "Chrome on Android"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18.0 Safari/605.1.15", "Safari on macOS"),
        ("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) Chrome/140.0.0.0 Safari/537.36", "Chrome on ChromeOS"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) CriOS/140.0 Mobile/15E148", "Chrome on iPhone"),
        ("Mozilla/5.0 (iPad; CPU OS 18_0 like Mac OS X) FxiOS/140.0 Mobile/15E148 Safari/605.1.15", "Firefox on iPad"),
        ("Mozilla/5.0 (Linux; Android 15; SM-S921B) SamsungBrowser/28.0 Chrome/130.0", "Samsung Internet on Android"),
        ("curl/8.5.0", "curl"),
        ("", "an unknown device"),
    ],
)
def test_a_device_is_named_as_people_call_it(user_agent: str, words: str) -> None:
    assert device_in_words(user_agent) == words


@pytest.mark.parametrize(("used", "level"), [(0, "ok"), (79, "ok"), (80, "high"), (95, "full"), (120, "full")])
def test_a_meter_warns_before_it_is_full_and_never_overflows(used: int, level: str) -> None:
    meter = bytes_meter("Memory", used, 100)
    assert meter.level == level
    assert meter.percent == min(used, 100)


def test_a_meter_without_a_cap_only_tells_what_is_used() -> None:
    assert number_meter("Cores", 2.5, None).text == "2.5"
    assert number_meter("Instances", 0, 0).percent == 100


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ada.lovelace@x.example.org", ["ada.", "lovelace@", "x.", "example.", "org"]),
        ("/home/ada-lovelace", ["/", "home/", "ada-", "lovelace"]),
        ("cpus: 1.0, 192.0.2.7", ["cpus: 1.0, 192.0.2.7"]),
        ("a&b.<i>", ["a&amp;b.", "&lt;i&gt;"]),
        ("", [""]),
    ],
)
def test_an_address_may_break_behind_its_signs_and_stays_escaped(text: str, parts: list[str]) -> None:
    assert str(with_breaks(text)).split("<wbr>") == parts


@pytest.mark.parametrize(
    ("email", "letters"),
    [("ada.lovelace@x.org", "AL"), ("ada@x.org", "A"), ("a.b_c-dee@x.org", "AD"), ("42@x.org", "?")],
)
def test_a_person_has_one_or_two_initials(email: str, letters: str) -> None:
    assert initials(email) == letters


@pytest.mark.parametrize("path", ["/dashboard", "/instances/x/open?next=%2Flab", "/a?b=http://c"])
def test_a_path_of_the_portal_is_a_place_to_go_on_to(path: str) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "x", "//evil", "/\\evil", "https://evil", "/a\r\nSet-Cookie: x", "javascript:x", "/" + "a" * RETURN_PATH_MAX],
)
def test_anything_else_is_not(path: str) -> None:
    assert local_path(path) == "/dashboard"


def test_an_extension_promises_no_more_than_it_gives() -> None:
    offer = Offer((GB,), (1.0,), (GB,), (1, 2, 7), Limits(GB, 1.0, GB, 1))
    instance = Instance(
        id="i",
        owner_id="u",
        environment="rstudio",
        state=State.RUNNING,
        stage=Stage.READY,
        reason=None,
        limits=offer.defaults,
        created_at=NOW,
        expires_at=NOW + timedelta(days=1),
    )
    choices = extension_choices(instance, offer, NOW)
    assert [(choice.label, choice.until) for choice in choices] == [
        ("1 day", NOW + timedelta(days=2)),
        ("2 days", NOW + timedelta(days=3)),
        ("Maximum (7 days)", NOW + timedelta(days=7)),
    ]
    longest = replace(instance, expires_at=NOW + timedelta(days=7))
    assert extension_choices(longest, offer, NOW) == ()
