"""Files and folders that their owner lets others read, until a date. Who may, is decided here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest

from .users import User


@dataclass(frozen=True)
class Share:
    """Attributes:
    path: of the file or folder, below the owner's home, as inside (see `file_paths`).
    kind: "file" or "folder"; something of another kind in its place is not shown.
    lab: whose members may read it, too; None: nobody's.
    emails: the addresses of those who may read it, whether they have ever signed in or not.
    secret_digest: of the secret in a link that opens it for everybody who has it; None: there is no such link.
    """

    id: str
    owner_id: str
    path: str
    kind: str
    lab: str | None
    emails: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    secret_digest: str | None = None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Opened:
    """That somebody has opened a share: when last, and on how many days or hours it was noted."""

    email: str
    last_at: datetime


@dataclass(frozen=True)
class LinkHolder:
    """Somebody who is not signed in, and shows a link's secret."""

    secret_digest: str

    @property
    def id(self) -> str:
        return ""


def in_lab(user: User, lab: str) -> bool:
    """Whether a user belongs to a lab now."""
    return user.lab == lab


def labs_of(user: User) -> tuple[str, ...]:
    """The labs that a user belongs to, and may share with."""
    return (user.lab,) if user.lab else ()


def may_open(share: Share, owner: User | None, viewer: User | LinkHolder, now: datetime) -> bool:
    """Whether somebody may read it at this moment. With a lab share both have to be in that lab still.

    Whether links for everybody are allowed at all is not decided here.
    """
    if now >= share.expires_at or owner is None or not owner.is_active:
        return False
    if isinstance(viewer, LinkHolder):
        return share.secret_digest is not None and compare_digest(share.secret_digest, viewer.secret_digest)
    if not viewer.is_active:
        return False
    if viewer.id == owner.id or viewer.email in share.emails:
        return True
    return share.lab is not None and in_lab(owner, share.lab) and in_lab(viewer, share.lab)
