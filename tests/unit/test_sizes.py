"""Sizes as people write them and as the program counts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.domain.sizes import describe_bytes, describe_cpus, describe_days, format_bytes, parse_bytes

GB = 1024**3


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("8g", 8 * GB),
        ("8G", 8 * GB),
        (" 8 GB ", 8 * GB),
        ("8GiB", 8 * GB),
        ("1.5g", GB + GB // 2),
        ("512m", 512 * 1024**2),
        ("64k", 64 * 1024),
        ("2t", 2048 * GB),
        ("1", 1),
        ("1073741824", GB),
        ("9007199254740993", 2**53 + 1),
    ],
)
def test_a_size_is_read_as_people_write_it(text: str, size_bytes: int) -> None:
    assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "g",
        "8x",
        "8gg",
        "-8g",
        "+8g",
        "8,5g",
        "8 g b",
        "1e9",
        "0",
        "0g",
        "0.0000001k",
        "\uff18g",
        "nan",
        "9" * 400,
    ],
)
def test_what_is_no_size_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_bytes(text)


@given(st.text(max_size=12))
def test_no_text_is_read_as_nothing_or_less(text: str) -> None:
    try:
        size_bytes = parse_bytes(text)
    except ValueError:
        return
    assert size_bytes > 0


@given(st.integers(1, 2**58))
def test_what_is_written_is_read_back_exactly(size_bytes: int) -> None:
    assert parse_bytes(format_bytes(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(8 * GB, "8g"), (1536 * 1024**2, "1536m"), (1024**4, "1t"), (1000, "1000"), (0, "0")]
)
def test_a_size_is_written_in_the_largest_unit_that_is_exact(size_bytes: int, text: str) -> None:
    assert format_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KB"),
        (1536 * 1024**2, "1.5 GB"),
        (8 * GB, "8 GB"),
        (16 * 1024**4, "16 TB"),
    ],
)
def test_a_size_for_people_has_at_most_one_decimal(size_bytes: int, text: str) -> None:
    assert describe_bytes(size_bytes) == text


def test_cores_and_days_are_counted_in_words() -> None:
    assert [describe_cpus(number) for number in (1, 0.5, 2, 2.5)] == ["1 core", "0.5 cores", "2 cores", "2.5 cores"]
    assert [describe_days(number) for number in (1, 7)] == ["1 day", "7 days"]
