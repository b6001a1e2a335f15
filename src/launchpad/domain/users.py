"""A person, and what the platform keeps of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from .limits import Quota


class Role(StrEnum):
    USER = "user"
    ADMIN = "admin"


class UserStatus(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True)
class User:
    """`uid` and `username` (the home's directory) are chosen once and stored; never derived again from the e-mail.

    `time_zone` is an IANA name, such as "Asia/Singapore"; None: not known yet.
    """

    id: str
    email: str
    username: str
    uid: int
    role: Role
    status: UserStatus
    lab: str | None
    created_at: datetime
    last_seen_at: datetime | None = None
    quota: Quota = field(default_factory=Quota)
    time_zone: str | None = None

    @property
    def is_admin(self) -> bool:
        return self.role is Role.ADMIN

    @property
    def is_active(self) -> bool:
        return self.status is UserStatus.ACTIVE
