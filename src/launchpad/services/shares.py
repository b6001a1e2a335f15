"""Files and folders that people let others of the platform read: by link, until a date, and no longer than they want.

What is read is read by a worker that is its owner (docs/adr/0038), below what is shared only; who reads it has no part
in that. Whether they may is decided for every request, and again for every piece of what is being sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ..domain.naming import new_id
from ..domain.shares import LinkHolder, Opened, Share, labs_of, may_open
from ..domain.signin import normalise_address
from ..domain.users import User
from ..errors import Conflict, FilesBusy, Forbidden, InvalidInput, NotFound
from ..settings import Settings
from ..storage.file_workers import RETRY_SECONDS
from ..storage.files import Files, Owner, Received
from ..store import audit, share_people, shares, users
from ..store.changes import Change
from ..store.database import Database
from .audit import Actor
from .background import Loop, periodic
from .files import Json, Order, Sort, cursor_of, place_of
from .live.remembered import Answer, Remembered
from .share_reading import RequestLimit, Watched, digest_of, said_plainly

NOT_FOR_YOU = (
    "There is nothing for you at this address. What was shared here may not be shared any more, or with other people."
)
MOST_PEOPLE, MOST_LISTED, MOST_KNOWN = 50, 1000, 5000
NOTED_AGAIN = timedelta(minutes=1)
KEPT = timedelta(days=30)  # after it is over, in the database; nobody sees it
PRUNED_SECONDS, PRUNED_AT_ONCE = 3600.0, 500
STRANGER = ""  # in the place of an address: somebody with the link
BUSY = "Many people are reading what this person has shared. Please try again in a moment."


Reader = User | LinkHolder


class _Known(NamedTuple):
    share: Share
    owner: User | None


@dataclass(frozen=True)
class SharedByMe:
    share: Share
    opened: tuple[Opened, ...]


@dataclass(frozen=True)
class SharedWithMe:
    share: Share
    owner: User


class ShareService:
    """Every method for readers raises NotFound for what does not exist, is over or is not for them: all alike.

    Args:
        now: asked again while something is being sent.
    """

    def __init__(self, database: Database, settings: Settings, files: Files, now: Callable[[], datetime]) -> None:
        self._database = database
        self._settings = settings.sharing
        self._files = files
        self._now = now
        # An owner's own requests are not kept out by readers.
        self._most_readers = max(1, settings.files.workers_per_user // 2)
        self._readers: Counter[str] = Counter()
        self._known: Remembered[str, _Known] = Remembered(database.changes, MOST_KNOWN)
        self._viewers: Remembered[str, User] = Remembered(database.changes, MOST_KNOWN)
        self._limit = RequestLimit(self._settings.strangers_per_minute)
        self._noted: dict[tuple[str, str], datetime] = {}

    def loop(self, now: Callable[[], datetime]) -> Loop:
        return periodic(
            "shares",
            lambda: self.prune(now()),
            every_seconds=PRUNED_SECONDS,
            late_after_seconds=3 * PRUNED_SECONDS,
            first_after_seconds=PRUNED_SECONDS / 4,
        )

    async def prune(self, now: datetime) -> None:
        """Forgets what was over long ago; mostly that is nothing, and nothing is written."""
        async with self._database.reading() as db:
            ids = await shares.over(db, now - KEPT, PRUNED_AT_ONCE)
        if not ids:
            return
        async with self._database.transaction() as db:
            await shares.remove_all(db, ids)
            await share_people.remove_all(db, ids)

    # -- for owners ----------------------------------------------------------------------------------------------------

    async def share(
        self,
        owner: User,
        path: str,
        people: Sequence[str],
        *,
        lab: str | None,
        days: int | None,
        actor: Actor,
        now: datetime,
        secret: str | None = None,
    ) -> Share:
        """Lets others read a file or folder from now on.

        Args:
            people: e-mail addresses, of people who may not have signed in yet.
            lab: one of the owner's, whose members may read it; None: nobody's.
            secret: of `new_secret`, for a link that opens it for everybody who has it.

        Raises:
            InvalidInput: nobody is named, a date is too far away, or it is no file or folder that can be shared.
            Conflict: the owner has as many as may be.
            NotFound: there is nothing under that path.
        """
        if not self._settings.enabled:
            raise Forbidden("Sharing is turned off on this server.")
        emails = self._addresses(people, owner)
        if lab is not None and lab not in labs_of(owner):
            raise InvalidInput("You can only share with your own lab.", fields={"lab": "is not yours"})
        if secret is not None and not self._settings.strangers:
            raise Forbidden("Links for people who are not signed in are turned off on this server.")
        if not emails and lab is None and secret is None:
            raise InvalidInput("Say who may read it.", fields={"with": "name one or more people"})
        longest = self._settings.longest_days
        if secret is not None:
            longest = min(longest, self._settings.strangers_longest_days)
        days = min(self._settings.days, longest) if days is None else days
        if not 1 <= days <= longest:
            text = f"choose 1 to {longest} days"
            raise InvalidInput("It cannot be shared for so long.", fields={"days": text})
        entry = (await self._files.ask(_owner(owner), "shareable", path=path))["entry"]
        if entry["kind"] not in ("file", "folder"):
            raise InvalidInput(
                "Only files and folders can be shared, not links or pipes. Share what the link leads to."
            )
        share = Share(
            id=new_id(),
            owner_id=owner.id,
            path="/".join(name for name in path.split("/") if name not in ("", ".")),
            kind=entry["kind"],
            lab=lab,
            emails=emails,
            created_at=now,
            expires_at=now + timedelta(days=days),
            secret_digest=digest_of(secret) if secret is not None else None,
        )
        async with self._database.transaction() as db:
            if await shares.count(db, owner.id, now) >= self._settings.per_user:
                raise Conflict("You have shared as much as possible. Stop sharing something first.")
            await shares.add(db, share)
            await share_people.name(db, share.id, emails)
            await self._record(db, "share.created", share, actor, now)
        return share

    async def stop(self, owner: User, share_id: str, actor: Actor, now: datetime) -> None:
        """Nobody else can read it from now on; what is being sent stops.

        Raises:
            NotFound: the owner has no such share.
        """
        async with self._database.transaction() as db:
            share = await shares.by_id(db, share_id)
            if share is None or not await shares.remove(db, share_id, owner.id):
                raise NotFound(NOT_FOR_YOU)
            await share_people.remove_all(db, [share_id])
            await self._record(db, "share.stopped", share, actor, now)

    async def by_me(self, owner: User, now: datetime) -> list[SharedByMe]:
        """What the owner shares, with who has opened it; the newest first."""
        async with self._database.reading() as db:
            found = await shares.of_owner(db, owner.id, now)
            looks = await share_people.last_opened(db, [one.id for one in found])
        return [SharedByMe(one, tuple(Opened(*each) for each in looks.get(one.id, ()))) for one in found]

    async def with_me(self, viewer: User, now: datetime) -> list[SharedWithMe]:
        """What others let the viewer read, the newest first."""
        if not self._settings.enabled:
            return []
        async with self._database.reading() as db:
            ids = await share_people.named(db, viewer.email)
            found = await shares.with_user(db, ids, labs_of(viewer), viewer.id, now, MOST_LISTED)
            owners = await users.by_ids(db, {one.owner_id for one in found})
        return [
            SharedWithMe(one, owners[one.owner_id])
            for one in found
            if may_open(one, owners.get(one.owner_id), viewer, now)
        ]

    async def _record(self, db: Any, action: str, share: Share, actor: Actor, now: datetime) -> None:
        people = len(share.emails)
        await audit.add(
            db,
            at=now,
            actor=actor.name,
            client=actor.client,
            action=action,
            subject=f"share {share.id}",
            details={
                "people": people,
                "lab": share.lab,
                "link": "for everybody" if share.secret_digest else None,
                "until": share.expires_at.isoformat(),
            },
            owner_id=actor.on(share.owner_id),
        )

    def _addresses(self, people: Sequence[str], owner: User) -> tuple[str, ...]:
        found: list[str] = []
        for text in people:
            if not text.strip():
                continue
            try:
                address = normalise_address(text)
            except ValueError as error:
                raise InvalidInput(f"“{text[:100]}” is not an e-mail address.", fields={"with": str(error)}) from None
            if address != owner.email and address not in found:
                found.append(address)
        if len(found) > MOST_PEOPLE:
            raise InvalidInput(
                f"It can be shared with {MOST_PEOPLE} people at most.", fields={"with": f"name {MOST_PEOPLE} at most"}
            )
        return tuple(found)

    # -- for readers ---------------------------------------------------------------------------------------------------

    async def get(self, viewer: Reader, share_id: str, now: datetime) -> SharedWithMe:
        """What is shared and by whom, for somebody who may read it."""
        known = await self._find(share_id)
        if known is None or known.owner is None or not self._may(known, viewer, now):
            raise NotFound(NOT_FOR_YOU)
        return SharedWithMe(known.share, known.owner)

    def by_link(self, secret: str, client: str, now: datetime) -> LinkHolder:
        """Somebody who is not signed in and has a link.

        Args:
            client: the network address that they come from.

        Raises:
            NotFound: there are no such links on this server.
            TooManyRequests: the client has made too many requests by links.
        """
        if not self._settings.strangers:
            raise NotFound(NOT_FOR_YOU)
        self._limit.count(client, now)
        return LinkHolder(digest_of(secret))

    async def note_opened(self, viewer: Reader, share: Share, now: datetime) -> None:
        """For its owner's list: who has opened it, and when last, to the minute."""
        email = STRANGER if isinstance(viewer, LinkHolder) else viewer.email
        key = (share.id, email)
        if viewer.id == share.owner_id or now - self._noted.get(key, now - NOTED_AGAIN) < NOTED_AGAIN:
            return
        if len(self._noted) >= MOST_KNOWN:
            self._noted.clear()
        self._noted[key] = now
        async with self._database.transaction() as db:
            if await shares.by_id(db, share.id) is not None:
                await share_people.opened(db, share.id, email, now)

    async def entries(
        self,
        viewer: Reader,
        share_id: str,
        path: str,
        now: datetime,
        *,
        cursor: str | None,
        limit: int,
        sort: Sort,
        order: Order,
        hidden: bool,
    ) -> Json:
        """A page of the shared folder, or of one in it."""
        asked = {"after": place_of(cursor), "limit": limit, "sort": sort, "order": order, "hidden": hidden}
        answer = await self._ask(viewer, share_id, now, "list", path=path, **asked)
        return {"entries": answer["entries"], "total": answer["total"], "cursor": cursor_of(answer["after"])}

    async def entry(self, viewer: Reader, share_id: str, path: str, now: datetime) -> Json:
        """One thing in it, itself; without a path, what is shared."""
        found: Json = (await self._ask(viewer, share_id, now, "stat", path=path))["entry"]
        return found

    async def preview(self, viewer: Reader, share_id: str, path: str, kind: str, now: datetime) -> Json:
        """Text, rows or cells."""
        return await self._ask(viewer, share_id, now, "preview", path=path, kind=kind)

    @asynccontextmanager
    async def received(
        self, viewer: Reader, share_id: str, verb: str, now: datetime, **arguments: Any
    ) -> AsyncIterator[Received]:
        """Content, by a verb of `FilesService`: `read`, `archive`, or `preview` of bytes. It breaks off when it is not
        shared with the viewer any more."""
        shared = await self.get(viewer, share_id, now)
        with self._turn(shared.owner), said_plainly():
            asked = {**arguments, "within": shared.share.path, "within_kind": shared.share.kind}
            async with self._files.receive(_owner(shared.owner), verb, **asked) as received:
                yield Watched(received, lambda: self._check(viewer, share_id))

    async def _ask(self, viewer: Reader, share_id: str, now: datetime, verb: str, **arguments: Any) -> Json:
        shared = await self.get(viewer, share_id, now)
        with self._turn(shared.owner), said_plainly():
            asked = {**arguments, "within": shared.share.path, "within_kind": shared.share.kind}
            return await self._files.ask(_owner(shared.owner), verb, **asked)

    async def _find(self, share_id: str) -> _Known | None:
        async def read() -> Answer[_Known] | None:
            async with self._database.reading() as db:
                share = await shares.by_id(db, share_id)
                owner = await users.by_id(db, share.owner_id) if share is not None else None
            if share is None:
                return None
            return Answer(_Known(share, owner), (Change("shares", share_id), Change("users", share.owner_id)))

        return await self._known.get(share_id, read)

    def _may(self, known: _Known, viewer: Reader, now: datetime) -> bool:
        if isinstance(viewer, LinkHolder) and not self._settings.strangers:
            return False
        return self._settings.enabled and may_open(known.share, known.owner, viewer, now)

    async def _check(self, viewer: Reader, share_id: str) -> None:
        """Whether it may still be read, by what is known now of both people.

        Raises:
            NotFound: not any more.
        """
        known = await self._find(share_id)
        reader = viewer if isinstance(viewer, LinkHolder) else await self._as_now(viewer)
        if known is None or reader is None or not self._may(known, reader, self._now()):
            raise NotFound(NOT_FOR_YOU)

    async def _as_now(self, viewer: User) -> User | None:
        async def read() -> Answer[User] | None:
            async with self._database.reading() as db:
                found = await users.by_id(db, viewer.id)
            return Answer(found, (Change("users", viewer.id),)) if found is not None else None

        return await self._viewers.get(viewer.id, read)

    @contextmanager
    def _turn(self, owner: User) -> Iterator[None]:
        """Raises FilesBusy where so many read from this owner that the owner's own requests would have to wait."""
        if self._readers[owner.id] >= self._most_readers:
            raise FilesBusy(BUSY, retry_after_seconds=RETRY_SECONDS)
        self._readers[owner.id] += 1
        try:
            yield
        finally:
            self._readers[owner.id] -= 1
            if not self._readers[owner.id]:
                del self._readers[owner.id]


def _owner(user: User) -> Owner:
    return Owner(user.username, user.uid)
