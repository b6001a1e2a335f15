"""Tells people when another version of R or Python leaves behind what they have installed.

The process that owns the work looks: at the images, whose versions are noted, and at homes, by a worker of their
owner's, when something may have been installed. Nothing is started for it, and pages read what is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.environments import Environment
from ..domain.libraries import Libraries, LibraryChange, Versions, changes_of
from ..domain.users import User
from ..errors import LaunchpadError
from ..runtime.base import Images
from ..store import home_libraries, instance_history, kv, users
from ..store.changes import Change
from ..store.database import Database
from .background import Loop, periodic
from .files import FilesService
from .live.engine import LiveImages
from .live.instances import LiveInstances
from .live.remembered import Answer, Remembered

log = structlog.get_logger(__name__)

KEY = "image_languages"  # in `kv`
LOOK_SECONDS, LATE_AFTER_SECONDS = 20.0, 900.0
IMAGE_AGAIN = timedelta(hours=1)  # the same tag may have become another image
IN_USE_AGAIN = timedelta(minutes=10)
AT_ONCE = 20  # homes a pass
ENDED_AT_MOST = 100  # that are looked for a pass
VERSIONS_KEPT = 10  # of a language in an environment
ALL = 1_000_000  # live instances are never so many
MOST = 10_000


class _Kept(NamedTuple):
    found: Libraries
    dismissed: frozenset[str]


class LibraryService:
    def __init__(
        self,
        database: Database,
        runtime: Images,
        files: FilesService,
        images: LiveImages,
        instances: LiveInstances,
        catalogue: Mapping[str, Environment],
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._files = files
        self._images = images
        self._instances = instances
        self._catalogue = catalogue
        self._asked: dict[str, tuple[str, datetime]] = {}  # of environments: the image, and when
        self._looked_at: dict[str, datetime] = {}  # of homes in use
        self._in_use: set[str] = set()
        self._passed_at: datetime | None = None
        self._after: str | None = ""  # the address up to which everybody had a turn since this began; None: all had
        self._versions: Remembered[str, Versions] = Remembered(database.changes, 1)
        self._homes: Remembered[str, _Kept] = Remembered(database.changes, MOST)

    def loop(self, now: Callable[[], datetime]) -> Loop:
        return periodic(
            "libraries",
            lambda: self.run(now()),
            every_seconds=LOOK_SECONDS,
            late_after_seconds=LATE_AFTER_SECONDS,
            first_after_seconds=LOOK_SECONDS,
            longest_retry_seconds=600,
        )

    # -- for pages and the API -----------------------------------------------------------------------------------------

    async def changes(self, user: User, used: Collection[str]) -> tuple[LibraryChange, ...]:
        """What the user should know and has not dismissed, of the environments that they use."""
        kept = await self._kept(user.id)
        if kept is None:
            return ()
        versions = {name: told for name, told in (await self._known()).items() if name in self._catalogue}
        return tuple(one for one in changes_of(kept.found, versions, used) if one.key not in kept.dismissed)

    async def dismiss(self, user: User, key: str) -> None:
        """The user is not told of that change any more."""
        async with self._database.transaction() as db:
            await home_libraries.dismiss(db, user.id, key)

    async def _kept(self, user_id: str) -> _Kept | None:
        async def read() -> Answer[_Kept] | None:
            async with self._database.reading() as db:
                found = await home_libraries.of(db, user_id)
            rows = (Change("home_libraries", user_id),)
            return Answer(_Kept(found[0], frozenset(found[1])), rows) if found is not None else None

        return await self._homes.get(user_id, read)

    async def _known(self) -> Versions:
        async def read() -> Answer[Versions]:
            async with self._database.reading() as db:
                return Answer(_versions_of(await kv.get(db, KEY)), (Change("kv", KEY),))

        return await self._versions.get(KEY, read) or {}

    # -- looking -------------------------------------------------------------------------------------------------------

    async def run(self, now: datetime) -> None:
        """One pass over images that are due, and over some homes.

        Raises:
            LaunchpadError: the engine is away; or every home of the pass failed, as without a helper.
        """
        await self._look_at_images(now)
        await self._look_at_homes(now)

    async def _look_at_images(self, now: datetime) -> None:
        found: dict[str, Mapping[str, str]] = {}
        for name in self._catalogue:
            image = (await self._images.of(name)).image
            known = self._asked.get(name)
            if image is None or (known and known[0] == image.reference and now - known[1] < IMAGE_AGAIN):
                continue
            found[name] = await self._runtime.image_languages(image.reference)
            self._asked[name] = image.reference, now
        if not found:
            return
        async with self._database.transaction() as db:
            before = _versions_of(await kv.get(db, KEY))
            after = dict(before)
            for name, languages in found.items():
                after[name] = _with(before.get(name, {}), languages)
            if after != before:
                await kv.put(db, KEY, after, now)

    async def _look_at_homes(self, now: datetime) -> None:
        in_use = {one.owner_id for one in await self._instances.of_everyone(limit=ALL)}
        ended, self._in_use = self._in_use - in_use, in_use
        due = {one for one in in_use if now - self._looked_at.get(one, now - IN_USE_AGAIN) >= IN_USE_AGAIN}
        async with self._database.reading() as db:
            ended |= await self._came_and_went(db)
            wanted = await users.by_ids(db, set(sorted(due)[:AT_ONCE]) | ended)
            page = await users.page(db, limit=AT_ONCE, after=self._after or None) if self._after is not None else []
        looked, failed = 0, None
        for user in {one.id: one for one in (*wanted.values(), *page)}.values():
            try:
                found = await self._files.libraries(user)
                looked += 1
            except LaunchpadError as error:
                log.warning("libraries.not_looked_at", user=user.id, detail=error.detail)
                failed = error
                continue
            finally:
                self._looked_at[user.id] = now
            if found is not None:
                await self._keep(user.id, found, now)
        if failed is not None and not looked:
            raise failed
        if self._after is not None:
            self._after = page[-1].email if len(page) == AT_ONCE else None
        self._looked_at = {one: at for one, at in self._looked_at.items() if one in in_use}
        self._passed_at = now

    async def _came_and_went(self, db: AsyncConnection) -> set[str]:
        """Whose instances began and ended between two passes, a pass that took long perhaps."""
        if self._passed_at is None:
            return set()
        latest = await instance_history.latest(db, limit=ENDED_AT_MOST)
        return {one.owner_id for one in latest if one.ended_at is not None and one.ended_at >= self._passed_at}

    async def _keep(self, user_id: str, found: Libraries, now: datetime) -> None:
        async with self._database.transaction() as db:
            known = await home_libraries.of(db, user_id)
            if known is None or known[0] != found:
                await home_libraries.put(db, user_id, found, now)


def _versions_of(kept: dict[str, dict[str, list[str]]] | None) -> Versions:
    return {
        name: {language: tuple(versions) for language, versions in languages.items()}
        for name, languages in (kept or {}).items()
    }


def _with(before: Mapping[str, tuple[str, ...]], languages: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
    """What an image is found to have is the last of each; a language that it has no more, or that cannot be told, stays
    as it was."""
    after = dict(before)
    for language, version in languages.items():
        known = before.get(language, ())
        if known[-1:] != (version,):
            after[language] = (*(one for one in known if one != version), version)[-VERSIONS_KEPT:]
    return after
