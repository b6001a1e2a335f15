"""Works on homes in the background, one after the other: archives, checks of them, restores, copies, removals.

What is asked for is a row of the store; the process that owns the work takes one after the other, and begins again what
was under way in a process that is gone: each is whole or did not happen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from time import monotonic

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.instances import LIVE
from ..domain.leaving import HomeArchive, HomeWork, WorkKind, WorkState, left_in_words
from ..domain.naming import new_id
from ..domain.sizes import describe_bytes
from ..domain.users import User
from ..errors import Conflict, InvalidInput, LaunchpadError, NotFound
from ..settings import LeavingSettings
from ..storage.archives import ArchiveFacts, Archives, ArchivesSummary, Progress
from ..store import audit, home_archives, home_work, instances, leaving, users
from ..store.database import Database
from .audit import Actor
from .background import Beat, Loop, continuous
from .files import FilesService
from .leaving_mails import LeavingMails
from .signals import Signal

log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
LATE_AFTER_SECONDS = 3600.0  # a disk that is busy may let it wait
TOLD_SECONDS = 2.0
KEPT = timedelta(days=400)
SHOWN = 20
REASON_CHARACTERS = 500
GONE = "This user does not exist any more."


class HomeWorkService:
    def __init__(
        self,
        database: Database,
        settings: LeavingSettings,
        archives: Archives,
        files: FilesService,
        mails: LeavingMails,
    ) -> None:
        self._database = database
        self._settings = settings
        self._archives = archives
        self._files = files
        self._mails = mails
        self._asked = Signal()

    def loop(self, now: Callable[[], datetime]) -> Loop:
        return continuous("home-work", lambda beat: self._go_on(now, beat), late_after_seconds=LATE_AFTER_SECONDS)

    # -- asking ------------------------------------------------------------------------------------------------------

    async def ask(
        self,
        kind: WorkKind,
        user: User,
        actor: Actor,
        now: datetime,
        *,
        archive_id: str | None = None,
        to: User | None = None,
        reason: str = "",
    ) -> HomeWork:
        """Queues work; the same that is open already is the answer.

        Args:
            archive_id: needed for all but an archive, and a copy of the home as it is.
            to: who gets a copy; `reason`: why, which stands in the owner's ledger.

        Raises:
            NotFound: this user has no such archive.
            InvalidInput: a copy needs a reason, and somebody active who gets it.
            Conflict: the user's home is in use, or is there where it has to be missing.
        """
        _check_copy(kind, to, reason)
        async with self._database.transaction() as db:
            if archive_id is not None and await home_archives.by_id(db, user.id, archive_id) is None:
                raise NotFound("There is no such archive of this user's home folder.")
            if archive_id is None and kind not in (WorkKind.ARCHIVE, WorkKind.COPY):
                raise InvalidInput("Say which archive is meant.", fields={"archive": "choose one"})
            if kind is WorkKind.REMOVE:
                await _check_not_used(db, user.id)
            work = await self.queue(
                db,
                HomeWork(
                    new_id(),
                    kind,
                    user.id,
                    now,
                    actor.name,
                    actor.client,
                    actor.user_id,
                    actor.is_automatic,
                    archive_id=archive_id,
                    to_user_id=to.id if to is not None else None,
                    reason=reason.strip(),
                ),
            )
            await self._record(db, work, "home.work_requested", user, {"work": kind.value, **_given(to, work)}, now)
        self._asked.set()
        return work

    async def queue(self, db: AsyncConnection, work: HomeWork) -> HomeWork:
        """In a transaction; what is open of that kind already stands for it."""
        same = (work.kind, work.archive_id, work.to_user_id)
        for one in await home_work.open_of_user(db, work.user_id):
            if (one.kind, one.archive_id, one.to_user_id) == same:
                return one
        await home_work.add(db, work)
        return work

    def wake(self) -> None:
        """Something was queued."""
        self._asked.set()

    # -- looking -----------------------------------------------------------------------------------------------------

    async def get(self, work_id: str) -> HomeWork:
        """Raises NotFound."""
        async with self._database.reading() as db:
            found = await home_work.by_id(db, work_id)
        if found is None:
            raise NotFound("There is no such work.")
        return found

    async def of_user(self, user: User) -> Sequence[HomeWork]:
        """The newest first."""
        async with self._database.reading() as db:
            return await home_work.of_user(db, user.id, SHOWN)

    async def archives_of(self, user: User) -> Sequence[HomeArchive]:
        """The newest first."""
        async with self._database.reading() as db:
            return await home_archives.of_user(db, user.id)

    async def summary(self) -> ArchivesSummary:
        """Of all archives on the disk. Raises HomeUnavailable."""
        return await self._archives.summary()

    # -- working -----------------------------------------------------------------------------------------------------

    async def _go_on(self, now: Callable[[], datetime], beat: Beat) -> None:
        await self.begin_anew(now())
        beat()
        while True:
            if not await self.run_next(now, beat):
                beat()
                await self._asked.wait(LOOK_SECONDS)

    async def begin_anew(self, now: datetime) -> None:
        """For who has just come to own the work: what another one has left behind is tidied up, and begun again."""
        async with self._database.transaction() as db:
            again = await home_work.queue_again(db)
            await home_work.prune(db, now - KEPT)
        try:
            done = await self._archives.tidy()
        except LaunchpadError as error:
            log.warning("archives.not_tidied", detail=error.detail)
        else:
            if again or done:
                log.info("archives.tidied", begun_again=again, removed=done)

    async def run_next(self, now: Callable[[], datetime], beat: Beat = lambda: None) -> HomeWork | None:
        """The one that has waited longest, to its end, and what became of it; None: there is none."""
        async with self._database.reading() as db:
            if await home_work.next_queued(db) is None:
                return None  # mostly; nothing is written for it
        async with self._database.transaction() as db:
            work = await home_work.next_queued(db)
            if work is None or not await home_work.begin(db, work.id, now()):
                return None
            user = await users.by_id(db, work.user_id)
            archive = await home_archives.by_id(db, work.user_id, work.archive_id) if work.archive_id else None
            to = await users.by_id(db, work.to_user_id) if work.to_user_id else None
            used = await _why_used(db, work.user_id) if work.kind is WorkKind.REMOVE else ""
        try:
            if user is None:
                raise NotFound(GONE)
            if used:
                raise Conflict(used)
            if to is not None:
                await self._files.make_home(to)
            last = await self._follow(work, self._told(work, user, archive, to), beat)
            await self._done(work, user, archive, to, last, now())
        except LaunchpadError as error:
            log.error("home_work.failed", work=work.id, kind=work.kind, user=work.user_id, detail=error.detail)
            async with self._database.transaction() as db:
                await home_work.end(db, work.id, WorkState.FAILED, error.detail, now())
        self._mails.wake()
        return await self.get(work.id)

    def _told(
        self, work: HomeWork, user: User, archive: HomeArchive | None, to: User | None
    ) -> AsyncIterator[Progress]:
        name, sha256 = (archive.name, archive.sha256) if archive is not None else ("", "")
        if work.kind is WorkKind.ARCHIVE:
            return self._archives.make(user.username, user.uid)
        if work.kind is WorkKind.COPY:
            if to is None:
                raise NotFound("Who should get the copy does not exist any more.")
            folder = f"Files of {user.username} ({work.asked_at:%Y-%m-%d %H.%M})"
            return self._archives.copy(user.username, user.uid, name, sha256, to.username, to.uid, folder)
        if archive is None:
            raise NotFound("There is no such archive any more.")
        if work.kind is WorkKind.VERIFY:
            return self._archives.verify(user.username, name, sha256)
        if work.kind is WorkKind.RESTORE:
            return self._archives.restore(user.username, user.uid, name, sha256)
        return self._archives.remove_home(user.username, user.uid, name, sha256)

    async def _follow(self, work: HomeWork, told: AsyncIterator[Progress], beat: Beat) -> Progress:
        last, written_at = Progress(""), 0.0
        async for last in told:
            beat()
            if monotonic() - written_at >= TOLD_SECONDS:
                written_at = monotonic()
                async with self._database.transaction() as db:
                    await home_work.progress(db, work.id, last.stage, last.files, last.bytes)
        if not last.is_done:
            raise Conflict("The work was not completed.")
        return last

    async def _done(
        self, work: HomeWork, user: User, archive: HomeArchive | None, to: User | None, last: Progress, now: datetime
    ) -> None:
        async with self._database.transaction() as db:
            details: dict[str, str | int | None] = {}
            if work.kind is WorkKind.ARCHIVE and last.archive is not None:
                archive = _recorded(user, last.archive)
                await home_archives.add(db, archive)
                await self._archived(db, user, archive, now)
                left = left_in_words(archive.left_out, archive.changed)
                details |= {"files": archive.entries, "size": describe_bytes(archive.bytes), "left out": left or None}
            elif work.kind is WorkKind.VERIFY and archive is not None:
                await home_archives.verified(db, archive.id, now)
            elif work.kind is WorkKind.RESTORE:
                await self._restored(db, user)
            elif work.kind is WorkKind.REMOVE and archive is not None:
                await self._removed(db, user, archive, now)
            if archive is not None:
                details["archive"] = archive.name
            details |= _given(to, work)
            await self._record(db, work, ACTIONS[work.kind], user, details, now)
            await home_work.progress(db, work.id, last.stage, last.files, last.bytes)
            await home_work.end(db, work.id, WorkState.DONE, _came_of_it(archive, last), now)

    async def _record(
        self,
        db: AsyncConnection,
        work: HomeWork,
        action: str,
        user: User,
        details: Mapping[str, str | int | None],
        now: datetime,
    ) -> None:
        """In the owner's ledger also where it was due by itself: it is done to their files, and they should see it."""
        by_themselves = work.actor_id == user.id
        await audit.add(
            db,
            at=now,
            actor=work.actor,
            client=work.client,
            action=action,
            subject=user.email,
            details={name: value for name, value in details.items() if value is not None},
            owner_id=None if by_themselves else user.id,
        )

    async def _archived(self, db: AsyncConnection, user: User, archive: HomeArchive, now: datetime) -> None:
        one = await leaving.of(db, user.id)
        if one is None or user.is_active:
            return
        remove_at = None
        if self._settings.remove_home:
            remove_at = now + timedelta(days=self._settings.remove_home_after_days)
        is_first = one.archived_at is None
        one = replace(one, archive_id=archive.id, archived_at=now, remove_home_at=remove_at)
        await leaving.put(db, one)
        if is_first:
            await self._mails.archived(db, user, archive, one, now)

    async def _restored(self, db: AsyncConnection, user: User) -> None:
        one = await leaving.of(db, user.id)
        if one is None:
            return
        if user.is_active:
            await leaving.drop(db, user.id)
        else:
            await leaving.put(db, replace(one, home_removed_at=None, remove_home_at=None))

    async def _removed(self, db: AsyncConnection, user: User, archive: HomeArchive, now: datetime) -> None:
        one = await leaving.of(db, user.id)
        if one is not None:
            archived_at = one.archived_at or now
            await leaving.put(db, replace(one, archive_id=archive.id, archived_at=archived_at, home_removed_at=now))
        await self._mails.removed(db, user, archive, now)


