"""Mail off the request: a queue in the store that outlives the process, retries within bounds, one state of health.

A mail is queued in the transaction of what it is about: a code that was asked for is sent, or was never asked for. Any
of the senders takes the mail that has been due for longest. What has to be tried again goes back to the queue with the
instant of its next try, so that it holds up no other; after a crash whoever owns the work goes on with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.mail import FailureKind
from ..domain.naming import new_id
from ..errors import LaunchpadError, MailUnavailable
from ..mail.base import Mailer
from ..mail.sealing import seal, unseal
from ..store import kv
from ..store import outgoing_mails as store
from ..store.database import Database
from ..store.outgoing_mails import OutgoingMail
from .background import Beat, Loop, continuous
from .mail_failures import keep

log = structlog.get_logger(__name__)

# Greylisting lets a mail pass after some minutes, and a code works for ten.
RETRY_AFTER_SECONDS = (2.0, 10.0, 30.0, 60.0, 120.0, 120.0, 120.0)
QUEUE_LENGTH = 10_000
SENDERS = 4
MARGIN_SECONDS = 30.0  # beyond what a mailer may take: who has not come back then is not there any more
LOOKS_SECONDS = (1.0, 15.0)  # how often the first sender, and each other, looks for mails of other processes
FAILING = "mail.failing"  # key of whether the mail server works, for the pages of every process


@dataclass(frozen=True)
class _Verdict:
    """What became of a try: `next_at` of the next one, or else the end; with `failed`, a bad one, and its code."""

    next_at: datetime | None = None
    address: str = ""
    failed: FailureKind | None = None
    status: str | None = None


SENT = _Verdict()


class MailQueue:
    """`failing` is the same for every visitor, so showing it tells nobody whether an address is known. A recipient that
    is refused does not change it: the mail server works, and a stranger would learn which mailboxes there are.

    Args:
        key: 256 bits that are not in the database: what waits is encrypted under it.
        now: the clock; sending takes time, and its end decides when to try again.
        patience_seconds: how long the mailer takes for one mail at most.
        retry_after_seconds: the pause before each further try. A mail that is of no use any more is not tried again.
    """

    def __init__(
        self,
        database: Database,
        mailer: Mailer,
        key: bytes,
        now: Callable[[], datetime],
        *,
        patience_seconds: float = 60.0,
        retry_after_seconds: Sequence[float] = RETRY_AFTER_SECONDS,
    ) -> None:
        self._database = database
        self._mailer = mailer
        self._key = key
        self._now = now
        self._claimed_for = timedelta(seconds=patience_seconds + MARGIN_SECONDS)
        self._patience_seconds = patience_seconds
        self._pauses = [timedelta(seconds=seconds) for seconds in retry_after_seconds]
        self._verdicts: dict[str, _Verdict] = {}  # not in the store yet
        self._settling = asyncio.Lock()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._under_way: set[asyncio.Event] = set()
        self.failing = False
        self._known_failing: bool | None = None  # as it stands in the store; None: this process has sent nothing yet

    def loops(self) -> list[Loop]:
        """The senders. Each ends a mail before it takes the next one."""
        late = self._patience_seconds + MARGIN_SECONDS
        looks = [LOOKS_SECONDS[0], *[LOOKS_SECONDS[1]] * (SENDERS - 1)]
        return [
            continuous(
                f"mail-sender-{number}",
                lambda beat, seconds=seconds: self.send_all(beat, seconds),  # type: ignore[misc]
                late_after_seconds=late,
            )
            for number, seconds in enumerate(looks, 1)
        ]

    async def check(self) -> None:
        """Raises MailUnavailable when the mail server cannot be used just now. Sends nothing."""
        await self._mailer.check()

    async def send_now(self, message: EmailMessage) -> None:
        """Sends one mail without queue and retries, for a test of the way; raises MailUnavailable."""
        await self._mailer.send(message)

    async def add(self, db: AsyncConnection, message: EmailMessage, now: datetime, expires_at: datetime) -> None:
        """Queues a mail in a transaction; call `wake` after it.

        Args:
            expires_at: when the mail is of no use any more.
        """
        if self._known_failing is None:
            self.failing = bool(await kv.get(db, FAILING))
        if await store.count(db) >= QUEUE_LENGTH:
            self.failing = True
            log.error("mail.queue_full", waiting=QUEUE_LENGTH)
            return
        mail_id = new_id()
        sealed = seal(self._key, mail_id, message)
        await store.add(db, OutgoingMail(mail_id, sealed, 0, created_at=now, due_at=now, expires_at=expires_at))

    def wake(self) -> None:
        """A mail may be due: one of the senders that wait looks at once."""
        while self._idle:
            waiting = self._idle.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return

    async def waiting(self) -> int:
        """How many mails have not been handed over yet."""
        async with self._database.reading() as db:
            return await store.count(db)

    async def aclose(self) -> None:
        """To be called when no sender runs any more: what was interrupted is tried again soon, by the next process."""
        if self._verdicts:
            with suppress(LaunchpadError):
                await self._settle()

    async def drain(self) -> None:
        """Sends whatever is due now, and waits for what other senders have under way."""
        while await self.send_next() or self._under_way:
            for done in tuple(self._under_way):
                await done.wait()

    async def send_all(self, beat: Beat, look_seconds: float) -> None:
        """Sends what is due, and waits for more, until it is cancelled.

        Raises:
            StoreUnavailable: the queue cannot be read or written now; nothing is lost.
        """
        while True:
            sent = await self.send_next()
            beat()
            if not sent:
                await self._wait(look_seconds)

    async def _wait(self, look_seconds: float) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(waiting)  # before looking: what is added meanwhile wakes
        try:
            async with self._database.reading() as db:
                due_at = await store.first_due(db)
            seconds = look_seconds
            if due_at is not None:
                seconds = min(seconds, max(0.0, (due_at - self._now()).total_seconds()))
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await waiting
        finally:
            if waiting in self._idle:
                self._idle.remove(waiting)

    async def send_next(self) -> bool:
        """One try of the mail that has been due for longest; False when none is due.

        Raises:
            StoreUnavailable: as above. What was sent and could not be written down is not sent again by this process.
        """
        await self._settle()
        done = asyncio.Event()
        self._under_way.add(done)
        try:
            mail = await self._claim()
            if mail is None:
                return False
            self.wake()  # there may be more of them
            verdict = self._again(mail)  # of a try that does not come to its end
            try:
                verdict = await self._try(mail)
            finally:
                self._verdicts[mail.id] = verdict
        finally:
            self._under_way.discard(done)
            done.set()
        await self._settle()
        return True

    async def _claim(self) -> OutgoingMail | None:
        now = self._now()
        async with self._database.reading() as db:  # most often there is nothing, and no writer has to wait for that
            due_at = await store.first_due(db)
        longest = max([self._claimed_for, *self._pauses])
        if due_at is None or now < due_at <= now + longest:
            return None
        async with self._database.transaction() as db:
            return await store.claim(db, now, now + self._claimed_for, longest)

    async def _try(self, mail: OutgoingMail) -> _Verdict:
        try:
            message = unseal(self._key, mail.id, mail.sealed)
        except ValueError as error:
            log.error("mail.not_readable", error=str(error))
            return SENT
        address = str(message["To"])
        if self._now() >= mail.expires_at:
            log.warning("mail.expired", attempts=mail.attempts - 1)
            return _Verdict(address=address, failed=FailureKind.GIVEN_UP)
        try:
            await self._mailer.send(message)
        except MailUnavailable as error:
            self.failing = self.failing or not error.recipient_refused
            verdict = self._again(mail, address, error)
            log.warning(
                "mail.failed",
                detail=error.detail,
                permanent=error.permanent,
                recipient_refused=error.recipient_refused,
                status=error.mail_status,
                given_up=verdict.failed is not None,
            )
            return verdict
        except ValueError as error:
            log.error("mail.unusable_message", error=str(error))
            return SENT
        self.failing = False
        return SENT

    def _again(self, mail: OutgoingMail, address: str = "", error: MailUnavailable | None = None) -> _Verdict:
        """Another try after a pause, or the end of it."""
        status = error.mail_status if error else None
        if error is not None and error.permanent:
            return _Verdict(address=address, failed=FailureKind.REFUSED, status=status)
        if mail.attempts <= len(self._pauses):
            next_at = self._now() + self._pauses[mail.attempts - 1]
            if next_at < mail.expires_at:
                return _Verdict(next_at)
        return _Verdict(address=address, failed=FailureKind.GIVEN_UP, status=status)

    async def _settle(self) -> None:
        """Writes down what has become of tries."""
        async with self._settling:
            if self._known_failing is None:
                async with self._database.reading() as db:
                    self.failing = self._known_failing = bool(await kv.get(db, FAILING))
            settled, failing = dict(self._verdicts), self.failing
            if not settled and failing == self._known_failing:
                return
            now = self._now()
            async with self._database.transaction() as db:
                for mail_id, verdict in settled.items():
                    if verdict.next_at is not None:
                        await store.postpone(db, mail_id, verdict.next_at)
                        continue
                    await store.remove(db, mail_id)
                    if verdict.failed is not None and verdict.address:
                        await keep(db, verdict.address, verdict.failed, verdict.status, now)
                if failing != self._known_failing:
                    await kv.put(db, FAILING, failing, now)
            self._known_failing = failing
            for mail_id in settled:
                del self._verdicts[mail_id]
