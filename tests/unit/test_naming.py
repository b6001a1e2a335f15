"""Usernames, ids and container names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.domain.naming import (
    ID_LENGTH,
    ID_PATTERN,
    USERNAME_MAX,
    container_name,
    new_id,
    username_candidates,
    username_from_email,
)

# What useradd takes by default (NAME_REGEX of Debian's adduser, and shadow's limit of 32).
LINUX_USERNAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")

addresses = st.builds(lambda local, domain: f"{local}@{domain}", st.text(min_size=1, max_size=64), st.just("x.edu"))


def test_ids_are_distinct_and_match_their_pattern() -> None:
    ids = {new_id() for _ in range(2000)}
    assert len(ids) == 2000
    assert all(re.fullmatch(ID_PATTERN, one) and len(one) == ID_LENGTH for one in ids)


def test_the_pattern_takes_no_letter_that_ids_never_hold() -> None:
    assert not any(re.fullmatch(ID_PATTERN, letter * ID_LENGTH) for letter in "ilouA-./")


@pytest.mark.parametrize(
    ("email", "username"),
    [
        ("alice@nus.edu.sg", "alice"),
        ("Anna.Müller+x@x.edu", "anna-m-ller-x"),
        ("a_b.c@x.edu", "a-b-c"),
        ("42@x.edu", "u-42"),
        ("+@x.edu", "u"),
        ("root@x.edu", "root-user"),
        ("lost+found@x.edu", "lost-found-user"),
        ("jovyan@x.edu", "jovyan-user"),
        ("x" * 60 + "@x.edu", "x" * USERNAME_MAX),
    ],
)
def test_a_username_is_the_local_part_made_plain(email: str, username: str) -> None:
    assert username_from_email(email) == username


@given(addresses)
def test_every_candidate_is_a_username_that_linux_takes(email: str) -> None:
    for name in username_candidates(email):
        assert LINUX_USERNAME.fullmatch(name), name


@given(addresses)
def test_no_candidate_is_a_name_of_the_system(email: str) -> None:
    assert not {"root", "admin", "jovyan", "rstudio", "ubuntu"} & set(username_candidates(email))


@given(addresses)
def test_candidates_differ_from_one_another(email: str) -> None:
    candidates = username_candidates(email)
    assert len(set(candidates)) == len(candidates) == 10


def test_two_people_with_one_local_part_share_names_but_not_the_last_one() -> None:
    first, second = username_candidates("alice@nus.edu.sg"), username_candidates("alice@u.nus.edu")
    assert first[:-1] == second[:-1] == ["alice", *(f"alice-{number}" for number in range(2, 10))]
    assert first[-1] != second[-1]


def test_candidates_are_the_same_every_time() -> None:
    assert username_candidates("alice@x.edu") == username_candidates("alice@x.edu")


def test_a_container_is_named_after_its_deployment_and_instance() -> None:
    assert container_name("d0", "i0") == "launchpad-d0-i0"
    assert re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", container_name(new_id()[:8], new_id()))
