"""The read models of one process, together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...domain.environments import Environment
from ...domain.instances import Instance, State, shortages
from ...runtime.base import Runtime
from ...storage.base import Homes
from ...store.database import Database
from ..images import ImageService
from .announcements import LiveAnnouncements
from .ended import EndedInstances
from .engine import LiveHost, LiveImages
from .entrances import Entrances
from .homes import LiveHomes
from .instances import LiveInstances
from .measured import MeasuredHomes
from .signed_in import SignedInPeople
from .usage import UsageSampler


@dataclass(frozen=True)
class Live:
    """The read models of one process.

    Attributes:
        instances: live ones, by id and by owner; their queue, what they have reserved, how many there are.
        ended: each owner's latest ended ones.
        signed_in: who is behind a login cookie or a personal token.
        entrances: what an instance cookie opens.
        host: the engine's host, and whether the engine answers.
        images: what each environment would start.
        homes: what homes take up, as this process has heard or looked at last.
        measured: what is kept of homes: what the process that owns the work has measured.
        usage: what running instances use.
        announcements: what administrators tell everybody.
    """

    instances: LiveInstances
    ended: EndedInstances
    signed_in: SignedInPeople
    entrances: Entrances
    host: LiveHost
    images: LiveImages
    homes: LiveHomes
    measured: MeasuredHomes
    usage: UsageSampler
    announcements: LiveAnnouncements

    @classmethod
    def over(
        cls,
        database: Database,
        runtime: Runtime,
        homes: Homes,
        images: ImageService,
        catalogue: Mapping[str, Environment],
    ) -> Live:
        """Over the real parts. Nothing is read before it is asked for."""
        live = LiveInstances(database, database.changes)
        return cls(
            instances=live,
            ended=EndedInstances(database, database.changes, live),
            signed_in=SignedInPeople(database, database.changes),
            entrances=Entrances(database, database.changes),
            host=LiveHost(runtime),
            images=LiveImages(images, catalogue),
            homes=LiveHomes(homes),
            measured=MeasuredHomes(database, database.changes),
            usage=UsageSampler(runtime),
            announcements=LiveAnnouncements(database, database.changes),
        )

    async def lacking(self, instance: Instance, environment: Environment | None, username: str) -> tuple[str, ...]:
        """What a running instance lacks now, in its owner's words."""
        if instance.state is State.RUNNING and environment is not None:
            await self.usage.of(instance)
            measured = await self.measured.of(instance.owner_id)
            if measured is not None:
                self.homes.adopt(username, measured)
        return self.lacked(instance, environment, username)

    def lacked(self, instance: Instance, environment: Environment | None, username: str) -> tuple[str, ...]:
        """As `lacking`, from what is known already."""
        if instance.state is not State.RUNNING or environment is None:
            return ()
        sample, home = self.usage.latest(instance.id), self.homes.latest(username)
        pids = sample.usage.pids if sample is not None else 0
        used, size = (sample.usage.memory_bytes if sample is not None else 0), instance.limits.memory_bytes
        return shortages(pids, environment.pids_limit, home.used_bytes, home.limit_bytes, home.free_bytes, used, size)

    async def aclose(self) -> None:
        """Gives up what is being asked of the engine, the helper and the disk."""
        await self.host.aclose()
        await self.images.aclose()
        await self.homes.aclose()
        await self.usage.aclose()