ACTIONS = {
    WorkKind.ARCHIVE: "home.archived",
    WorkKind.VERIFY: "home.archive_verified",
    WorkKind.RESTORE: "home.restored",
    WorkKind.REMOVE: "home.removed",
    WorkKind.COPY: "home.copied",
}


def _given(to: User | None, work: HomeWork) -> dict[str, str | int | None]:
    return {"reason": work.reason or None, "given to": to.email if to is not None else None}


def _check_copy(kind: WorkKind, to: User | None, reason: str) -> None:
    if kind is not WorkKind.COPY:
        return
    if to is None or not to.is_active:
        raise InvalidInput("Choose somebody who can sign in.", fields={"to": "choose the address of an active user"})
    if not 0 < len(reason.strip()) <= REASON_CHARACTERS:
        text = f"write why, in at most {REASON_CHARACTERS} characters; the owner can read it"
        raise InvalidInput("A copy of somebody's files needs a reason.", fields={"reason": text})


async def _why_used(db: AsyncConnection, user_id: str) -> str:
    """Why a home may not be removed now; empty: it may."""
    user = await users.by_id(db, user_id)
    if user is None or user.is_active:
        return "Only the home folder of a suspended user can be removed. Suspend the user first."
    if await instances.of_owner(db, user_id, states=LIVE):
        return "An instance of this user is still active. Wait until it has stopped."
    return ""


async def _check_not_used(db: AsyncConnection, user_id: str) -> None:
    if why := await _why_used(db, user_id):
        raise Conflict(why)


def _recorded(user: User, facts: ArchiveFacts) -> HomeArchive:
    return HomeArchive(
        new_id(),
        user.id,
        facts.name,
        facts.username,
        facts.uid,
        facts.made_at,
        facts.entries,
        facts.bytes,
        facts.stored_bytes,
        facts.sha256,
        facts.changed,
        facts.left,
        facts.verified_at,
    )


def _came_of_it(archive: HomeArchive | None, last: Progress) -> str:
    said = f"{last.files} files and folders, {describe_bytes(last.bytes)}."
    if archive is not None and last.archive is not None and (left := left_in_words(archive.left_out, archive.changed)):
        said += f" Not archived: {left}."
    return said
