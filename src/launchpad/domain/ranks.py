"""Ranks that put a list into order with few changes: what comes into a long queue changes one rank, not all. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

SMALLEST_GAP = 1e-6  # below that all ranks are given anew, long before numbers cannot be told apart


def ranks(before: Sequence[float | None]) -> list[float]:
    """Growing ranks for a list, as few as possible of them other than before.

    Args:
        before: the ranks that its items have, in the order that they are to have; None: none yet.
    """
    kept = _longest_growing(before)
    found = [0.0] * len(before)
    places = [-1, *kept, len(before)]
    for left, right in pairwise(places):
        number = right - left - 1
        low = before[left] if left >= 0 else None
        high = before[right] if right < len(before) else None
        if high is not None:
            found[right] = high
        if not number:
            continue
        step = 1.0
        if low is None:
            low = high - number - 1 if high is not None else 0.0
        elif high is not None:
            step = (high - low) / (number + 1)
            if step < SMALLEST_GAP:
                return [float(place) for place in range(1, len(before) + 1)]
        for place in range(number):
            found[left + 1 + place] = low + step * (place + 1)
    return found


def _longest_growing(values: Sequence[float | None]) -> list[int]:
    """The places of a longest part that grows; patience sorting."""
    tops: list[float] = []
    at_top: list[int] = []
    previous: dict[int, int | None] = {}
    for place, value in enumerate(values):
        if value is None:
            continue
        pile = bisect_left(tops, value)
        previous[place] = at_top[pile - 1] if pile else None
        if pile == len(tops):
            tops.append(value)
            at_top.append(place)
        else:
            tops[pile], at_top[pile] = value, place
    found = []
    place_or_none = at_top[-1] if at_top else None
    while place_or_none is not None:
        found.append(place_or_none)
        place_or_none = previous[place_or_none]
    return found[::-1]
