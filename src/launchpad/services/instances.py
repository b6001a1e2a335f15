"""What users and administrators do with instances: launch, look, stop, extend, forget.

Here intents are committed; `runner.py` carries them out. No transaction waits for the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.announcements import Announcement, maintenance_now
from ..domain.ends import STOPPED_BY_ADMIN, STOPPED_BY_OWNER
from ..domain.environments import Environment
from ..domain.instances import LIVE, Instance, Stage, State, extended_until
from ..domain.naming import new_id
from ..domain.paging import Place
from ..domain.sizes import describe_bytes, describe_cpus
from ..domain.users import User
from ..errors import Conflict, Forbidden, InvalidInput, NotFound
from ..settings import Settings
from ..store import activity_latest, announcements, audit, instance_history, instance_logs, instances, leaving, users
from ..store.database import Database
from .admission import AdmissionService
from .audit import Actor
from .end_recorder import names
from .listings import newest_first
from .offers import OfferService
from .person_notes import PersonNoted
from .runner import InstanceRunner


@dataclass(frozen=True)
class LaunchRequest:
    """What a launch asks for; what is left out takes the default."""

    environment: str
    memory_bytes: int | None = None
    cpus: float | None = None
    storage_bytes: int | None = None
    days: int | None = None
    safe_mode: bool = False


class InstanceService:
    def __init__(
        self,
        database: Database,
        settings: Settings,
        offers: OfferService,
        runner: InstanceRunner,
        admission: AdmissionService,
        catalogue: Mapping[str, Environment],
        activity: PersonNoted,
    ) -> None:
        self._activity = activity
        self._database = database
        self._settings = settings
        self._offers = offers
        self._runner = runner
        self._admission = admission
        self._catalogue = catalogue

    async def launch(self, owner: User, request: LaunchRequest, actor: Actor, now: datetime) -> Instance:
        """Commits a launch and returns at once; the instance is `starting`, or `queued` when there is no room now.

        Clicked twice it is one instance: as long as the owner has as many live ones of that environment as
        `limits.instances_per_environment` allows, the newest of them is the answer.

        Raises:
            InvalidInput: the environment does not exist, or a size is not offered; with the fields.
            QuotaExceeded: it goes over the owner's quota, or beyond what the server has at all.
            Forbidden: the owner was suspended since this was asked for.
            Conflict: one is there already, but of another size than asked for.
            EngineUnavailable, ImageMissing: nothing could be started now; nothing was recorded.
        """
        environment = self._catalogue.get(request.environment)
        if environment is None:
            known = ", ".join(self._catalogue)
            raise InvalidInput(
                f"There is no environment “{request.environment[:60]}”. Choose one of: {known}.",
                fields={"environment": f"choose one of {known}"},
            )
        offer = await self._offers.for_environment(environment.name)
        limits, refused = offer.choose(request.memory_bytes, request.cpus, request.storage_bytes, request.days)
        if refused:
            raise InvalidInput("That size is not offered.", fields=refused)
        server = await self._admission.server()
        image = await self._runner.image_for(environment)
        async with self._database.transaction() as db:
            owner = await self._still_active(db, owner)
            if (maintenance := maintenance_now(await announcements.not_over(db, now), now)) is not None:
                raise _maintained(maintenance)
            live = await instances.of_owner(db, owner.id, states=LIVE - {State.STOPPING})
            same = [instance for instance in live if instance.environment == environment.name]
            if len(same) >= self._settings.limits.instances_per_environment:
                return _the_one_there_is(same[0], environment, request)
            waits_for = await self._admission.on_launch(db, owner, limits, server, now)
            starts_now = waits_for is None
            instance = Instance(
                id=new_id(),
                owner_id=owner.id,
                environment=environment.name,
                state=State.STARTING if starts_now else State.QUEUED,
                stage=waits_for or Stage.HOME,
                reason=None,
                limits=limits,
                created_at=now,
                expires_at=now + (timedelta(days=limits.days) if starts_now else self._settings.queue.drop_after),
                stand_in=image.stand_in,
                safe_mode=request.safe_mode,
                admitted_at=now if starts_now else None,
            )
            await instances.add(db, instance)
            await audit.add(
                db,
                at=now,
                actor=actor.name,
                client=actor.client,
                action="instance.launched",
                subject=instance.id,
                details={
                    **await names(db, instance),
                    "memory": describe_bytes(limits.memory_bytes),
                    "cpus": limits.cpus,
                    "days": limits.days,
                    "state": instance.state,
                    **({"safe_mode": True} if request.safe_mode else {}),
                },
                owner_id=actor.on(owner.id),
            )
        if starts_now:
            self._runner.start(instance.id)
        return instance

    async def _still_active(self, db: AsyncConnection, owner: User) -> User:
        """The owner as of now: while the engine was asked, an administrator may have changed them."""
        there = await users.by_id(db, owner.id)
        if there is None or not there.is_active:
            raise Forbidden("Your account is suspended, so nothing can be launched. Ask your administrator.")
        left = await leaving.of(db, owner.id)
        if left is not None and left.home_removed_at is not None:
            raise Conflict("Your home folder is archived and must be restored first. Please ask your administrator.")
        return there

    async def of_owner(
        self, owner: User, *, with_ended: bool = False, limit: int = 100, before: Place | None = None
    ) -> list[Instance]:
        """Newest first."""
        async with self._database.reading() as db:
            found = await instances.of_owner(db, owner.id, limit=limit, before=before)
            if with_ended:
                found += await instance_history.newest(db, owner.id, limit=limit, before=before)
        return newest_first(found, limit)

    async def of_everyone(
        self, *, with_ended: bool = False, limit: int = 100, before: Place | None = None
    ) -> list[Instance]:
        """Newest first; of the ended ones also those that their owners have taken off their lists."""
        async with self._database.reading() as db:
            found = await instances.page(db, limit=limit, before=before)
            if with_ended:
                found += await instance_history.newest(db, limit=limit, before=before)
        return newest_first(found, limit)

    async def ended(
        self, owner: User | None = None, *, limit: int = 100, before: Place | None = None
    ) -> list[Instance]:
        """Those on the owner's list that have ended (None: everyone's), the latest end first."""
        async with self._database.reading() as db:
            return await instance_history.latest(db, owner.id if owner else None, limit=limit, before=before)

    async def get(self, instance_id: str, owner: User) -> Instance:
        """Raises NotFound for somebody else's as for one that never was, or was taken off the list."""
        async with self._database.reading() as db:
            there = await instances.owned(db, instance_id, owner.id)
            return _found(there or await instance_history.owned(db, instance_id, owner.id))

    async def get_any(self, instance_id: str) -> Instance:
        """Anybody's, for administrators."""
        async with self._database.reading() as db:
            return _found(await _any(db, instance_id))

    async def names(self, instance_id: str) -> dict[str, str]:
        """What it is called in the audit, by `environment` and `owner`; nothing for one that never was."""
        async with self._database.reading() as db:
            found = await _any(db, instance_id)
            return await names(db, found) if found else {}

    async def count_by_state(self) -> dict[State, int]:
        async with self._database.reading() as db:
            return await instances.count_by_state(db)

    async def queue_position(self, instance: Instance) -> int | None:
        """1 for the next to start; None when it does not queue."""
        if instance.state is not State.QUEUED:
            return None
        async with self._database.reading() as db:
            return await instances.queue_position(db, instance)

    async def stop(self, instance_id: str, owner: User, actor: Actor, now: datetime) -> Instance:
        """Ends an instance, giving the application its time to save. Stopping an ended one changes nothing."""
        return await self._stop(await self.get(instance_id, owner), STOPPED_BY_OWNER, actor, now)

    async def stop_any(self, instance_id: str, actor: Actor, now: datetime) -> Instance:
        return await self._stop(await self.get_any(instance_id), STOPPED_BY_ADMIN, actor, now)

    async def _stop(self, instance: Instance, reason: str, actor: Actor, now: datetime) -> Instance:
        await self._runner.end(instance, State.STOPPED, reason, now, actor=actor)
        return await self.get_any(instance.id)

    async def extend(
        self,
        instance_id: str,
        owner: User,
        days: int,
        actor: Actor,
        now: datetime,
        *,
        only_from: datetime | None = None,
        way: str | None = None,
    ) -> Instance:
        """Adds days, up to the longest duration offered, counted from now. It is an act of its owner in it, too.

        Args:
            only_from: only if that is still its end; else it is left as it is.
            way: how it was asked for, where that is not the usual way.

        Raises:
            InvalidInput: `days` is not one of the choices.
            Conflict: it has ended, runs as long as it may already, or its end is not `only_from` any more.
            QuotaExceeded: what its owner has live is more than they may have by now.
        """
        instance = await self.get(instance_id, owner)
        return await self._extend(instance, days, actor, now, owner=owner, only_from=only_from, way=way)

    async def extend_any(self, instance_id: str, days: int, actor: Actor, now: datetime) -> Instance:
        return await self._extend(await self.get_any(instance_id), days, actor, now)

    async def _extend(
        self,
        instance: Instance,
        days: int,
        actor: Actor,
        now: datetime,
        *,
        owner: User | None = None,
        only_from: datetime | None = None,
        way: str | None = None,
    ) -> Instance:
        _check_extensible(instance)
        offer = await self._offers.for_environment(instance.environment)
        if days not in offer.days:
            _, refused = offer.choose(days=days)
            raise InvalidInput("That duration is not offered.", fields=refused)
        async with self._database.transaction() as db:
            instance = _found(await instances.by_id(db, instance.id))
            _check_extensible(instance)  # it may have begun to end meanwhile
            if only_from is not None and instance.expires_at != only_from:
                raise Conflict("It was extended meanwhile, so nothing more was changed.")
            if owner is not None:
                await self._admission.on_extension(db, await self._still_active(db, owner), instance)
            until = extended_until(instance, days, max(offer.days), now)
            if until <= instance.expires_at:
                raise Conflict(f"It already runs until {instance.expires_at:%-d %B at %H:%M} UTC, the longest allowed.")
            if instance.passed_until is not None and until > instance.passed_until and await instances.queue_ids(db):
                raise Conflict(
                    "It was started before others who had waited for longer, since it ends before their turn. While "
                    f"they are queued it cannot be extended beyond {instance.passed_until:%-d %B at %H:%M} UTC."
                )
            await instances.note(db, instance.id, expires_at=until, extended_at=now)
            if owner is not None:
                await activity_latest.note_persons(db, {instance.id: now})
            await audit.add(
                db,
                at=now,
                actor=actor.name,
                client=actor.client,
                action="instance.extended",
                subject=instance.id,
                details={**await names(db, instance), "until": until.isoformat(), **({"by": way} if way else {})},
                owner_id=actor.on(instance.owner_id),
            )
        if owner is not None:
            self._activity.note_person(instance.id, now)
        return replace(instance, expires_at=until, extended_at=now)

    async def forget(self, instance_id: str, owner: User, now: datetime) -> None:
        """Takes an ended instance off its owner's list; the home stays, and so does its record in the history.

        Raises:
            Conflict: it lives.
        """
        instance = await self.get(instance_id, owner)
        if instance.is_live:
            raise Conflict("Stop it first; only an ended instance can be removed from the list.")
        async with self._database.transaction() as db:
            await instance_history.remove_from_list(db, instance_id, owner.id, now)
            await instance_logs.forget(db, instance_id)
            await instances.forget(db, instance_id, owner.id)


