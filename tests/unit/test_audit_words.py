"""The audit's details in words."""

from __future__ import annotations

import re
from typing import Any

import pytest

from launchpad.domain.audit_words import changes_in_words, details_in_words, instance_in_words, quota_in_words
from launchpad.domain.limits import Quota

GB = 1024**3


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({}, ""),
        ({"memory": "8 GB", "cpus": 2.0, "days": 1, "lab": None}, "memory: 8 GB, cores: 2, days: 1"),
        ({"environment": "rstudio", "owner": "a@a.org", "reason": "expired"}, "reason: expired"),
        ({"until": "2026-11-28T15:07:00+00:00"}, "until: 28 November 2026 at 15:07 UTC"),
        ({"safe_mode": True}, "safe mode: yes"),
        ({"files": ["a", "b"]}, "files: a, b"),
        ({"role": "user → admin"}, "role: user → admin"),
        (
            {"quota": "Quota(memory_bytes=None, cpus=None, storage_bytes=None, instances=None) → "
                      f"Quota(memory_bytes={8 * GB}, cpus=2.0, storage_bytes=None, instances=1)"},
            "quota: no limits of its own → 8 GB of memory, 2 cores, 1 instance",
        ),
        (
            {"before": "{'memory': ['1g', '2g'], 'days': [1], 'defaults': {'memory': '1g'}}",
             "after": "{'memory': ['1g', '2g', '4g'], 'days': [1], 'defaults': {'memory': '2g'}}"},
            "memory: 1g, 2g → 1g, 2g, 4g, defaults memory: 1g → 2g",
        ),
    ],
)  # fmt: skip
def test_details_in_words(details: dict[str, Any], words: str) -> None:
    """Those of older records, too, which were written as Python has them."""
    assert details_in_words(details) == words


def test_a_quota_in_words() -> None:
    assert quota_in_words(Quota()) == "no limits of its own"
    full = Quota(memory_bytes=8 * GB, cpus=1, storage_bytes=64 * GB, instances=2)
    assert quota_in_words(full) == "8 GB of memory, 1 core, 64 GB home folder, 2 instances"


def test_only_what_changes_is_told() -> None:
    before = {"role": "user", "lab": None, "cpus": [1.0, 2.0]}
    assert changes_in_words(before, before) == {}
    after = {"role": "user", "lab": "genomics", "cpus": [1.0]}
    assert changes_in_words(before, after) == {"lab": "none → genomics", "cpus": "1, 2 → 1"}


def test_an_instance_is_named() -> None:
    assert instance_in_words({"environment": "rstudio", "owner": "a@a.org"}) == "rstudio of a@a.org"
    assert instance_in_words({"environment": "rstudio"}) == ""


@pytest.mark.parametrize("odd", ["{'a': nonsense", "{x}", "Quota(", "['"])
def test_what_looks_like_python_and_is_none_is_shown_as_it_is(odd: str) -> None:
    assert re.search(re.escape(odd), details_in_words({"before": odd, "after": odd}))
