"""What the administrators' templates are given: users, mail that did not reach them, notices, the audit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ...domain.mail import FailureKind, MailFailure
from ...domain.users import User


@dataclass(frozen=True)
class UserRow:
    """A user on the administrators' list, how many live instances they have, and whether mail reaches them."""

    user: User
    live_instances: int
    mail_failure: MailFailure | None = None

    @property
    def mail_note(self) -> str:
        return mail_failure_in_words(self.mail_failure) if self.mail_failure else ""


_FAILURES = {
    FailureKind.BOUNCED: ("Bounced", "bad", "Mail to this address bounced"),
    FailureKind.REFUSED: ("Rejected", "bad", "The mail server rejected mail to this address"),
    FailureKind.GIVEN_UP: ("Not sent", "busy", "Mail to this address could not be sent"),
}


def mail_failure_in_words(failure: MailFailure) -> str:
    """ "Mail to this address bounced: no such mailbox", without a full stop."""
    return f"{_FAILURES[failure.kind][2]}: {failure.reason}"


@dataclass(frozen=True)
class MailFailureRow:
    """An address that mail did not reach; `user` None: nobody has signed in with it yet."""

    failure: MailFailure
    user: User | None

    @property
    def label(self) -> str:
        return _FAILURES[self.failure.kind][0]

    @property
    def tone(self) -> str:
        return _FAILURES[self.failure.kind][1]

    @property
    def reason(self) -> str:
        """As a sentence begins."""
        return self.failure.reason[:1].upper() + self.failure.reason[1:]


@dataclass(frozen=True)
class Count:
    """A number on the overview, and the page that lists what it counts."""

    number: int
    label: str
    path: str


@dataclass(frozen=True)
class Notice:
    """Something for an administrator's attention; `tone` is bad, warn or info."""

    tone: str
    title: str
    text: str


@dataclass(frozen=True)
class AuditEntry:
    """A record of the audit with its details in words; `name`: what its subject is called, if not by `subject`."""

    at: datetime
    actor: str
    client: str
    action: str
    subject: str
    detail: str
    name: str = ""
