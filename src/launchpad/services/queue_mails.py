"""Tells by mail what becomes of a launch whose owner need not sit in front of it: that it starts, or never will."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.admission import Decision
from ..domain.environments import Environment
from ..domain.instances import Instance, State
from ..domain.sizes import describe_bytes, describe_cpus
from ..domain.users import User
from ..mail.messages import notice
from ..settings import Settings
from .mailing import MailQueue

OF_USE = timedelta(days=1)  # a mail that could not be sent by then is given up


class QueueMails:
    """Mails are queued in the transaction of what they tell; `wake` after it."""

    def __init__(self, settings: Settings, mail: MailQueue, catalogue: Mapping[str, Environment]) -> None:
        self._settings = settings
        self._outgoing = mail
        self._catalogue = catalogue

    async def starts(self, db: AsyncConnection, instance: Instance, owner: User, now: datetime) -> None:
        """Its turn has come. Who waited for moments only is still there, and gets no mail."""
        waited = now - instance.created_at
        if waited < timedelta(minutes=self._settings.queue.mail_after_minutes):
            return
        title = self._title(instance)
        await self._queue(
            db,
            owner,
            f"{title} is starting",
            [
                f"{title} with {_size(instance)}, which you launched {_ago(waited)} ago, is starting now.",
                f"Open it: {self._settings.public_url}/instances/{instance.id}/open",
            ],
            f"It runs for {instance.limits.days} day{'' if instance.limits.days == 1 else 's'} from now. If you no "
            "longer need it, stop it on your dashboard: others may be waiting.",
            now,
        )

    async def dropped(self, db: AsyncConnection, decision: Decision, owner: User, now: datetime) -> None:
        """It has left the queue without a start."""
        instance = decision.instance
        title, waited = self._title(instance), now - instance.created_at
        if decision.ends_as is State.EXPIRED:
            why = "You have not visited the platform for a while, so it is assumed that you no longer need it."
        else:
            why = f"The reason: {decision.reason}."
        await self._queue(
            db,
            owner,
            f"{title} was removed from the queue",
            [
                f"{title} with {_size(instance)}, which you launched {_ago(waited)} ago, was still queued and has been "
                f"removed from the queue. {why}",
                f"Launch it again: {self._settings.public_url}/instances/{instance.id}/open",
            ],
            "Nothing was lost: it had not started. A visit to your dashboard keeps a launch in the queue.",
            now,
        )

    async def _queue(
        self, db: AsyncConnection, owner: User, subject: str, lines: list[str], small: str, now: datetime
    ) -> None:
        settings = self._settings
        message = notice(
            to=owner.email,
            subject=subject,
            lines=lines,
            small=[small],
            from_name=settings.mail.from_name,
            from_address=settings.mail.from_address,
            sent_at=now,
            help_url=settings.help_url,
            help_contact=settings.help_contact,
        )
        await self._outgoing.add(db, message, now, now + OF_USE)

    def wake(self) -> None:
        """To be called after the transaction."""
        self._outgoing.wake()

    def _title(self, instance: Instance) -> str:
        environment = self._catalogue.get(instance.environment)
        return environment.title if environment else instance.environment


def _size(instance: Instance) -> str:
    return f"{describe_bytes(instance.limits.memory_bytes)} and {describe_cpus(instance.limits.cpus)}"


def _ago(waited: timedelta) -> str:
    minutes = int(waited / timedelta(minutes=1))
    number, unit = (minutes, "minute") if minutes < 120 else (minutes // 60, "hour")
    return f"{number} {unit}{'' if number == 1 else 's'}"
