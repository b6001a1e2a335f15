"""The contract of a mailer. One suite, `tests/contract/test_mail.py`, holds every implementation to it."""

from __future__ import annotations

from email.message import EmailMessage
from enum import StrEnum
from typing import Protocol


class Step(StrEnum):
    """How far a mail comes with a mail server. `TLS` also stands for the certificates to trust."""

    CONNECT = "connect"
    TLS = "tls"
    LOG_IN = "log-in"
    SENDER = "sender"
    RECIPIENT = "recipient"
    MESSAGE = "message"


class Mailer(Protocol):
    async def send(self, message: EmailMessage) -> None:
        """Hands one message, with exactly one recipient in `To`, to the mail system.

        Returns when the mail system has accepted it. Bounded in time by the settings.

        Raises:
            MailUnavailable: it could not be handed over; `permanent` says that trying again cannot help (refused
                log-in, refused recipient), `step` how far it came, `recipient_refused` that only this recipient is
                refused, `mail_status` which enhanced status code was given. Its text is ours: nothing else that the
                server said is in it.
            ValueError: the message has no or more than one recipient, or a line break in a header.
        """
        ...

    async def check(self) -> None:
        """Connects and logs in as `send` would, without sending.

        Raises:
            MailUnavailable: it does not work.
        """
        ...


def check_message(message: EmailMessage) -> None:
    """One recipient, and nothing in a header that would begin another one.

    Raises:
        ValueError: it is not so.
    """
    recipients = [address for header in message.get_all("To", []) for address in header.addresses]
    others = [name for name in ("Cc", "Bcc", "Resent-To") if message[name] is not None]
    if len(recipients) != 1 or others:
        raise ValueError(f"a message has exactly one recipient; this one has {len(recipients)} and {others}")
    for name, value in message.items():
        if "\n" in str(value) or "\r" in str(value):
            raise ValueError(f"a line break in the header {name}")
