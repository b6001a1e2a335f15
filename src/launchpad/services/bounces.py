"""Takes reports of undelivered mail: from the sender's mailbox every few minutes, or one that is handed in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.mail import FailureKind
from ..errors import MailboxUnavailable
from ..mail.bounces import Bounce, read_bounces
from ..mail.mailbox import Letter, Mailbox, Mark
from ..store import audit, kv, users
from ..store.database import Database
from .background import Loop, periodic
from .mail_failures import keep

log = structlog.get_logger(__name__)

EVERY = timedelta(minutes=5)
# Mail servers try for up to five days (RFC 5321, 4.5.4.1) before they report that they gave up.
REPORTS_COME_WITHIN = timedelta(days=8)
STATE = "mail.bounces"
LATE_AFTER_SECONDS = 1800.0  # a mail server may be restarted without anybody being told


@dataclass(frozen=True)
class _State:
    """What is remembered of the mailbox between two looks, by whichever process looks next."""

    asked_at: str = ""
    validity: int = 0
    uid: int = 0
    problem: str | None = None

    @property
    def mark(self) -> Mark:
        return Mark(self.validity, self.uid)


class BounceService:
    """Only what is known to have been mailed is written down: anybody can send a mail that looks like a report."""

    def __init__(self, database: Database, mailbox: Mailbox | None) -> None:
        self._database = database
        self._mailbox = mailbox

    def loops(self, now: Callable[[], datetime]) -> list[Loop]:
        """One that looks into the mailbox, where there is one."""
        if self._mailbox is None:
            return []
        every = EVERY.total_seconds() + 1  # sooner, it would be nobody's turn
        return [
            periodic(
                "bounces",
                lambda: self.collect(now()),
                every_seconds=every,
                late_after_seconds=LATE_AFTER_SECONDS,
                retry_seconds=every,
                longest_retry_seconds=every,
            )
        ]

    async def collect(self, now: datetime, *, at_once: bool = False) -> int:
        """Looks into the mailbox, where one is set and nobody looked in the last minutes, or `at_once`.

        Reports about our mail are marked as read; everything else stays as it is.

        Returns:
            How many failures were written down.

        Raises:
            MailboxUnavailable: it could not be read; it is tried again in some minutes.
        """
        state = await self._turn(now, at_once) if self._mailbox is not None else None
        if self._mailbox is None or state is None:
            return 0
        try:
            batch = await self._mailbox.reports(state.mark)
            found = await asyncio.to_thread(_read, batch.letters)
            taken = []
            async with self._database.transaction() as db:
                for uid, bounces in found.items():
                    taken += [uid] * await _take(db, bounces, now)
                state = replace(state, validity=batch.mark.validity, uid=batch.mark.uid, problem=None)
                await _remember(db, state, now)
            await self._mailbox.mark_seen(batch, sorted(set(taken)))
        except MailboxUnavailable as error:
            async with self._database.transaction() as db:
                await _remember(db, replace(state, problem=error.detail), now)
            raise
        return len(taken)

    async def take(self, message: bytes, now: datetime) -> int:
        """Takes one message, as a mail server hands it over; returns how many failures were written down."""
        bounces = await asyncio.to_thread(read_bounces, message)
        async with self._database.transaction() as db:
            return await _take(db, bounces, now)

    async def problem(self) -> str | None:
        """Why the mailbox could not be read the last time, in our words; None: it could, or none is set."""
        if self._mailbox is None:
            return None
        async with self._database.reading() as db:
            return (await _state(db)).problem

    async def _turn(self, now: datetime, at_once: bool) -> _State | None:
        """What is remembered, for the one who may look now; a clock that was set back keeps nobody waiting."""
        async with self._database.transaction() as db:
            state = await _state(db)
            if not at_once and state.asked_at and timedelta() <= now - datetime.fromisoformat(state.asked_at) < EVERY:
                return None
            state = replace(state, asked_at=now.isoformat())
            await _remember(db, state, now)
        return state


def _read(letters: Iterable[Letter]) -> dict[int, list[Bounce]]:
    return {letter.uid: read_bounces(letter.content) for letter in letters}


async def _state(db: AsyncConnection) -> _State:
    return _State(**(await kv.get(db, STATE) or {}))


async def _remember(db: AsyncConnection, state: _State, now: datetime) -> None:
    await kv.put(db, STATE, asdict(state), now)


async def _take(db: AsyncConnection, bounces: Iterable[Bounce], now: datetime) -> int:
    taken = 0
    for bounce in bounces:
        for address in bounce.addresses:
            if await _was_mailed(db, address, now):
                await keep(db, address, FailureKind.BOUNCED, bounce.status, now)
                taken += 1
                break
        else:
            log.info("bounces.not_ours")
    return taken


async def _was_mailed(db: AsyncConnection, address: str, now: datetime) -> bool:
    """A user, or somebody to whom a code was sent: one who asked and was refused got no mail."""
    if await users.by_email(db, address) is not None:
        return True
    return await audit.concerned(db, "sign-in.asked", address, now - REPORTS_COME_WITHIN)
