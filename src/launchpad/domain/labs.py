"""Labs: research groups and courses, with leads and members. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from .users import User

NAME_MAX = 30
NOT_A_NAME = "requests"  # has an address of its own
TITLE_MAX = 100
NAME_PATTERN = rf"[a-z0-9](?:[a-z0-9-]{{0,{NAME_MAX - 2}}}[a-z0-9])?"
REQUESTS_MAX = 10  # that one person has open
REMINDED_AFTER = timedelta(days=7)  # when asking again sends another mail


@dataclass(frozen=True)
class Lab:
    """A research group or course.

    Attributes:
        name: in addresses and commands, and in `lab-<name>` of its members' homes; chosen once.
        key: what settings, policies, capacity, history and `User.lab` call it; chosen once. Of labs that were names of
            users before they were rows, that name; else `name`.
        title: what pages call it.
    """

    id: str
    name: str
    key: str
    title: str
    created_at: datetime


@dataclass(frozen=True)
class LabMember:
    """Somebody in a lab. `counts`: of their labs it is the one that counts for capacity, fair share and policies."""

    user: User
    is_lead: bool
    joined_at: datetime
    counts: bool


@dataclass(frozen=True)
class OwnLab:
    """A lab as one of its members sees it in a list of theirs."""

    lab: Lab
    is_lead: bool
    counts: bool
    members: int


@dataclass(frozen=True)
class ListedLab:
    """A lab in a list of all: by whom it is led (e-mail addresses), how many are in it, and how many ask to be."""

    lab: Lab
    leads: tuple[str, ...]
    members: int
    requests: int


class LabRight(IntEnum):
    """What somebody may in a lab: see it; change its title and members; name its leads, too."""

    MEMBER = 1
    LEAD = 2
    ADMIN = 3


@dataclass(frozen=True)
class LabAccess:
    """A lab, and what somebody may in it. `is_member`: not only as an administrator."""

    lab: Lab
    right: LabRight
    is_member: bool

    @property
    def may_change(self) -> bool:
        return self.right >= LabRight.LEAD


@dataclass(frozen=True)
class JoinRequest:
    """Somebody who asks to join a lab. `mailed_at`: when its leads were written to last."""

    user: User
    asked_at: datetime
    mailed_at: datetime


def is_name(text: str) -> bool:
    return re.fullmatch(NAME_PATTERN, text) is not None and text != NOT_A_NAME


def name_candidates(title: str) -> Iterator[str]:
    """Names to try in turn for a lab of that title: "Dr. Müller's lab" → `dr-muller-s-lab`, `dr-muller-s-lab-2`, …"""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:NAME_MAX].rstrip("-") or "lab"
    if name != NOT_A_NAME:
        yield name
    number = 2
    while True:
        end = f"-{number}"
        yield name[: NAME_MAX - len(end)].rstrip("-") + end
        number += 1


def clean_title(text: str) -> str:
    """In one line, without what cannot be printed."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def problems_of(name: str, title: str) -> dict[str, str]:
    """What is wrong with a new lab, by field."""
    found = {}
    if not is_name(name):
        found["name"] = f"at most {NAME_MAX} small letters, digits and hyphens, such as genomics"
    return found | title_problems(title)


def title_problems(title: str) -> dict[str, str]:
    if not title:
        return {"title": "fill this in"}
    return {"title": f"at most {TITLE_MAX} characters"} if len(title) > TITLE_MAX else {}
