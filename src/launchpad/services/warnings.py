"""Warns owners, by mail, before their instances end, for whichever reason; several together in one mail."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, tzinfo
from email.message import EmailMessage
from typing import Protocol

from ..domain.announcements import Announcement
from ..domain.environments import Environment
from ..domain.instances import Instance, State
from ..domain.sizes import describe_minutes
from ..domain.times import short, zone_of
from ..domain.users import User
from ..domain.warnings import Ending, EndKind, IdleEnd, Warning, warning_of
from ..mail.messages import EndNotice, ends
from ..settings import Settings
from ..store import announcements, instances, users
from ..store import warnings as store
from ..store.database import Database
from .background import Loop, periodic
from .clock_guard import ClockGuard
from .extension_links import ExtensionLinks, Link
from .mailing import MailQueue

LOOK_SECONDS = 30.0
LATE_AFTER_SECONDS = 300.0


class IdleEnds(Protocol):
    """What is asked of the idle policy."""

    def idle_ends(self) -> Mapping[str, IdleEnd]:
        """When it ends instances that are idle now, by their ids."""
        ...


class WarningService:
    def __init__(
        self,
        database: Database,
        settings: Settings,
        mail: MailQueue,
        links: ExtensionLinks,
        catalogue: Mapping[str, Environment],
        idle: IdleEnds,
        clock: ClockGuard,
        longest_frozen: timedelta | None = None,
    ) -> None:
        """`longest_frozen`: how long an instance may stand still; None: until its own end."""
        self._longest_frozen = longest_frozen
        self._database = database
        self._settings = settings
        self._outgoing = mail
        self._links = links
        self._catalogue = catalogue
        self._idle = idle
        self._clock = clock
        self._leads = [timedelta(hours=hours) for hours in settings.ends.warn_hours_before]

    def loop(self, now: Callable[[], datetime]) -> Loop:
        return periodic(
            "warnings",
            lambda: self.warn(now()),
            every_seconds=LOOK_SECONDS,
            late_after_seconds=LATE_AFTER_SECONDS,
            longest_retry_seconds=LOOK_SECONDS,
        )

    async def sent_since(self, at: datetime) -> dict[EndKind, int]:
        """How many warnings were sent since then, by the kind of end; at most the last month is known."""
        async with self._database.reading() as db:
            return await store.count_since(db, at)

    async def warn(self, now: datetime) -> int:
        """Warns everybody who is to be warned now; returns how many mails were queued.

        A warning and its mail are recorded in one transaction: nobody is warned twice, and nobody is forgotten.
        """
        if not self._leads:
            return 0
        idle = self._idle.idle_ends()
        async with self._database.reading() as db:
            if not self._clock.believes(await self._clock.look(db, now)):
                return 0  # nothing ends by a clock that jumped
            running = await instances.in_states(db, State.STARTING, State.RUNNING)
            owners = await users.by_ids(db, {one.owner_id for one in running})
            sent = await store.of_ends_after(db, now)
            announced = await announcements.not_over(db, now)
        by_owner: dict[str, list[Instance]] = defaultdict(list)
        for instance in running:
            by_owner[instance.owner_id].append(instance)
        warned = 0
        for owner_id, theirs in by_owner.items():
            owner = owners.get(owner_id)
            endings = [
                ending
                for one in theirs
                for ending in _endings(one, idle.get(one.id), one.frozen_until(self._longest_frozen), announced, now)
            ]
            warning = warning_of(endings, self._leads, sent, now)
            if owner is None or not owner.is_active or warning is None:
                continue
            message = self._letter(owner, {one.id: one for one in theirs}, warning, idle, now)
            useful_until = min(one.ends_at for one in warning.endings)
            async with self._database.transaction() as db:
                await store.add(db, warning.sent, now)
                await self._outgoing.add(db, message, now, useful_until)
            self._outgoing.wake()
            warned += 1
        return warned

    def _letter(
        self,
        owner: User,
        theirs: Mapping[str, Instance],
        warning: Warning,
        idle: Mapping[str, IdleEnd],
        now: datetime,
    ) -> EmailMessage:
        zone = zone_of(owner.time_zone)
        by_instance: dict[str, list[Ending]] = defaultdict(list)
        for ending in warning.endings:
            by_instance[ending.instance_id].append(ending)
        notices = []
        for instance_id, endings in by_instance.items():
            instance = theirs[instance_id]
            link = self._link(instance, endings)
            notices.append(
                EndNotice(
                    self._title(instance),
                    tuple(self._line(instance, one, idle.get(instance_id), zone) for one in endings),
                    self._links.url(link) if link is not None else "",
                    f"{'Keep' if link is not None and link.idle_ends_at else 'Extend'} {self._title(instance)}",
                )
            )
        first = warning.endings[0]
        when = short(first.ends_at, zone)
        if len(notices) == 1:
            freezes = first.kind is EndKind.IDLE and (end := idle.get(first.instance_id)) is not None and end.freezes
            subject = f"{notices[0].title} {'is frozen' if freezes else 'ends'} on {when}"
        else:
            subject = f"{len(notices)} instances end soon, the first on {when}"
        return ends(
            to=owner.email,
            subject=subject,
            notices=notices,
            time_zone=owner.time_zone,
            public_url=self._settings.public_url,
            from_name=self._settings.mail.from_name,
            from_address=self._settings.mail.from_address,
            sent_at=now,
            help_url=self._settings.help_url,
            help_contact=self._settings.help_contact,
        )

    def _link(self, instance: Instance, endings: list[Ending]) -> Link | None:
        """None where nothing can put the end off, as of a maintenance. An extension puts off an idle end, too."""
        if any(one.kind is EndKind.EXPIRY for one in endings):
            return Link(instance.id, instance.expires_at)
        idle = next((one.ends_at for one in endings if one.kind is EndKind.IDLE), None)
        return Link(instance.id, instance.expires_at, idle) if idle is not None else None

    def _title(self, instance: Instance) -> str:
        environment = self._catalogue.get(instance.environment)
        return environment.title if environment else instance.environment

    def _line(self, instance: Instance, ending: Ending, idle: IdleEnd | None, zone: tzinfo) -> str:
        when = short(ending.ends_at, zone)
        if ending.kind is EndKind.MAINTENANCE:
            return f"Stops on {when} for maintenance: {ending.detail} Save your work before. Files are kept."
        if ending.kind is EndKind.IDLE:
            since = short(idle.idle_since, zone) if idle is not None else ""
            verb = "Is frozen" if idle is not None and idle.freezes else "Stops"
            return f"{verb} on {when} unless it is used: idle since {since}. Files are kept."
        if ending.kind is EndKind.FROZEN:
            since = short(instance.frozen_at, zone) if instance.frozen_at is not None else ""
            return (
                f"Stops on {when} unless it is opened before, and what it holds in memory is lost: "
                f"frozen since {since}, and no longer is allowed. Files are kept."
            )
        if instance.has_grace:
            return (
                f"Its time was up, and it was still working, so it keeps running until {when}, at a low share of the "
                "processors. Files are kept."
            )
        grace = self._settings.ends.grace_minutes
        rest = f" If it is still working then, it gets up to {describe_minutes(grace)} more." if grace else ""
        return f"Expires on {when}. Running code will be stopped; files are kept.{rest}"


def _endings(
    instance: Instance,
    idle: IdleEnd | None,
    frozen_until: datetime | None,
    announced: list[Announcement],
    now: datetime,
) -> list[Ending]:
    """The ends of an instance that are to come."""
    known = None if instance.has_grace else instance.end_known_since
    found = [Ending(instance.id, EndKind.EXPIRY, instance.ends_at, known)]
    if idle is not None and idle.ends_at < instance.ends_at:
        found.append(Ending(instance.id, EndKind.IDLE, idle.ends_at, idle.idle_since))
    if frozen_until is not None and frozen_until < instance.ends_at:
        found.append(Ending(instance.id, EndKind.FROZEN, frozen_until, instance.frozen_at))
    for one in announced:
        at = one.stop_instances_at
        if at is not None and one.is_maintenance_to_come(now) and at < instance.ends_at:
            found.append(Ending(instance.id, EndKind.MAINTENANCE, at, None, _sentence(one.text)))
    return found


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
