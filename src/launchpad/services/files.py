"""A user's own files: what may be asked of them, and how what the workers say becomes what pages and API show."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..domain.file_caches import CACHES, OTHER_CACHES, Cache
from ..domain.libraries import Libraries
from ..domain.users import User
from ..errors import Conflict, HomeUnavailable, InvalidInput, NotFound, TooLarge
from ..settings import Settings
from ..storage.base import Homes
from ..storage.files import Files, Owner, Received
from .offers import OfferService

Json = dict[str, Any]
Opening = AbstractAsyncContextManager[Received]  # of content
Sort = Literal["name", "size", "modified"]
Order = Literal["asc", "desc"]
TAKEN_OVER = "Another request continues this upload."
SHOWN_LEFT = 3


class FilesService:
    """Every path is a text as of `domain.file_paths`, below the user's home; with the name of a `snapshot`, in that.

    Every method raises NotFound for what is not there or not below it, Forbidden where permissions do not allow it,
    Conflict where something is in the way, NoRoom, FilesBusy, FilesUnavailable and HomeUnavailable.
    """

    def __init__(self, files: Files, homes: Homes, offers: OfferService, settings: Settings) -> None:
        self._files = files
        self._homes = homes
        self._offers = offers
        self._settings = settings
        self._uploading: dict[tuple[str, str], asyncio.Task[Json]] = {}
        self._homes_inside = sorted({each.home for each in settings.environments})

    # -- looking -----------------------------------------------------------------------------------------------------

    async def entries(
        self,
        user: User,
        path: str,
        *,
        cursor: str | None,
        limit: int,
        sort: Sort,
        order: Order,
        hidden: bool,
        snapshot: str = "",
    ) -> Json:
        """A page of a folder: `entries`, `total`, and the `cursor` of the next page."""
        asked = {"after": place_of(cursor), "limit": limit, "sort": sort, "order": order, "hidden": hidden}
        answer = await self._ask(user, "list", snapshot, path=path, **asked)
        return {"entries": answer["entries"], "total": answer["total"], "cursor": cursor_of(answer["after"])}

    async def entry(self, user: User, path: str, snapshot: str = "") -> Json:
        """One thing, itself: of a link not what it leads to."""
        entry: Json = (await self._ask(user, "stat", snapshot, path=path))["entry"]
        return entry

    async def search(
        self, user: User, path: str, name: str, *, cursor: str | None, limit: int, snapshot: str = ""
    ) -> Json:
        after = place_of(cursor)
        answer = await self._ask(user, "search", snapshot, path=path, name=name, after=after, limit=limit)
        return {"entries": answer["entries"], "cut": answer["cut"], "cursor": cursor_of(answer["after"])}

    async def space(self, user: User, path: str, depth: int) -> Json:
        """The sizes of what lies in a folder, and of its folders."""
        return await self._ask(user, "space", path=path, depth=depth)

    async def caches(self, user: User) -> list[tuple[Cache, int]]:
        """What can be emptied without a loss, with what it takes up, the largest first."""
        places = [path for cache in CACHES for path in cache.paths]
        answer = await self._ask(user, "sizes", paths=[*places, OTHER_CACHES.paths[0]])
        told = dict(zip([*places, OTHER_CACHES.paths[0]], answer["sizes"], strict=True))
        found = [(cache, sum(_bytes(told[path]) for path in cache.paths)) for cache in CACHES]
        inside = (told[OTHER_CACHES.paths[0]] or {}).get("inside", {})
        others = sum(size for name, size in inside.items() if name not in _named_caches())
        found.append((OTHER_CACHES, others))
        return sorted((one for one in found if one[1]), key=lambda one: -one[1])

    # -- content -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def opened(self, user: User, path: str, snapshot: str = "") -> AsyncIterator[Received]:
        """A file: its `header` says `size`, `etag`, `mtime_ns`, `name`; then a part of it is chosen."""
        async with self._received(user, "read", snapshot, path=path) as received:
            yield received

    @asynccontextmanager
    async def archive(self, user: User, paths: Sequence[str], snapshot: str = "") -> AsyncIterator[Received]:
        """A zip of all of them, made while it is read."""
        async with self._received(user, "archive", snapshot, paths=list(paths)) as received:
            yield received

    async def preview(self, user: User, path: str, kind: str, snapshot: str = "") -> Json:
        """Text, rows or cells."""
        return await self._ask(user, "preview", snapshot, path=path, kind=kind)

    @asynccontextmanager
    async def drawn(self, user: User, path: str, kind: str, snapshot: str = "") -> AsyncIterator[Received]:
        """An image or a PDF, which is what its first bytes say: `media_type` in the header."""
        async with self._received(user, "preview", snapshot, path=path, kind=kind) as received:
            yield received

    async def write(
        self,
        user: User,
        path: str,
        content: AsyncIterator[bytes],
        *,
        size: int | None,
        replace: bool,
        if_match: str | None,
        modified_at: datetime | None = None,
    ) -> Json:
        """A whole file, in place of what has its name only when `replace`; its entry."""
        self._check_size(size)
        await self._ready(user)
        answer = await self._files.send(
            _owner(user),
            "write",
            content,
            path=path,
            replace=replace,
            if_match=if_match,
            most=self._settings.files.upload_max,
            mtime_ns=_mtime_ns(modified_at),
        )
        entry: Json = answer["entry"]
        return entry

    # -- uploads that go on ------------------------------------------------------------------------------------------

    async def begin_upload(
        self, user: User, path: str, size: int, *, replace: bool, modified_at: datetime | None = None
    ) -> Json:
        self._check_size(size)
        mtime_ns = _mtime_ns(modified_at)
        return await self._ask(
            user, "upload-begin", path=path, size=size, replace=replace, mtime_ns=-1 if mtime_ns is None else mtime_ns
        )

    async def go_on(self, user: User, upload_id: str, offset: int, content: AsyncIterator[bytes]) -> Json:
        """The next bytes. A request that still goes on with the same upload, as one whose client is gone without a
        word, gives way."""
        key = (user.id, upload_id)
        before = self._uploading.pop(key, None)
        if before is not None:
            before.cancel()
            await asyncio.wait([before], timeout=5)
        await self._ready(user)
        sending = asyncio.ensure_future(
            self._files.send(_owner(user), "upload-write", content, id=upload_id, offset=offset)
        )
        self._uploading[key] = sending
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            if sending.cancelled():
                raise Conflict(TAKEN_OVER) from None
            sending.cancel()
            raise
        finally:
            if self._uploading.get(key) is sending:
                del self._uploading[key]

    async def upload(self, user: User, upload_id: str) -> Json:
        return await self._ask(user, "upload-look", id=upload_id)

    async def uploads(self, user: User) -> list[Json]:
        """Those that are not whole; what was left for a week is removed."""
        uploads: list[Json] = (await self._ask(user, "upload-list"))["uploads"]
        return uploads

    async def drop_upload(self, user: User, upload_id: str) -> None:
        await self._ask(user, "upload-drop", id=upload_id)

    # -- changes -----------------------------------------------------------------------------------------------------

    async def make_folder(self, user: User, path: str) -> Json:
        entry: Json = (await self._ask(user, "make-folder", path=path))["entry"]
        return entry

    async def move(self, user: User, source: str, target: str, *, replace: bool) -> Json:
        entry: Json = (await self._ask(user, "move", **{"from": source, "to": target}, replace=replace))["entry"]
        return entry

    async def copy(self, user: User, source: str, target: str) -> Json:
        """All of it, or nothing. Says what could not be copied, such as pipes."""
        return await self._ask(user, "copy", **{"from": source, "to": target})

    async def delete(self, user: User, path: str) -> None:
        """For ever."""
        _all_gone(await self._ask(user, "delete", path=path))

    async def empty_cache(self, user: User, name: str) -> None:
        """Raises NotFound for no cache of ours."""
        cache = next((one for one in (*CACHES, OTHER_CACHES) if one.name == name), None)
        if cache is None:
            raise NotFound("There is no such cache.")
        if cache.is_trash:
            _all_gone(await self._ask(user, "trash-empty"))
            return
        paths = list(cache.paths)
        if cache is OTHER_CACHES:
            inside = (await self._ask(user, "sizes", paths=paths))["sizes"][0] or {"inside": {}}
            paths = [f"{paths[0]}/{one}" for one in inside["inside"] if one not in _named_caches()]
            for path in paths:
                _all_gone(await self._ask(user, "delete", path=path))
            return
        _all_gone(await self._ask(user, "empty", paths=paths))

    # -- the Trash ---------------------------------------------------------------------------------------------------

    async def put_into_trash(self, user: User, path: str, now: datetime) -> str:
        """The id that it has there."""
        moment = _local(now, user)
        answer = await self._ask(user, "trash", path=path, now=moment, **self._seen_at(user))
        return str(answer["id"])

    async def trash(self, user: User, now: datetime) -> Json:
        """What lies in it, the newest first; what is too old is removed first."""
        answer = await self._ask(user, "trash-list", oldest=self._oldest(user, now), **self._seen_at(user))
        zone = _zone(user)
        for entry in answer["entries"]:
            moment = entry["deleted_at"]
            entry["deleted_at"] = datetime.fromisoformat(moment).replace(tzinfo=zone) if moment else None
        return answer

    async def restore(self, user: User, ids: Sequence[str]) -> Json:
        """`restored` and `failed`, each with its reason. Nothing is replaced."""
        return await self._ask(user, "trash-restore", ids=list(ids), **self._seen_at(user))

    async def empty_trash(self, user: User, ids: Sequence[str] | None = None) -> None:
        _all_gone(await self._ask(user, "trash-empty", ids=None if ids is None else list(ids)))

    async def remove_old_trash(self, user: User, now: datetime) -> bool:
        """Permanently removes what has lain in the Trash for too long; False where there is no home yet."""
        if not await self._homes.exists(user.username):
            return False
        try:
            await self._files.ask(_owner(user), "trash-empty", oldest=self._oldest(user, now))
        finally:
            await self._files.release(_owner(user))
        return True

    def _oldest(self, user: User, now: datetime) -> str:
        return _local(now - timedelta(days=self._settings.files.trash_days), user)

    def _seen_at(self, user: User) -> Json:
        """Where instances see the home, the place first that is written down."""
        return {"home": f"/home/{user.username}", "homes": self._homes_inside}

    async def libraries(self, user: User) -> Libraries | None:
        """Those of R and Python in the home; None where there is no home yet."""
        if not await self._homes.exists(user.username):
            return None
        try:
            found: Libraries = (await self._files.ask(_owner(user), "libraries"))["libraries"]
        finally:
            await self._files.release(_owner(user))
        return found

    async def check(self) -> None:
        """Raises FilesUnavailable where nobody can reach their files."""
        await self._files.check()

    # -- the way there -----------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        for sending in list(self._uploading.values()):
            sending.cancel()
        await self._files.aclose()

    async def _ask(self, user: User, verb: str, snapshot: str = "", **arguments: Any) -> Json:
        try:
            return await self._files.ask(_owner(user, snapshot), verb, **arguments)
        except HomeUnavailable:
            if not await self.make_home(user):
                raise
        return await self._files.ask(_owner(user, snapshot), verb, **arguments)

    @asynccontextmanager
    async def _received(self, user: User, verb: str, snapshot: str = "", **arguments: Any) -> AsyncIterator[Received]:
        await self._ready(user)
        async with self._files.receive(_owner(user, snapshot), verb, **arguments) as received:
            yield received

    async def _ready(self, user: User) -> None:
        """So that content is not sent to a home that is still to be made."""
        if not await self._homes.exists(user.username):
            await self.make_home(user)

    async def make_home(self, user: User) -> bool:
        """Makes the home of somebody who has not launched anything yet, as a launch would; False: there is one."""
        if await self._homes.exists(user.username):
            return False
        most = (await self._offers.limits()).offer.defaults.storage_bytes
        await self._homes.prepare(user.username, user.uid, most)
        return True

    def _check_size(self, size: int | None) -> None:
        if size is not None and size > self._settings.files.upload_max:
            raise TooLarge("The file is larger than this server takes.")


def _owner(user: User, snapshot: str = "") -> Owner:
    return Owner(user.username, user.uid, snapshot)


def _bytes(told: Json | None) -> int:
    return int(told["bytes"]) if told else 0


def _named_caches() -> set[str]:
    """Those below ~/.cache that have a line of their own."""
    first = OTHER_CACHES.paths[0] + "/"
    return {
        path.removeprefix(first).split("/")[0] for cache in CACHES for path in cache.paths if path.startswith(first)
    }


def _all_gone(answer: Json) -> None:
    if answer["done"]:
        return
    more = answer["left_count"] - SHOWN_LEFT
    which = "; ".join(answer["left"][:SHOWN_LEFT]) + (f"; and {more} more" if more > 0 else "")
    raise Conflict(f"Not everything could be deleted. What is left: {which}")


def _mtime_ns(moment: datetime | None) -> int | None:
    return int(moment.timestamp()) * 10**9 if moment is not None and moment.timestamp() >= 0 else None


def _zone(user: User) -> ZoneInfo:
    try:
        return ZoneInfo(user.time_zone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def _local(now: datetime, user: User) -> str:
    return now.astimezone(_zone(user)).replace(tzinfo=None, microsecond=0).isoformat()


def modified_at(entry: Json) -> datetime:
    """Years that no calendar has become the last one there is."""
    try:
        return datetime.fromtimestamp(entry["mtime_ns"] // 10**9, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC, microsecond=0)


def cursor_of(after: Any) -> str | None:
    if after is None:
        return None
    return base64.urlsafe_b64encode(json.dumps(after, separators=(",", ":")).encode()).decode().rstrip("=")


def place_of(cursor: str | None) -> Any:
    """Raises InvalidInput for what is no cursor of ours."""
    if cursor is None:
        return None
    try:
        return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        text = "give the cursor of the previous page"
        raise InvalidInput(f"That cursor cannot be used: {text}.", fields={"cursor": text}) from None
