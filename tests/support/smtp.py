"""A real SMTP server on loopback that keeps what it is given."""

from __future__ import annotations

import asyncio
import re
from email import message_from_bytes
from email.message import Message
from time import monotonic

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession

from .ports import free_ports


class _Keeper:
    def __init__(self) -> None:
        self.mails: list[tuple[str, Message]] = []
        self.refused: dict[str, str] = {}

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's
        self, server: SMTP, session: SmtpSession, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, server: SMTP, session: SmtpSession, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        assert len(envelope.rcpt_tos) == 1, "one request, one recipient"
        content = envelope.content
        assert isinstance(content, bytes)
        self.mails.append((envelope.rcpt_tos[0], message_from_bytes(content)))
        return "250 kept"


class MailServer:
    """`codes` waits for a mail and reads the code out of it, as a person would."""

    def __init__(self) -> None:
        self._keeper = _Keeper()
        self.port = free_ports(1)[0]
        self._controller = Controller(self._keeper, hostname="127.0.0.1", port=self.port)

    def start(self) -> None:
        self._controller.start()

    def stop(self) -> None:
        self._controller.stop()

    def refuse(self, address: str, answer: str) -> None:
        """From now on this recipient is answered like "550 5.1.1 nobody here"."""
        self._keeper.refused[address] = answer

    def mails_to(self, address: str) -> list[Message]:
        return [mail for recipient, mail in self._keeper.mails if recipient == address]

    async def code_for(self, address: str, *, seen: int = 0, patience_seconds: float = 120.0) -> str:
        """The code in the newest mail to `address`, once there are more than `seen` of them."""
        deadline, pause_seconds = monotonic() + patience_seconds, 0.02
        while monotonic() < deadline:
            mails = self.mails_to(address)
            if len(mails) > seen:
                return code_in(mails[-1])
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(1.25 * pause_seconds, 0.2)
        raise AssertionError(f"no mail came for {address}")


def text_of(mail: Message) -> str:
    """The plain text part."""
    for part in mail.walk():
        if part.get_content_type() == "text/plain":
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            return payload.decode(part.get_content_charset() or "utf-8")
    raise AssertionError("the mail has no plain text")


def code_in(mail: Message) -> str:
    found = re.search(r"^\s*([0-9]{3} ?[0-9]{3}|[A-Z2-9]{10})\s*$", text_of(mail), re.MULTILINE)
    assert found, f"no code in:\n{text_of(mail)}"
    return found[1].replace(" ", "")
