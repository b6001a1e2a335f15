"""Watches what instances write outside their homes, where the engine does not limit it: their own layer, /tmp in it.

Such files are gone with the instance, and until then they fill the disk of everybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from email.message import EmailMessage

from ..domain.environments import Environment
from ..domain.instances import Instance, State
from ..domain.sizes import describe_bytes
from ..domain.users import User
from ..mail.messages import notice
from ..runtime.base import Runtime
from ..settings import Settings
from ..store import audit, instances, users
from ..store.database import Database
from .audit import SYSTEM
from .background import Loop, periodic
from .end_recorder import names
from .live.instances import LiveInstances
from .mailing import MailQueue
from .runner import InstanceRunner

LOOK_SECONDS = 600.0
LATE_AFTER_SECONDS = 3 * LOOK_SECONDS
ALL = 1_000_000  # live instances are never so many
CALM = 0.8  # of the limit: below, it is well again, and may be told anew
OF_USE = timedelta(hours=6)  # a mail that could not be sent by then is given up
WARNED = "instance.layer_warned"  # in the audit


class LayerWatch:
    """One pass every ten minutes, in the process that owns the work."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        runtime: Runtime,
        live: LiveInstances,
        mail: MailQueue,
        catalogue: Mapping[str, Environment],
        runner: InstanceRunner,
    ) -> None:
        self._database = database
        self._settings = settings
        self._runtime = runtime
        self._live = live
        self._outgoing = mail
        self._catalogue = catalogue
        self._runner = runner
        self._limit = settings.engine.layer_limit
        self._stops = settings.engine.layer_action == "stop"

    def loop(self, now: Callable[[], datetime]) -> Loop:
        return periodic(
            "layers",
            lambda: self.look(now()),
            every_seconds=LOOK_SECONDS,
            late_after_seconds=LATE_AFTER_SECONDS,
            first_after_seconds=LOOK_SECONDS / 10,
            longest_retry_seconds=LOOK_SECONDS,
        )

    async def look(self, now: datetime) -> None:
        """Tells owners whose instances have written too much, once each, and stops them if they are to be.

        Raises:
            EngineUnavailable: nothing can be said.
        """
        running = [one for one in await self._live.of_everyone(limit=ALL) if one.state is State.RUNNING]
        if not running:
            return
        written = await self._runtime.written_all()
        for one in running:
            found = written.get(one.id)
            if found is None:
                continue
            if found >= self._limit and one.written_bytes is None:
                await self._warn(one, found, now)
            elif found >= self._limit and self._stops:
                reason = (
                    f"it had written {describe_bytes(found)} outside your home folder, where at most "
                    f"{describe_bytes(self._limit)} may be"
                )
                await self._runner.end(one, State.STOPPED, reason, now, actor=SYSTEM)
            elif one.written_bytes is not None:
                await self._note(one, None if found < CALM * self._limit else found)

    async def _note(self, instance: Instance, written_bytes: int | None) -> None:
        if written_bytes == instance.written_bytes:
            return
        async with self._database.transaction() as db:
            await instances.note(db, instance.id, written_bytes=written_bytes)

    async def _warn(self, instance: Instance, written_bytes: int, now: datetime) -> None:
        """The note and the mail are one transaction."""
        async with self._database.transaction() as db:
            there = await instances.by_id(db, instance.id)
            owner = await users.by_id(db, instance.owner_id)
            if there is None or owner is None or there.state is not State.RUNNING or there.written_bytes is not None:
                return
            await instances.note(db, there.id, written_bytes=written_bytes)
            await audit.add(
                db,
                at=now,
                actor=SYSTEM.name,
                client=SYSTEM.client,
                action=WARNED,
                subject=there.id,
                details={**await names(db, there), "written": describe_bytes(written_bytes)},
            )
            await self._outgoing.add(db, self._letter(owner, there, written_bytes, now), now, now + OF_USE)
        self._outgoing.wake()

    def _letter(self, owner: User, instance: Instance, written_bytes: int, now: datetime) -> EmailMessage:
        settings = self._settings
        environment = self._catalogue.get(instance.environment)
        title = environment.title if environment else instance.environment
        held, limit = describe_bytes(written_bytes), describe_bytes(self._limit)
        what = (
            f"If it still holds more than {limit} in ten minutes, {title} is stopped."
            if self._stops
            else "It fills the server's disk, which others need, too."
        )
        return notice(
            to=owner.email,
            subject=f"{title} has written {held} outside your home folder",
            lines=[
                f"{title} has written {held} outside your home folder, in /tmp for example; at most {limit} may be "
                f"there. {what}",
                "What is there is lost when the instance ends. Move what you need into your home folder, and delete "
                "the rest: “du -xh --max-depth=2 /tmp /var 2>/dev/null | sort -h | tail” shows what it is.",
            ],
            small=[f"Your instances: {settings.dashboard_url}#instance-{instance.id}"],
            from_name=settings.mail.from_name,
            from_address=settings.mail.from_address,
            sent_at=now,
            help_url=settings.help_url,
            help_contact=settings.help_contact,
        )
