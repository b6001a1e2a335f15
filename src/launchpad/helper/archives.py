"""What the portal may have done with archives, held against the settings that the helper reads itself."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from ..errors import HelperRefused
from ..storage.archives import DIGEST, NAME, ArchiveFacts, Archives, ArchivesSummary, Progress
from .guard import Guard

FOLDER = re.compile(r"[^\x00-\x1f\x7f/.][^\x00-\x1f\x7f/]*")  # a name, which hides nothing


class ArchiveGuard:
    """Implements `ArchiveVerbs`: what is fit to be done is handed on.

    A home is removed only where its archive was verified and has all of it, which `Archives` sees to, not who asks.
    """

    def __init__(self, guard: Guard, archives: Archives) -> None:
        self._guard = guard
        self._archives = archives

    async def archives_summary(self) -> ArchivesSummary:
        return await self._archives.summary()

    async def archives_of(self, username: str) -> list[ArchiveFacts]:
        return list(await self._archives.of(self._guard.username(username)))

    async def archive_make(self, username: str, uid: int) -> AsyncIterator[Progress]:
        """As promised. Refused, as the others, for what is no home's name or user's uid, or a home of others."""
        async for said in self._archives.make(await self._guard.own(username, uid), uid):
            yield said

    async def archive_verify(self, username: str, name: str, sha256: str) -> AsyncIterator[Progress]:
        _check(name, sha256)
        async for said in self._archives.verify(self._guard.username(username), name, sha256):
            yield said

    async def archive_restore(self, username: str, uid: int, name: str, sha256: str) -> AsyncIterator[Progress]:
        _check(name, sha256)
        async for said in self._archives.restore(await self._guard.own(username, uid), uid, name, sha256):
            yield said

    async def archive_copy(
        self, username: str, uid: int, name: str, sha256: str, to_username: str, to_uid: int, folder: str
    ) -> AsyncIterator[Progress]:
        if name or sha256:
            _check(name, sha256)
        if not FOLDER.fullmatch(folder) or len(folder.encode("utf-8", "replace")) > 250:
            raise _no("folder", "cannot be the name of a folder")
        source = await self._guard.own(username, uid)
        target = await self._guard.own(to_username, to_uid)
        async for said in self._archives.copy(source, uid, name, sha256, target, to_uid, folder):
            yield said

    async def home_remove(self, username: str, uid: int, name: str, sha256: str) -> AsyncIterator[Progress]:
        _check(name, sha256)
        async for said in self._archives.remove_home(await self._guard.own(username, uid), uid, name, sha256):
            yield said

    async def archives_tidy(self) -> int:
        return await self._archives.tidy()


def _check(name: str, sha256: str) -> None:
    if not NAME.fullmatch(name) or not name.isascii():
        raise _no("name", "cannot be the name of an archive")
    if not DIGEST.fullmatch(sha256):
        raise _no("sha256", "is none")


def _no(field: str, why: str) -> HelperRefused:
    return HelperRefused(f"The server's helper refused this work on a home folder: “{field}” {why}.")
