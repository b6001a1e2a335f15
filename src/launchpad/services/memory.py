"""Looks after the memory of running instances: the order of ends, what was ended, who is warned, what was raised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from email.message import EmailMessage

from ..domain.environments import Environment
from ..domain.instances import Instance, State
from ..domain.memory import NEARLY_OUT, is_nearly_out, use_in_words
from ..domain.sizes import describe_bytes
from ..domain.users import User
from ..mail.messages import notice
from ..settings import Settings
from ..store import audit, instances, users
from ..store.database import Database
from .audit import SYSTEM
from .background import Loop, periodic
from .end_recorder import names
from .live.instances import LiveInstances
from .live.usage import UsageSampler
from .mailing import MailQueue
from .memory_rescue import RAISED, MemoryRescue
from .out_of_memory import ACTION as ENDED
from .out_of_memory import OutOfMemory

LOOK_SECONDS = 3.0
LATE_AFTER_SECONDS = 60.0
ALL = 1_000_000  # live instances are never so many
OF_USE = timedelta(hours=1)  # a mail that could not be sent by then is given up
WARNED = "instance.memory_warned"  # in the audit
PERCENT = round(NEARLY_OUT * 100)


class MemoryService:
    """One pass every few seconds, in the process that owns the work."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        live: LiveInstances,
        usage: UsageSampler,
        mail: MailQueue,
        catalogue: Mapping[str, Environment],
        deaths: OutOfMemory,
        rescue: MemoryRescue,
    ) -> None:
        self._database = database
        self._settings = settings
        self._live = live
        self._usage = usage
        self._outgoing = mail
        self._catalogue = catalogue
        self._deaths = deaths
        self._rescue = rescue
        self._nearly_out: dict[str, float] = {}  # since which sample, by the instances' ids

    def loop(self, now: Callable[[], datetime]) -> Loop:
        return periodic(
            "memory",
            lambda: self.tend(now()),
            every_seconds=LOOK_SECONDS,
            late_after_seconds=LATE_AFTER_SECONDS,
            longest_retry_seconds=LOOK_SECONDS,
        )

    async def tend(self, now: datetime) -> None:
        """One pass.

        Raises:
            EngineUnavailable: nothing can be said, and nobody was warned.
        """
        await self._deaths.look()
        running = [one for one in await self._live.of_everyone(limit=ALL) if one.state is State.RUNNING]
        await self._warn(running, now)
        await self._rescue.follow(running, now)

    async def last_day(self, now: datetime) -> dict[str, int]:
        """How often programs were ended for lack of memory, owners warned, and memory raised, in the last day."""
        since = now - timedelta(days=1)
        async with self._database.reading() as db:
            counted = await audit.count_since(db, (ENDED, WARNED, RAISED), since)
        return {"ended": counted[ENDED], "warned": counted[WARNED], "raised": counted[RAISED]}

    async def _warn(self, running: Sequence[Instance], now: datetime) -> None:
        """Those that were nearly out of memory at two samples in a row: what is over at once is no reason to write."""
        before, self._nearly_out = self._nearly_out, {}
        for one in running:
            sample = self._usage.latest(one.id)
            used = sample.usage.memory_bytes if sample is not None else 0
            if sample is None or one.is_frozen or not is_nearly_out(used, one.limits.memory_bytes):
                continue
            since = before.get(one.id, sample.at)
            self._nearly_out[one.id] = since
            if sample.at > since and one.memory_warned_at is None:
                await self._warn_of(one, used, now)

    async def _warn_of(self, instance: Instance, used_bytes: int, now: datetime) -> None:
        """Once for each size: the note and the mail are one transaction."""
        async with self._database.transaction() as db:
            there = await instances.by_id(db, instance.id)
            owner = await users.by_id(db, instance.owner_id)
            if there is None or owner is None or there.state is not State.RUNNING or there.memory_warned_at is not None:
                return
            if there.limits.memory_bytes != instance.limits.memory_bytes:
                return
            await instances.note(db, there.id, memory_warned_at=now)
            held = use_in_words(used_bytes, there.limits.memory_bytes)
            await audit.add(
                db,
                at=now,
                actor=SYSTEM.name,
                client=SYSTEM.client,
                action=WARNED,
                subject=there.id,
                details={**await names(db, there), "memory": held},
            )
            await self._outgoing.add(db, self._letter(owner, there, held, now), now, now + OF_USE)
        self._outgoing.wake()

    def _letter(self, owner: User, instance: Instance, held: str, now: datetime) -> EmailMessage:
        settings = self._settings
        environment = self._catalogue.get(instance.environment)
        title = environment.title if environment else instance.environment
        return notice(
            to=owner.email,
            subject=f"{title} is nearly out of memory",
            lines=[
                f"{title} uses {held}, more than {PERCENT} %. When its memory is full, its largest program is ended, "
                "and what that has not saved is lost.",
                "You can give it more memory now, without stopping anything, on your dashboard: "
                f"{settings.public_url}/dashboard#instance-{instance.id}",
            ],
            small=[f"This is said once for {describe_bytes(instance.limits.memory_bytes)} of memory."],
            from_name=settings.mail.from_name,
            from_address=settings.mail.from_address,
            sent_at=now,
            help_url=settings.help_url,
            help_contact=settings.help_contact,
        )