async def _any(db: AsyncConnection, instance_id: str) -> Instance | None:
    there = await instances.by_id(db, instance_id)
    if there is None and (record := await instance_history.by_id(db, instance_id)) is not None:
        return record.instance
    return there


def _found(instance: Instance | None) -> Instance:
    if instance is None:
        raise NotFound("There is no such instance.")
    return instance


def _maintained(announcement: Announcement) -> Conflict:
    until = announcement.shown_until
    when = f"until {until:%-d %B at %H:%M} UTC" if until else "now"
    return Conflict(f"Nothing can be launched {when}, because of maintenance: {announcement.text}")


def _check_extensible(instance: Instance) -> None:
    if instance.state not in (State.STARTING, State.RUNNING):
        raise Conflict("Only an instance that runs can be extended.")


def _the_one_there_is(instance: Instance, environment: Environment, request: LaunchRequest) -> Instance:
    asked = (request.memory_bytes, request.cpus, request.storage_bytes)
    has = (instance.limits.memory_bytes, instance.limits.cpus, instance.limits.storage_bytes)
    if any(want is not None and want != have for want, have in zip(asked, has, strict=True)):
        raise Conflict(
            f"You have a {environment.title} already, with {describe_bytes(instance.limits.memory_bytes)} and "
            f"{describe_cpus(instance.limits.cpus)}. Stop it first to launch one of another size."
        )
    if request.safe_mode and not instance.safe_mode:
        raise Conflict(f"You have a {environment.title} already, and not in safe mode. Stop it first.")
    return instance
