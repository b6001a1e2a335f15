"""What the doctor says: findings, and the words that several parts of it share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

INSTALL_GUIDE = "docs/howto/install.md"


class Level(StrEnum):
    """`BAD`: something does not work, or a promise of docs/security.md does not hold. `WARN`: it could be better."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """`text` says what was found, `remedy` what to do about it (empty when nothing is to be done).

    `unanswered`: what was asked had not answered when the patience ended, and may never.
    """

    level: Level
    subject: str
    text: str
    remedy: str = ""
    unanswered: bool = False


def unseen(subject: str, why: str) -> Finding:
    """For what cannot be looked at here, or need not be."""
    return Finding(Level.OK, subject, f"Not checked: {why}.")


def numbers(version: str) -> tuple[int, int] | None:
    """The first two numbers of a version, such as (20, 10) of `20.10.24+dfsg1`; None where there are none."""
    parts = version.split(".")
    digits = ["".join(letter for letter in part if letter.isdigit()) for part in parts[:2]]
    return (int(digits[0]), int(digits[1])) if len(digits) == 2 and all(digits) else None
