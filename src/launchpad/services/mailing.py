"""Mail off the request: a queue in the process, retries within bounds, and one state of health for everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from email.message import EmailMessage

import structlog

from ..errors import MailUnavailable
from ..mail.base import Mailer

log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS = (2.0, 10.0, 30.0, 60.0)
QUEUE_LENGTH = 1000
SENDERS = 4


class MailQueue:
    """Mails wait in memory: a code outlives a restart of the portal no better than the browser's patience does.

    `failing` is the same for every visitor, so showing it tells nobody whether an address is known.
    """

    def __init__(self, mailer: Mailer, *, retry_after_seconds: Sequence[float] = RETRY_AFTER_SECONDS) -> None:
        self._mailer = mailer
        self._retry_after_seconds = retry_after_seconds
        self._waiting: asyncio.Queue[EmailMessage] = asyncio.Queue(QUEUE_LENGTH)
        self._senders: list[asyncio.Task[None]] = []
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
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            self.failing = True
            log.error("mail.queue_full", waiting=self._waiting.qsize())

    async def start(self) -> None:
        self._senders = [asyncio.create_task(self._send_all()) for _ in range(SENDERS)]

    async def drain(self) -> None:
        """Waits until everything that was put has been sent or given up."""
        await self._waiting.join()

    async def aclose(self) -> None:
        for sender in self._senders:
            sender.cancel()
        for sender in self._senders:
            with suppress(asyncio.CancelledError):
                await sender

    async def _send_all(self) -> None:
        while True:
            message = await self._waiting.get()
            try:
                await self._send(message)
            finally:
                self._waiting.task_done()

    async def _send(self, message: EmailMessage) -> None:
        for pause in (*self._retry_after_seconds, None):
            try:
                await self._mailer.send(message)
            except MailUnavailable as error:
                self.failing = True
                last = pause is None or error.permanent
                log.warning("mail.failed", detail=error.detail, permanent=error.permanent, given_up=last)
                if last:
                    return
                await asyncio.sleep(pause or 0)
            except ValueError as error:
                log.error("mail.unusable_message", error=str(error))
                return
            else:
                self.failing = False
                return
