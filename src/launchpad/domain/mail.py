"""Mail that did not arrive: how that was learnt, and why, in our words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from .paging import Place

STATUS_MAX = 11  # "5.999.999" and two to spare
_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?!\d|\.\d)", re.ASCII)


class FailureKind(StrEnum):
    """`REFUSED`: our mail server refused it. `GIVEN_UP`: no attempt succeeded. `BOUNCED`: it was returned later."""

    REFUSED = "refused"
    GIVEN_UP = "given up"
    BOUNCED = "bounced"


@dataclass(frozen=True)
class MailFailure:
    """What is known of an address that mail did not reach: the newest failure, and how many there were since when.

    `status` is the enhanced status code of RFC 3463, where a server gave one.
    """

    address: str
    kind: FailureKind
    status: str | None
    count: int
    first_at: datetime
    last_at: datetime

    @property
    def reason(self) -> str:
        return reason_of(self.kind, self.status)

    @property
    def place(self) -> Place:
        """Its place in a list, newest first."""
        return Place(self.last_at, self.address)


def find_status(text: str) -> str | None:
    """The enhanced status code that a server's answer, or a field of a report, begins with: "5.1.1 nobody here"."""
    found = _STATUS.match(text.lstrip())
    return ".".join(found.groups()) if found else None


def reason_of(kind: FailureKind, status: str | None) -> str:
    """Why, in a few words without a full stop. Nothing that a server wrote is in it but the code's meaning."""
    if status is None:
        return _WITHOUT_CODE[kind]
    lasting, subject, detail = status.split(".")
    words = _DETAILS.get(f"{subject}.{detail}") or _SUBJECTS.get(subject) or _WITHOUT_CODE[kind]
    return f"{words}, for now" if lasting == "4" and kind is not FailureKind.BOUNCED else words


_WITHOUT_CODE = {
    FailureKind.REFUSED: "the mail server refused it without saying why",
    FailureKind.GIVEN_UP: "the mail server did not accept it",
    FailureKind.BOUNCED: "no reason was given",
}

# RFC 3463, section 3, and the registry of enhanced status codes (RFC 5248): 7.20 to 7.24 are RFC 7372's, 1.10 and
# 7.27 RFC 7505's.
_DETAILS = {
    "1.1": "no such mailbox",
    "1.2": "no such mail domain",
    "1.3": "the address is not valid for its server",
    "1.4": "the address is ambiguous",
    "1.6": "the mailbox has moved",
    "1.7": "our sender's address is not accepted",
    "1.8": "our sender's domain is not accepted",
    "1.10": "that domain does not accept mail",
    "2.1": "the mailbox is disabled",
    "2.2": "mailbox full",
    "2.3": "the mail is too large for that mailbox",
    "2.4": "the mailing list has an error",
    "3.1": "the receiving mail system is full",
    "3.2": "the receiving mail system does not accept mail now",
    "3.4": "the mail is too large for the receiving system",
    "4.1": "the receiving mail server does not answer",
    "4.2": "the connection to the receiving mail server was interrupted",
    "4.3": "the name of the receiving mail server could not be looked up",
    "4.4": "no route to the receiving mail server was found",
    "4.5": "the receiving mail server is overloaded",
    "4.6": "the mail was sent in a loop",
    "4.7": "it could not be delivered in time",
    "7.0": "refused by policy",
    "7.1": "refused by policy: the mail, or its sender, is not accepted there",
    "7.8": "the mail server refused our login",
    "7.9": "the mail server requires another login method",
    "7.20": "refused because no DKIM signature is valid",
    "7.21": "refused because no DKIM signature is acceptable",
    "7.22": "refused because no DKIM signature is our domain's",
    "7.23": "refused because SPF does not allow our mail server",
    "7.24": "refused because our SPF record has an error",
    "7.25": "refused because our mail server has no name in reverse DNS",
    "7.26": "refused by policy: SPF, DKIM or DMARC did not pass",
    "7.27": "refused because our sender's domain does not accept mail",
    "7.28": "refused because of too many mails",
}
_SUBJECTS = {
    "1": "the address was not accepted",
    "2": "the mailbox does not accept mail",
    "3": "the receiving mail system has an error",
    "4": "the route to the receiving mail server has an error",
    "5": "the mail servers use the protocol differently",
    "6": "the content of the mail was not accepted",
    "7": "refused by policy",
}
