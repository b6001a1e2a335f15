"""What is known without asking the engine or the helper now: usage, images, homes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...domain.environments import Environment
from ...domain.instances import Instance, State, shortages
from ...domain.usage import Usage
from ...errors import EngineUnavailable, HomeUnavailable, ImageMissing, LaunchpadError
from ...services.offers import CapacityUse

if TYPE_CHECKING:
    from ...platform import Platform


@dataclass(frozen=True)
class Outlook:
    """What an environment would start now; `problem` says why it cannot."""

    problem: str | None = None
    is_stand_in: bool = False


@dataclass(frozen=True)
class HomeUse:
    used_bytes: int | None = None
    limit_bytes: int | None = None
    free_bytes: int | None = None


class Known:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._catalogue: Mapping[str, Environment] = platform.catalogue

    async def usage(self, instance: Instance) -> Usage | None:
        if instance.state is not State.RUNNING:
            return None
        try:
            return await self._platform.runtime.usage(instance.id)
        except EngineUnavailable:
            return None

    async def outlook(self, environment: Environment) -> Outlook:
        try:
            return Outlook(is_stand_in=(await self._platform.images.resolve(environment)).stand_in)
        except (ImageMissing, EngineUnavailable) as missing:
            return Outlook(missing.detail)

    async def home_use(self, username: str) -> HomeUse:
        try:
            use = await self._platform.homes.use(username)
        except HomeUnavailable:
            return HomeUse()
        return HomeUse(use.used_bytes, use.limit_bytes, use.free_bytes)

    async def home_sizes_are_enforced(self) -> bool:
        try:
            return await asyncio.to_thread(lambda: self._platform.homes.enforces_limits)
        except LaunchpadError:
            return True

    async def lacking(self, instance: Instance, username: str) -> tuple[str, ...]:
        environment = self._catalogue.get(instance.environment)
        usage = await self.usage(instance)
        if usage is None or environment is None:
            return ()
        home = await self.home_use(username)
        return shortages(usage.pids, environment.pids_limit, home.used_bytes, home.limit_bytes, home.free_bytes)

    async def engine_answers(self) -> bool:
        try:
            async with asyncio.timeout(3.0):
                await self._platform.runtime.host()
        except (EngineUnavailable, TimeoutError):
            return False
        return True

    async def capacity(self) -> CapacityUse | None:
        try:
            async with asyncio.timeout(3.0):
                return await self._platform.offers.use()
        except (EngineUnavailable, TimeoutError):
            return None
