"""Extending an instance by a link from a mail, signed in or not. What a person does to it is checked here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ..domain.instances import Instance, State
from ..domain.limits import Offer
from ..domain.users import User
from ..errors import Conflict, InvalidInput, NotFound
from ..store import activity_latest, audit, instance_history, instances, users
from ..store.database import Database
from .audit import Actor
from .end_recorder import names
from .extension_links import ExtensionLinks, Link, Showing, is_by_hand
from .instances import InstanceService
from .offers import OfferService
from .person_notes import PersonNoted
from .warnings import IdleEnds

NO_LINK = "This link is not complete, or not from here. Copy the whole link from the e-mail."
ENDED = "This instance has ended, so it cannot be extended any more. Your files are kept."
BY_LINK = "link in an e-mail"


class LinkState(StrEnum):
    """`OPEN`: it can be used. `USED`: the end that it is about has been moved. `ENDED`: its instance has ended.

    `SUSPENDED`: its owner is. `FROZEN`: the idle end that it puts off has come, and the instance stands still.
    """

    OPEN = "open"
    USED = "used"
    ENDED = "ended"
    SUSPENDED = "suspended"
    FROZEN = "frozen"


@dataclass(frozen=True)
class LinkOutlook:
    """What a link would do now.

    Attributes:
        keeps: it puts off an idle end, and leaves the expiry as it is.
        offer: the durations; None where its environment is gone.
    """

    link: Link
    state: LinkState
    instance: Instance
    owner: User
    keeps: bool
    offer: Offer | None


class ExtensionService:
    """`activity` is told that a person wants an instance; that puts off its idle end."""

    def __init__(
        self,
        database: Database,
        links: ExtensionLinks,
        instances: InstanceService,
        offers: OfferService,
        idle: IdleEnds,
        activity: PersonNoted,
    ) -> None:
        self._database = database
        self._links = links
        self._instances = instances
        self._offers = offers
        self._idle = idle
        self._activity = activity

    def show(self, token: str, now: datetime) -> Showing:
        """A new showing of the page behind a link."""
        return self._links.show(token, now)

    async def outlook(self, token: str, now: datetime) -> LinkOutlook:
        """What a link would do; changes nothing.

        Raises:
            NotFound: it is no link of ours.
        """
        link = self._links.read(token)
        if link is None:
            raise NotFound(NO_LINK)
        async with self._database.reading() as db:
            instance = await instances.by_id(db, link.instance_id)
            if instance is None:
                record = await instance_history.by_id(db, link.instance_id)
                instance = record.instance if record is not None else None
            owner = await users.by_id(db, instance.owner_id) if instance is not None else None
        if instance is None or owner is None:
            raise NotFound(NO_LINK)
        offer = await self._offers.for_known(instance.environment)
        return LinkOutlook(link, self._state(link, instance, owner, now), instance, owner, self._keeps(link), offer)

    def _state(self, link: Link, instance: Instance, owner: User, now: datetime) -> LinkState:
        if instance.state not in (State.STARTING, State.RUNNING) or now >= instance.ends_at:
            return LinkState.ENDED
        if not owner.is_active:
            return LinkState.SUSPENDED
        if instance.expires_at != link.expires_at:
            return LinkState.USED
        if self._keeps(link):
            if instance.is_to_be_frozen:
                return LinkState.FROZEN
            there = self._idle.idle_ends().get(instance.id)
            return LinkState.OPEN if there is not None and there.ends_at == link.idle_ends_at else LinkState.USED
        return LinkState.OPEN

    def _keeps(self, link: Link) -> bool:
        return link.idle_ends_at is not None and link.idle_ends_at < link.expires_at

    async def use(
        self, token: str, *, days: int | None, mark: str, held: str, number: str, client: str, now: datetime
    ) -> Instance:
        """Moves the end that a link is about.

        Args:
            days: how long, one of the choices; of no account where only an idle end is put off.
            mark, held, number: what the form carried: whether it was sent by a person is told from these.
            client: the network address it came from.

        Raises:
            NotFound: it is no link of ours.
            InvalidInput: no person has done this, or that duration is not offered; nothing was changed.
            Conflict: it was used, or the instance has ended.
            QuotaExceeded: the owner may no longer use so much.
        """
        outlook = await self.outlook(token, now)
        _check(outlook)
        showing = self._links.shown(token, mark, now)
        if showing is None:
            raise InvalidInput("This page was open for too long. Try again.")
        if not is_by_hand(showing, held, number):
            text = "hold the button down until it is full, or type the number in digits"
            raise InvalidInput("Nothing was changed yet.", fields={"number": text})
        actor = Actor.of(outlook.owner, client)
        if outlook.keeps:
            return await self._keep(outlook, actor, now)
        if days is None:
            raise InvalidInput("Nothing was changed yet.", fields={"days": "choose how long"})
        return await self._instances.extend(
            outlook.instance.id, outlook.owner, days, actor, now, only_from=outlook.link.expires_at, way=BY_LINK
        )

    async def _keep(self, outlook: LinkOutlook, actor: Actor, now: datetime) -> Instance:
        instance = outlook.instance
        async with self._database.transaction() as db:
            there = await instances.by_id(db, instance.id)
            if there is None or there.state is not State.RUNNING:
                raise Conflict(ENDED)
            await activity_latest.note_persons(db, {instance.id: now})  # read again by whoever would end it
            await audit.add(
                db,
                at=now,
                actor=actor.name,
                client=actor.client,
                action="instance.kept",
                subject=instance.id,
                details={**await names(db, instance), "by": BY_LINK},
            )
        self._activity.note_person(instance.id, now)
        return instance


def _check(outlook: LinkOutlook) -> None:
    if outlook.state is LinkState.ENDED:
        raise Conflict(ENDED)
    if outlook.state is LinkState.SUSPENDED:
        raise Conflict("This account is suspended, so nothing can be extended. Ask your administrator.")
    if outlook.state is LinkState.FROZEN:
        raise Conflict("This instance is frozen by now. Open it, and it continues where it was.")
    if outlook.state is LinkState.USED:
        raise Conflict("This link was used already, or the instance was extended elsewhere. Nothing more was changed.")
