"""Mail off the request: a queue in the process, retries within bounds, and one state of health for everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage

import structlog

from ..domain.mail import FailureKind
from ..errors import LaunchpadError, MailUnavailable
from ..mail.base import Mailer

log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS = (2.0, 10.0, 30.0, 60.0)
QUEUE_LENGTH = 1000
SENDERS = 4

OnFailure = Callable[[str, FailureKind, str | None], Awaitable[None]]


async def nobody_asks(address: str, kind: FailureKind, status: str | None) -> None:
    """For a queue whose failures nobody keeps."""


@dataclass(frozen=True)
class _Letter:
    """A mail that waits, and how long to wait before each further try."""

    message: EmailMessage
    pauses: Sequence[float]


class MailQueue:
    """Mails wait in memory: a code outlives a restart of the portal no better than the browser's patience does.

    `failing` is the same for every visitor, so showing it tells nobody whether an address is known. A recipient that
    is refused does not change it: the mail server works, and a stranger would learn which mailboxes there are.

    Args:
        on_failure: is told of each mail that will not arrive: the address, how it ended, the enhanced status code. May
            raise our errors, which are logged.
    """

    def __init__(
        self,
        mailer: Mailer,
        *,
        retry_after_seconds: Sequence[float] = RETRY_AFTER_SECONDS,
        on_failure: OnFailure = nobody_asks,
    ) -> None:
        self._mailer = mailer
        self._on_failure = on_failure
        self._retry_after_seconds = retry_after_seconds
        self._waiting: asyncio.Queue[_Letter] = asyncio.Queue(QUEUE_LENGTH)
        self._senders: list[asyncio.Task[None]] = []
        self._later: set[asyncio.Task[None]] = set()
        self.failing = False

    async def check(self) -> None:
        """Raises MailUnavailable when the mail server cannot be used just now. Sends nothing."""
        await self._mailer.check()

    async def send_now(self, message: EmailMessage) -> None:
        """Sends one mail without queue and retries, for a test of the way; raises MailUnavailable."""
        await self._mailer.send(message)

    def put(self, message: EmailMessage) -> None:
        """Takes a mail and returns at once."""
        try:
            self._waiting.put_nowait(_Letter(message, self._retry_after_seconds))
        except asyncio.QueueFull:
            self.failing = True
            log.error("mail.queue_full", waiting=self._waiting.qsize())

    async def start(self) -> None:
        self._senders = [asyncio.create_task(self._send_all()) for _ in range(SENDERS)]

    async def drain(self) -> None:
        """Waits until everything that was put has been sent or given up."""
        await self._waiting.join()
        while self._later:
            await asyncio.wait(self._later)
            await self._waiting.join()

    async def aclose(self) -> None:
        tasks = [*self._senders, *self._later]
        for sender in tasks:
            sender.cancel()
        for sender in tasks:
            with suppress(asyncio.CancelledError):
                await sender

    async def _send_all(self) -> None:
        while True:
            letter = await self._waiting.get()
            try:
                await self._send(letter)
            finally:
                self._waiting.task_done()

    async def _send(self, letter: _Letter) -> None:
        """Sends it; one that has to wait for another try waits aside, so that it holds up nobody else's."""
        try:
            await self._mailer.send(letter.message)
        except MailUnavailable as error:
            self.failing = self.failing or not error.recipient_refused
            last = not letter.pauses or error.permanent
            log.warning(
                "mail.failed",
                detail=error.detail,
                permanent=error.permanent,
                recipient_refused=error.recipient_refused,
                status=error.mail_status,
                given_up=last,
            )
            if last:
                await self._tell(letter.message, error)
                return
            aside = asyncio.create_task(self._again(letter))
            self._later.add(aside)
            aside.add_done_callback(self._later.discard)
        except ValueError as error:
            log.error("mail.unusable_message", error=str(error))
        else:
            self.failing = False

    async def _again(self, letter: _Letter) -> None:
        await asyncio.sleep(letter.pauses[0])
        await self._waiting.put(_Letter(letter.message, letter.pauses[1:]))

    async def _tell(self, message: EmailMessage, error: MailUnavailable) -> None:
        kind = FailureKind.REFUSED if error.permanent else FailureKind.GIVEN_UP
        try:
            await self._on_failure(str(message["To"]), kind, error.mail_status)
        except LaunchpadError as unwritten:
            log.warning("mail.failure_not_kept", detail=unwritten.detail)
