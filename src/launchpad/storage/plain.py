"""Homes as plain directories: right owner and mode, no limit on their size."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from ..errors import HomeUnavailable
from . import directories
from .base import DiskSpace, HomeUse
from .walking import Walks


class PlainHomes:
    """Works on any file system. `storage_bytes` is recorded with the instance, but not enforced.

    A new home is empty: what people start with is part of their environment's image, and no file of the server's is
    copied into directories of others.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._walks = Walks(root)

    @property
    def enforces_limits(self) -> bool:
        return False

    def path_of(self, username: str) -> Path:
        return directories.home_path(self.root, username)

    async def exists(self, username: str) -> bool:
        return await asyncio.to_thread(os.path.lexists, self.path_of(username))

    async def owners(self) -> set[int]:
        return await asyncio.to_thread(directories.owners, self.root)

    async def prepare(self, username: str, uid: int, limit_bytes: int | None) -> Path:
        path = self.path_of(username)
        await asyncio.to_thread(self._prepare, path, uid)
        return path

    async def stage(self, username: str, uid: int, beside: str) -> None:
        await asyncio.to_thread(self._stage, uid, beside)

    async def use(self, username: str) -> HomeUse:
        return await asyncio.to_thread(self._use, self.path_of(username))

    async def measure(self, username: str) -> HomeUse:
        return await self._walks.measured(self.path_of(username), await self.use(username))

    async def disk(self) -> DiskSpace:
        return await asyncio.to_thread(directories.disk, self.root)

    async def check(self) -> None:
        await asyncio.to_thread(directories.try_root, self.root)

    # -- in a thread -------------------------------------------------------------------------------------------------

    def _prepare(self, path: Path, uid: int) -> None:
        root = directories.open_root(self.root)
        try:
            if self._is_there(root, path, uid) or self._make(root, path, uid):
                return
            # Another launch was quicker, or something is in the way.
            if not self._is_there(root, path, uid):
                raise HomeUnavailable("Your home folder was moved while it was being created. Please try again.")
        finally:
            os.close(root)

    def _stage(self, uid: int, beside: str) -> None:
        root = directories.open_root(self.root)
        try:
            self._make_empty(root, beside, uid)
        except OSError as error:
            raise directories.unusable_for(self.root, error) from error
        finally:
            os.close(root)

    def _make_empty(self, root: int, beside: str, uid: int) -> None:
        os.mkdir(beside, directories.HOME_MODE, dir_fd=root)
        home = directories.open_new(root, beside)
        try:
            directories.give_to(home, uid)
        finally:
            os.close(home)

    def _use(self, path: Path) -> HomeUse:
        """Nothing is counted here, but the disk may be full."""
        root = directories.open_root(self.root)
        try:
            home = directories.open_home(root, path, None)
            if home is None:
                return HomeUse(None, None)
            try:
                return HomeUse(None, None, directories.free_bytes(home))
            except OSError as error:
                raise directories.unusable_for(self.root, error) from error
            finally:
                os.close(home)
        finally:
            os.close(root)

    def _is_there(self, root: int, path: Path, uid: int) -> bool:
        home = directories.open_home(root, path, uid)
        if home is None:
            return False
        os.close(home)
        return True

    def _make(self, root: int, path: Path, uid: int) -> bool:
        """Makes it beside its place and moves it there when it is whole, so that a crash leaves no half home.

        Returns:
            False where its name is taken by now.
        """
        beside = directories.name_beside(path.name)
        placed = False
        try:
            self._make_empty(root, beside, uid)
            placed = directories.move_if_free(root, beside, path.name)
        except OSError as error:
            raise directories.unusable_for(self.root, error) from error
        finally:
            if not placed:
                directories.remove_empty(root, beside)
        return placed
