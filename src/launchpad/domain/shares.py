"""Files and folders that their owner lets others read, until a date. Who may, is decided here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .users import User


@dataclass(frozen=True)
class Share:
    """Attributes:
    path: of the file or folder, below the owner's home, as inside (see `file_paths`).
    kind: "file" or "folder"; something of another kind in its place is not shown.
    lab: whose members may read it, too; None: nobody's.
    emails: the addresses of those who may read it, whether they have ever signed in or not.
    """

    id: str
    owner_id: str
    path: str
    kind: str
    lab: str | None
    emails: tuple[str, ...]
    created_at: datetime
    expires_at: datetime

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Opened:
    """That somebody has opened a share: when last, and on how many days or hours it was noted."""

    email: str
    last_at: datetime


def in_lab(user: User, lab: str) -> bool:
    """Whether a user belongs to a lab now."""
    return user.lab == lab


def labs_of(user: User) -> tuple[str, ...]:
    """The labs that a user belongs to, and may share with."""
    return (user.lab,) if user.lab else ()


def may_open(share: Share, owner: User | None, viewer: User, now: datetime) -> bool:
    """Whether somebody may read it at this moment. With a lab share both have to be in that lab still."""
    if now >= share.expires_at or owner is None or not owner.is_active or not viewer.is_active:
        return False
    if viewer.id == owner.id or viewer.email in share.emails:
        return True
    return share.lab is not None and in_lab(owner, share.lab) and in_lab(viewer, share.lab)
