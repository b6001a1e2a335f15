"""What stood in a snapshot is put into the home again: beside what is there now, or in its place."""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from typing import Any

from ...errors import Conflict, InvalidInput, NoRoom, NotFound
from . import trash
from .beneath import FOLDER, names_of
from .changes import copy_into, staged
from .content import keep
from .copying import Copier
from .home import TAKEN, UPLOADS, Home, entry_of, exists, flag, rename
from .tree import Ident, ident_of

OWN_FOLDERS = (UPLOADS, trash.TRASH)
BESIDE = "Restore it beside what is there instead."

_libc = ctypes.CDLL(None, use_errno=True)


def restore(home: Home, snapshot: Home, request: dict[str, Any]) -> None:
    """All of it, or nothing. It is put together elsewhere, sharing blocks with the snapshot where the file system can,
    and gets its place by one rename when it is whole.

    `to`: a free path; or `in_place`: where it was, and what stands there now goes to the Trash by the same rename.
    Once all of it is there, and counted by the file system, whoever asks is told so and decides by `go` whether it
    fits: shared blocks are counted only later, so that the kernel itself would not refuse what goes beyond a limit.
    """
    names, in_place = names_of(request.get("path")), flag(request, "in_place")
    target = names if in_place else names_of(request.get("to"))
    _check(names, target, in_place=in_place)
    if names:
        with snapshot.place(request.get("path")) as (source, name):
            os.stat(name, dir_fd=source, follow_symlinks=False)
    if not in_place and _is_taken(home, target):
        raise Conflict(TAKEN)
    with staged(home) as staging:
        copier = Copier(home, _own_of(snapshot))
        copy_into(copier, snapshot, request.get("path"), staging)
        if in_place and copier.closed:
            raise Conflict(f"Not all of it can be read, so nothing was replaced. {BESIDE}")
        onto_the_disk(staging.folder)
        home.line.say(staged=True, **copier.told())
        if home.line.hear().get("go") is not True:
            raise NoRoom("There is not enough space in the home folder to restore this. Delete something first.")
        folder = home.made_folder(target[:-1])
        try:
            kept = _put(home, staging.folder, staging.name, folder, target, request, in_place=in_place)
            staging.placed = True
            keep(folder)
            entry = entry_of(folder, target[-1])
        finally:
            os.close(folder)
    home.line.say(entry=entry, path="/".join(target), trashed=kept, **copier.told())


def _check(names: list[str], target: list[str], *, in_place: bool) -> None:
    if not target and in_place:
        raise Conflict(f"The whole home folder cannot be replaced. {BESIDE}")
    if not target:
        raise InvalidInput("Say where it is to be restored.")
    for own in OWN_FOLDERS:
        inside, above = tuple(target[: len(own)]) == own, own[: len(target)] == tuple(target)
        if in_place and (inside or above):
            raise Conflict(f"The Trash and uploads are in use there. {BESIDE}")


def _is_taken(home: Home, target: list[str]) -> bool:
    with suppress(FileNotFoundError), home.place("/".join(target)) as (folder, name):
        return exists(folder, name)
    return False


def _own_of(snapshot: Home) -> Ident:
    """What was being put together at the time, which is part of nothing."""
    try:
        staging = snapshot.beneath.open(list(UPLOADS), FOLDER)
    except OSError:
        return -1, -1
    try:
        return ident_of(staging)
    finally:
        os.close(staging)


def onto_the_disk(folder: int) -> None:
    """All of the file system, whose quotas are counted by that."""
    again = os.open(".", FOLDER, dir_fd=folder)
    try:
        if _libc.syncfs(again) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(again)


def _put(
    home: Home, staging: int, part: str, folder: int, target: list[str], request: dict[str, Any], *, in_place: bool
) -> str | None:
    """Returns: what that which stood there is called in the Trash."""
    try:
        if in_place and exists(folder, target[-1]):
            return trash.exchange(home, staging, part, folder, target, request)
        rename(staging, part, folder, target[-1])
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise Conflict("That place is on another disk. Restore it elsewhere.") from error
        if error.errno == errno.ENOENT:
            raise NotFound("The folder was removed meanwhile. Please try again.") from error
        raise
    return None
