"""Homes as the portal reaches them where it has no right to: through the privileged helper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import EngineRefused, EngineUnavailable, HomeUnavailable
from ..helper_client import HelperClient
from . import directories
from .base import HomeUse


class HelperHomes:
    """See `base.Homes`. Which driver does the work is the helper's to choose, from the settings it reads."""

    def __init__(self, line: HelperClient, root: Path) -> None:
        self.root = root
        self._line = line
        self._enforces_limits: bool | None = None

    @property
    def enforces_limits(self) -> bool:
        """Asked once, at the first use; raises HelperUnavailable while nobody can tell."""
        if self._enforces_limits is None:
            self._enforces_limits = bool(self._line.ask_at_once("homes-enforce-limits"))
        return self._enforces_limits

    def path_of(self, username: str) -> Path:
        return directories.home_path(self.root, username)

    async def exists(self, username: str) -> bool:
        return bool(await self._ask("home-exists", username=self.path_of(username).name))

    async def owners(self) -> set[int]:
        return set(await self._ask("homes-owners"))

    async def prepare(self, username: str, uid: int, limit_bytes: int | None) -> Path:
        path = self.path_of(username)
        await self._ask("home-prepare", username=username, uid=uid, limit_bytes=limit_bytes)
        return path

    async def use(self, username: str) -> HomeUse:
        used, limit, free = await self._ask("home-use", username=self.path_of(username).name)
        return HomeUse(used_bytes=used, limit_bytes=limit, free_bytes=free)

    async def check(self) -> None:
        await self._ask("homes-check")

    async def _ask(self, verb: str, **arguments: Any) -> Any:
        try:
            return await self._line.ask(verb, arguments)
        except (EngineUnavailable, EngineRefused) as error:
            raise HomeUnavailable(error.detail, retry_after_seconds=error.retry_after_seconds) from error
