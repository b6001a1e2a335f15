"""Brings people's files over from the platform's predecessor. For root; the portal's state is not touched here.

Of the accounts, which a process without root has looked up, nothing is believed that would lead root elsewhere: names
and uids have to be such as this platform gives, and a home has to be its uid's directory.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..domain.original import Person
from ..domain.sizes import describe_bytes
from ..domain.snapshots import Cause
from ..errors import HomeUnavailable, InvalidInput, LaunchpadError
from ..storage import moving
from ..storage.base import Homes
from ..storage.moving import Carried
from ..storage.snapshots import Snapshots
from .importing import Account, Standing

LEFT_WORDS = {
    "special": "pipes, sockets or devices",
    "elsewhere": "on another file system",
    "unreadable": "could not be read",
    "deep": "nested in more than 400 folders",
}


@dataclass(frozen=True)
class Brought:
    """What became of one person's files.

    Attributes:
        folders: those that there were.
        done: everything there was is in the home (or, in a rehearsal, would be).
        notes: sentences for the administrator: why it is not, what was left out.
    """

    address: str
    folders: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0
    kept: int = 0
    done: bool = True
    notes: tuple[str, ...] = ()

    def with_trouble(self, text: str) -> Brought:
        return replace(self, done=False, notes=(*self.notes, text))


class FileImport:
    """One run over everybody's files.

    Args:
        homes: as root reaches them.
        snapshots: likewise; one is taken before anything is brought.
        root: `homes.root`.
        uid_base: the first uid that this platform gives.
        user_data: the folder that holds the folders.
        only_count: a rehearsal.
        despite_running: also bring the files of those whose instances run, as far as the predecessor knows.

    Raises:
        InvalidInput: there is no such folder.
    """

    def __init__(
        self,
        homes: Homes,
        snapshots: Snapshots,
        root: Path,
        uid_base: int,
        user_data: Path,
        *,
        only_count: bool = False,
        despite_running: bool = False,
    ) -> None:
        if not user_data.is_dir():
            raise InvalidInput(f"There is no folder {user_data}.")
        self._homes = homes
        self._snapshots = snapshots
        self._root = root
        self._uid_base = uid_base
        self._user_data = user_data
        self._only_count = only_count
        self._despite_running = despite_running

    async def bring(self, person: Person, account: Account, progress: Callable[[Carried, int], None]) -> Brought:
        """Brings one person's folders into their home; what is there already is kept. Never raises for one person.

        Args:
            progress: is told what was brought so far, and of how many bytes in all.
        """
        brought = Brought(person.address)
        for folder in person.folders:
            try:
                source = await asyncio.to_thread(moving.open_folder, self._user_data, folder)
            except LaunchpadError as error:
                brought = brought.with_trouble(error.detail)
                continue
            if source is None:
                continue
            try:
                brought = replace(brought, folders=(*brought.folders, folder))
                if reason := self._why_not(person, account, folder):
                    brought = brought.with_trouble(reason)
                else:
                    brought = await self._bring_one(account, source, brought, progress)
            except LaunchpadError as error:
                brought = brought.with_trouble(error.detail)
            finally:
                os.close(source)
        return brought

    def unclaimed(self, people: Sequence[Person]) -> list[str]:
        """Folders that nobody of `people` can have."""
        claimed = {folder for person in people for folder in person.folders}
        return sorted(name for name in os.listdir(self._user_data) if name not in claimed)

    def _why_not(self, person: Person, account: Account, folder: str) -> str | None:
        if folder in person.shared:
            return (
                f"{folder} was shared by several users, so the owner of its files is not known. Name the new owner: "
                f"--folder {folder}={person.address}"
            )
        if account.standing is Standing.REFUSED:
            return "The address is of a domain that may not sign in (sign_in.allowed_domains)."
        if person.running and not self._despite_running:
            return (
                f"Still running, according to the original: {', '.join(person.running)}. Stop it first (docker stop), "
                "or use --despite-running if it no longer exists."
            )
        return None

    async def _bring_one(
        self, account: Account, source: int, brought: Brought, progress: Callable[[Carried, int], None]
    ) -> Brought:
        home = await self._open_home(account)
        try:
            uid = self._uid_base if account.uid is None else account.uid
            wanted = await moving.carry(source, home, uid, only_count=True)
            if not wanted.whole:
                return brought.with_trouble("Its files could not be counted; see the log.")
            if self._only_count:
                return _counted(brought, wanted, await self._shortage(account, home, wanted))
            if home is None or wanted.files:
                if home is not None:
                    os.close(home)
                home = await self._make_home(account)
            if shortage := await self._shortage(account, home, wanted):
                return brought.with_trouble(shortage)
            if account.username is not None and wanted.files:
                try:
                    await self._snapshots.take(account.username, uid, Cause.BEFORE)
                except HomeUnavailable as error:
                    text = f"No snapshot could be taken first, so nothing was imported: {error.detail}"
                    return brought.with_trouble(text)
            carried = await moving.carry(
                source, home, uid, only_count=False, progress=lambda so_far: progress(so_far, wanted.bytes)
            )
            trouble = None
            if carried.no_room:
                trouble = "The disk or the quota is full. Free some space, and run it again."
            elif not carried.whole:
                trouble = "It was interrupted; see the log. Run it again."
            return _counted(brought, carried, trouble)
        finally:
            if home is not None:
                os.close(home)

    async def _open_home(self, account: Account) -> int | None:
        """The home's descriptor; None before it is made."""
        if account.username is None or account.uid is None:
            return None
        if not self._uid_base <= account.uid < 2**31:
            raise HomeUnavailable(f"The uid {account.uid} is outside the range of this platform's users.")
        return await asyncio.to_thread(moving.open_home, self._root, account.username, account.uid)

    async def _make_home(self, account: Account) -> int | None:
        if account.username is not None and account.uid is not None:
            await self._homes.prepare(account.username, account.uid, account.limit_bytes)
        return await self._open_home(account)

    async def _shortage(self, account: Account, home: int | None, wanted: Carried) -> str | None:
        """What is said where there is not enough room; nobody's disk is filled to see whether it fits."""
        state = await asyncio.to_thread(os.statvfs, self._root if home is None else home)
        rooms = {"the disk has": state.f_bavail * state.f_frsize}
        if account.username is not None and home is not None:
            use = await self._homes.use(account.username)
            if use.limit_bytes is not None:
                rooms["the home folder's limit leaves"] = max(0, use.limit_bytes - (use.used_bytes or 0))
        words, room = min(rooms.items(), key=lambda item: item[1])
        if wanted.bytes_needed <= room:
            return None
        return f"Not enough space: {describe_bytes(wanted.bytes_needed)} to import, {words} {describe_bytes(room)}."


def _counted(brought: Brought, carried: Carried, trouble: str | None) -> Brought:
    notes = [f"{LEFT_WORDS[why]} ({count})" for why, count in sorted(carried.left.items())]
    notes += [f"could not be written ({carried.failed})"] if carried.failed else []
    if notes:
        examples = ", ".join(map(repr, carried.examples))
        notes = [f"Left out: {', '.join(notes)}; for example {examples}."]
    counted = replace(
        brought,
        files=brought.files + carried.files,
        bytes=brought.bytes + carried.bytes,
        kept=brought.kept + carried.kept,
        done=brought.done and not carried.failed and "unreadable" not in carried.left,
        notes=(*brought.notes, *notes),
    )
    return counted.with_trouble(trouble) if trouble else counted
