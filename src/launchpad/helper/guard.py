"""What the portal may have done, held against the settings that the helper reads itself.

A launch is an order: who, what, how large. Everything that a container is made of comes from the helper's own settings
(`services.composer`), so a portal that somebody else has taken over cannot even name a mount, an image or a command.
What is left to be checked is whether the order fits this server, and whether the home is its owner's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from ..domain.instances import Address
from ..domain.snapshots import Cause, Snapshot
from ..errors import HelperRefused, HomeUnavailable
from ..runtime.base import ConnectionCutter, Container, Containers, HostFacts, Launches, LaunchOrder
from ..runtime.engine_spec import is_published
from ..settings import Settings
from ..storage import directories
from ..storage.base import DiskSpace, Homes, HomeUse
from ..storage.snapshots import Obstacle, Snapshots, SnapshotSummary, SnapshotUse

MEMORY_FLOOR_BYTES = 16 * 1024**2
CPUS_FLOOR = 0.01  # the engine's own; what it rounds to none has no limit at all


class Guard:
    """Implements `Launches`, `ConnectionCutter`, `HomeVerbs` and `SnapshotVerbs`: what is fit to be done is handed on.

    Args:
        settings: as the helper reads them itself.
        environments: the names of those that are offered.
        launches: what composes containers of orders.
    """

    def __init__(
        self,
        settings: Settings,
        environments: Collection[str],
        containers: Containers,
        launches: Launches,
        cutter: ConnectionCutter,
        homes: Homes,
        snapshots: Snapshots,
    ) -> None:
        self._settings = settings
        self._environments = environments
        self._containers = containers
        self._launches = launches
        self._cutter = cutter
        self._homes = homes
        self._snapshots = snapshots
        self._root = settings.homes.root

    # -- launches ----------------------------------------------------------------------------------------------------

    async def launch(self, order: LaunchOrder) -> Container:
        """As promised, of an order that fits.

        Raises:
            HelperRefused: it does not; the text names what.
            HomeUnavailable: the home is missing, or no directory.
        """
        if order.environment not in self._environments:
            raise _no("environment", "is not in the catalogue")
        self._check_size(order, await self._containers.host())
        self.username(order.username)
        owner = await asyncio.to_thread(self._owner_of, self._root / order.username)
        if owner != self.uid(order.uid):
            raise _no("username", "is a home folder that does not belong to this user")
        return await self._launches.launch(order)

    def _check_size(self, order: LaunchOrder, host: HostFacts) -> None:
        if not MEMORY_FLOOR_BYTES <= order.memory_bytes <= host.memory_bytes:
            raise _no("memory_bytes", "is outside the limits of this server")
        if not CPUS_FLOOR <= order.cpus <= host.cpus:
            raise _no("cpus", "is outside the limits of this server")

    def _owner_of(self, path: Path) -> int:
        """Whose a home is: what the disk says, not what was sent."""
        root = directories.open_root(path.parent)
        try:
            home = directories.open_home(root, path, None)
            if home is None:
                raise HomeUnavailable("Your home folder does not exist. Launch again to create it.")
            try:
                return os.fstat(home).st_uid
            finally:
                os.close(home)
        finally:
            os.close(root)

    # -- connections -------------------------------------------------------------------------------------------------

    async def cut(self, addresses: Sequence[Address]) -> None:
        """As promised, of instances' addresses and no others.

        Raises:
            HelperRefused: one of them cannot be an instance's.
        """
        if not all(is_published(self._settings.engine, address) for address in addresses):
            raise _no("addresses", "contain one that is not an instance's")
        await self._cutter.cut(addresses)

    async def can_cut(self) -> bool:
        return await self._cutter.can_cut()

    # -- homes -------------------------------------------------------------------------------------------------------

    async def homes_check(self) -> None:
        await self._homes.check()

    async def homes_enforce_limits(self) -> bool:
        return self._homes.enforces_limits

    async def homes_owners(self) -> list[int]:
        return sorted(await self._homes.owners())

    async def home_exists(self, username: str) -> bool:
        return await self._homes.exists(self.username(username))

    async def home_prepare(self, username: str, uid: int, limit_bytes: int | None) -> None:
        await self._homes.prepare(self.username(username), self.uid(uid), limit_bytes)

    async def home_use(self, username: str) -> HomeUse:
        return await self._homes.use(self.username(username))

    async def homes_disk(self) -> DiskSpace:
        return await self._homes.disk()

    async def home_measure(self, username: str) -> HomeUse:
        """As promised, of a home of this platform's; a folder beside them, of somebody else on this server, is not.

        Raises:
            HelperRefused: it is none.
        """
        name = self.username(username)
        if await self._homes.exists(name):
            self.uid(await asyncio.to_thread(self._owner_of, self._homes.path_of(name)))
        return await self._homes.measure(name)

    # -- snapshots ---------------------------------------------------------------------------------------------------

    async def snapshots_obstacle(self) -> Obstacle | None:
        return await self._snapshots.obstacle()

    async def snapshots_taken(self, username: str) -> list[Snapshot]:
        return list(await self._snapshots.taken(self.username(username)))

    async def snapshots_summary(self) -> SnapshotSummary:
        return await self._snapshots.summary()

    async def snapshot_take(self, username: str, uid: int, cause: Cause) -> Snapshot | None:
        """As promised.

        Raises:
            HelperRefused: the home is not this user's.
            HomeUnavailable: it is no directory, or it did not work.
        """
        return await self._snapshots.take(await self.own(username, uid), uid, cause)

    async def snapshots_thin(self, username: str, uid: int) -> SnapshotUse:
        """As promised; refused as `snapshot_take`."""
        return await self._snapshots.thin(await self.own(username, uid), uid)

    async def own(self, username: str, uid: int) -> str:
        """The name of a home that is this user's, or of none."""
        name, uid = self.username(username), self.uid(uid)
        if await self._homes.exists(name):
            owner = await asyncio.to_thread(self._owner_of, self._homes.path_of(name))
            if owner != uid:
                raise _no("username", "is a home folder that does not belong to this user")
        return name

    def username(self, name: str) -> str:
        """Raises HelperRefused for what cannot be a home's name."""
        if not directories.USERNAME.fullmatch(name):
            raise _no("username", "cannot be the name of a home folder")
        return name

    def uid(self, uid: int) -> int:
        """Raises HelperRefused for a uid that this platform gives to nobody."""
        if not self._settings.homes.uid_base <= uid < 2**31:
            raise _no("uid", "is outside the range of this platform's users")
        return uid


def _no(field: str, why: str) -> HelperRefused:
    return HelperRefused(f"The server's helper refused this launch or change: “{field}” {why}.")
