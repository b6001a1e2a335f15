"""What a link in a mail is worth, and what tells a person from a program."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from launchpad.services.extension_links import (
    NUMBERS,
    ExtensionLinks,
    Link,
    is_by_hand,
    number_in_words,
)

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LINK = Link("a" * 16, datetime(2026, 3, 3, 9, 30, 0, 123456, tzinfo=UTC))
LINKS = ExtensionLinks(b"k" * 32, "https://lab.example.org")
SECOND = timedelta(seconds=1)


def test_a_link_says_what_it_was_made_of() -> None:
    idle = Link(LINK.instance_id, LINK.expires_at, NOW)
    for link in (LINK, idle):
        assert LINKS.url(link) == f"https://lab.example.org/extend/{LINKS.token(link)}"
        assert LINKS.read(LINKS.token(link)) == link


def test_another_link_is_none() -> None:
    """Not of another key, not of another end or instance, not cut short: whatever sign is another."""
    token = LINKS.token(LINK)
    assert ExtensionLinks(b"o" * 32, "").read(token) is None
    for at, sign in enumerate(token):
        assert LINKS.read(token[:at] + ("1" if sign != "1" else "2") + token[at + 1 :]) is None
    for other in ("", token[:-1], token + "0", token.upper(), token + "\n", "-".join(["a"] * 4)):
        assert LINKS.read(other) is None


def test_a_form_belongs_to_a_showing_of_its_own_link_for_a_while() -> None:
    token, other = LINKS.token(LINK), LINKS.token(Link("b" * 16, LINK.expires_at))
    showing = LINKS.show(token, NOW)
    assert LINKS.shown(token, showing.mark, NOW + SECOND) == showing
    assert LINKS.shown(token, showing.mark, NOW + timedelta(hours=2)) == showing
    assert LINKS.shown(token, showing.mark, NOW + timedelta(hours=2, seconds=1)) is None
    assert LINKS.shown(token, showing.mark, NOW + SECOND / 2) is None, "no hand is so quick"
    assert LINKS.shown(token, showing.mark, NOW - SECOND) is None
    assert LINKS.shown(other, showing.mark, NOW + SECOND) is None
    for mark in ("", "x", showing.mark[:-1] + "g", "1" + showing.mark):
        assert LINKS.shown(token, mark, NOW + SECOND) is None
    assert LINKS.show(token, NOW + SECOND).proof != showing.proof


def test_only_what_a_person_adds_counts() -> None:
    showing = LINKS.show(LINKS.token(LINK), NOW)
    assert is_by_hand(showing, showing.proof, "")
    assert is_by_hand(showing, "", f" {showing.number} ")
    wrong = {
        "",
        "1",
        "on",
        "true",
        str(showing.number + 1),
        number_in_words(showing.number),
        showing.mark,
        "9" * 20,
        "²",
    }
    for text in wrong:
        assert not is_by_hand(showing, "", text)
        assert not is_by_hand(showing, text, "")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (201, "two hundred and one"),
        (300, "three hundred"),
        (417, "four hundred and seventeen"),
        (590, "five hundred and ninety"),
        (842, "eight hundred and forty-two"),
        (998, "nine hundred and ninety-eight"),
    ],
)
def test_a_number_in_words(number: int, words: str) -> None:
    assert number_in_words(number) == words


def test_every_number_has_words_of_its_own_without_a_digit() -> None:
    words = {number_in_words(number) for number in NUMBERS}
    assert len(words) == len(NUMBERS)
    assert not any(sign.isdigit() for one in words for sign in one)
