"""Archives of homes, for root: what is opened, which processes work with it, and what gets its name at the end."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from ..errors import ArchiveDamaged, Conflict, LaunchpadError, NotFound
from . import archive_steps as steps
from . import directories
from .archive_folder import ArchiveFolder
from .archives import ArchiveFacts, ArchivesSummary, Progress
from .base import Homes

log = structlog.get_logger(__name__)

# Beside the homes, where no home can have such a name: made and not whole; out of its place to be looked at; to go.
RESTORING, CHECKING, ERASING = ".launchpad-restoring.", ".launchpad-checking.", ".launchpad-erasing."
LEFT = {
    "elsewhere": "another file system is mounted in it",
    "foreign": "files of somebody else's with further names lie in it",
    "unreadable": "some of it could not be read",
    "deep": "folders are nested too deep in it",
}
NO_HOME = "There is no such home folder."
Tell = Callable[[Progress], None]
Work = Callable[[Tell], Awaitable[Progress]]


class DirectArchives:
    """Implements `Archives`.

    Args:
        homes: as this process reaches them; it has a right to them.
        root: of the homes.
        folder: of the archives.
        now: the clock that archives are named by.
    """

    def __init__(self, homes: Homes, root: Path, folder: Path, now: Callable[[], datetime]) -> None:
        self._homes = homes
        self._root = root
        self._folder = ArchiveFolder(folder)
        self._now = now
        self._locks: dict[str, asyncio.Lock] = {}

    async def summary(self) -> ArchivesSummary:
        try:
            return await asyncio.to_thread(self._folder.summary)
        except LaunchpadError as error:
            return ArchivesSummary(str(self._folder.path), obstacle=error.detail)

    async def of(self, username: str) -> Sequence[ArchiveFacts]:
        return await asyncio.to_thread(self._folder.of, username)

    def make(self, username: str, uid: int) -> AsyncIterator[Progress]:
        return self._streamed(username, lambda tell: self._make(username, uid, tell))

    def verify(self, username: str, name: str, sha256: str) -> AsyncIterator[Progress]:
        return self._streamed(username, lambda tell: self._verify(username, name, sha256, tell))

    def restore(self, username: str, uid: int, name: str, sha256: str) -> AsyncIterator[Progress]:
        return self._streamed(username, lambda tell: self._restore(username, uid, name, sha256, tell))

    def copy(
        self, username: str, uid: int, name: str, sha256: str, to_username: str, to_uid: int, folder: str
    ) -> AsyncIterator[Progress]:
        def work(tell: Tell) -> Awaitable[Progress]:
            return self._copy(username, uid, name, sha256, to_username, to_uid, folder, tell)

        return self._streamed(username, work)

    def remove_home(self, username: str, uid: int, name: str, sha256: str) -> AsyncIterator[Progress]:
        return self._streamed(username, lambda tell: self._remove_home(username, uid, name, sha256, tell))

    async def tidy(self) -> int:
        done = await asyncio.to_thread(self._folder.tidy)
        root = await asyncio.to_thread(directories.open_root, self._root)
        try:
            for name in await asyncio.to_thread(os.listdir, root):
                if name.startswith((RESTORING, CHECKING, ERASING)):
                    done += await self._end_what_was_begun(root, name)
        finally:
            os.close(root)
        return done

    # -- the work ----------------------------------------------------------------------------------------------------

    async def _streamed(self, username: str, work: Work) -> AsyncIterator[Progress]:
        """What the work tells, and then what it answers. One at a time for each home."""
        told: asyncio.Queue[Progress] = asyncio.Queue()
        async with self._locks.setdefault(username, asyncio.Lock()):
            task = asyncio.ensure_future(work(told.put_nowait))
            try:
                while not task.done():
                    heard = asyncio.ensure_future(told.get())
                    try:
                        await asyncio.wait({task, heard}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        heard.cancel()
                    if heard.done() and not heard.cancelled():
                        yield heard.result()
                yield replace(task.result(), is_done=True)
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError, LaunchpadError):
                    await task

    async def _make(self, username: str, uid: int, tell: Tell) -> Progress:
        made_at = self._now().astimezone(UTC)
        with ExitStack() as stack:
            home = await self._opened(username, uid, stack)
            draft = await asyncio.to_thread(self._folder.begin, username, made_at)
            stack.callback(draft.close)
            kept = False
            try:
                facts = await steps.pack(home, username, uid, made_at, draft, tell)
                facts = await asyncio.to_thread(draft.keep, facts)
                kept = True
            except OSError as error:
                raise self._folder.unusable(error) from error
            finally:
                if not kept:
                    await asyncio.to_thread(draft.drop)
        log.info("archive.made", username=username, archive=facts.name, entries=facts.entries)
        return await self._verify(username, facts.name, facts.sha256, tell)

    async def _verify(self, username: str, name: str, sha256: str, tell: Tell) -> Progress:
        with ExitStack() as stack:
            archive, facts = await self._archive(username, name, sha256, stack)
            told = await steps.check(archive, sha256, tell)
        first = told["first"]
        if (first.get("username"), first.get("uid"), told["entries"]) != (username, facts.uid, facts.entries):
            raise ArchiveDamaged("The archive is of another home, or its manifest is not the one it was made with.")
        facts = await asyncio.to_thread(self._folder.verified, username, name, sha256, self._now().astimezone(UTC))
        return Progress("verifying", facts.entries, facts.bytes, archive=facts)

    async def _restore(self, username: str, uid: int, name: str, sha256: str, tell: Tell) -> Progress:
        path = self._homes.path_of(username)
        with ExitStack() as stack:
            archive, facts = await self._archive(username, name, sha256, stack)
            if await self._homes.exists(username):
                raise Conflict(f"There is a home folder “{username}” already. Nothing was restored.")
            root = await asyncio.to_thread(directories.open_root, self._root)
            stack.callback(os.close, root)
            beside = f"{RESTORING}{username}.{secrets.token_hex(4)}"
            placed = False
            try:
                await self._homes.stage(username, uid, beside)
                top = _opened_and_locked(root, beside)
                stack.callback(os.close, top)
                await steps.fill(top, archive, facts, uid, tell)
                placed = await asyncio.to_thread(directories.move_if_free, root, beside, path.name)
                os.fsync(root)
            except OSError as error:
                raise directories.unusable_for(self._root, error) from error
            finally:
                if not placed:
                    await steps.erase(root, beside, lambda _files, _bytes: None)
            if not placed:
                raise Conflict(f"There is a home folder “{username}” by now. Nothing was restored.")
        log.info("archive.restored", username=username, archive=name)
        return Progress("restoring", facts.entries, facts.bytes, archive=facts)

    async def _copy(
        self,
        username: str,
        uid: int,
        name: str,
        sha256: str,
        to_username: str,
        to_uid: int,
        folder: str,
        tell: Tell,
    ) -> Progress:
        with ExitStack() as stack:
            target = await self._opened(to_username, to_uid, stack)
            if name:
                archive, _ = await self._archive(username, name, sha256, stack)
                told = await steps.copy_archive(archive, sha256, target, to_uid, folder, tell)
            else:
                home = await self._opened(username, uid, stack)
                told = await steps.copy_home(home, uid, target, to_uid, folder, tell)
        log.info("home.copied", username=username, archive=name, to=to_username)
        return Progress("copying", told["entries"], told["bytes"])

    async def _remove_home(self, username: str, uid: int, name: str, sha256: str, tell: Tell) -> Progress:
        path = self._homes.path_of(username)
        with ExitStack() as stack:
            archive, facts = await self._archive(username, name, sha256, stack)
            _check_removable(facts, uid)
            home = await self._opened(username, uid, stack)
            root = await asyncio.to_thread(directories.open_root, self._root)
            stack.callback(os.close, root)
            checked, erased = (f"{kind}{username}.{secrets.token_hex(4)}" for kind in (CHECKING, ERASING))
            os.rename(path.name, checked, src_dir_fd=root, dst_dir_fd=root)  # from here on nobody comes by it
            with suppress(OSError):  # a program of its owner's may hold a lock of its own
                fcntl.flock(home, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_same = False
            try:
                await steps.compare(home, archive, facts, uid, tell, since=True)
                is_same = True
            except Conflict as error:
                raise Conflict(
                    f"The home folder has changed since it was archived, so it was not removed: {error.detail} "
                    "Archive it again."
                ) from error
            finally:
                if is_same:
                    os.rename(checked, erased, src_dir_fd=root, dst_dir_fd=root)
                else:
                    directories.move_if_free(root, checked, path.name)
            os.fsync(root)
            await steps.erase(root, erased, steps.stage("removing", tell))
        log.info("home.removed", username=username, archive=name)
        return Progress("removing", facts.entries, facts.bytes)

    async def _end_what_was_begun(self, root: int, name: str) -> bool:
        """Of somebody who was killed: nothing half restored stays, a home that was only looked at gets its place back,
        and one that was being removed, as it was archived, is gone."""
        try:
            top = _opened_and_locked(root, name)
        except OSError:
            return False  # somebody works on it, or it is gone
        try:
            log.warning("archives.left_behind", name=name)
            if name.startswith(CHECKING):
                username = name.removeprefix(CHECKING).rpartition(".")[0]
                return await asyncio.to_thread(directories.move_if_free, root, name, username)
            await steps.erase(root, name, lambda _files, _bytes: None)
            return True
        finally:
            os.close(top)

    # -- what is handed to processes ---------------------------------------------------------------------------------

    async def _opened(self, username: str, uid: int, stack: ExitStack) -> int:
        path = self._homes.path_of(username)

        def opening() -> int | None:
            root = directories.open_root(self._root)
            try:
                return directories.open_home(root, path, uid)
            finally:
                os.close(root)

        home = await asyncio.to_thread(opening)
        if home is None:
            raise NotFound(NO_HOME)
        stack.callback(os.close, home)
        return home

    async def _archive(self, username: str, name: str, sha256: str, stack: ExitStack) -> tuple[int, ArchiveFacts]:
        opened, facts = await asyncio.to_thread(self._folder.open, username, name, sha256)
        stack.callback(os.close, opened)
        return opened, facts


def _opened_and_locked(root: int, name: str) -> int:
    """Raises OSError where somebody else holds it."""
    opened = os.open(name, directories.DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        raise
    return opened


def _check_removable(facts: ArchiveFacts, uid: int) -> None:
    if facts.verified_at is None:
        raise Conflict("The archive was not verified, so the home folder stays.")
    if facts.uid != uid:
        raise Conflict("The archive is of another user's home folder of this name, so the home folder stays.")
    if not facts.is_complete:
        why = [text for kind, text in LEFT.items() if facts.left.get(kind)]
        why += ["files changed while they were archived"] if facts.changed else []
        raise Conflict(f"The archive does not have all of the home folder, so that stays: {'; '.join(why)}.")
