"""Folders made, things moved, copied and deleted."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ...errors import Conflict
from .beneath import names_of
from .content import keep
from .copying import Copier
from .home import TAKEN, UPLOADS, Home, entry_of, exists, flag, refusal_of, rename, told_path
from .line import is_full
from .tree import Walk, ident_of

MOST_TOLD = 20


def make_folder(home: Home, request: dict[str, Any]) -> None:
    with home.place(request.get("path")) as (folder, name):
        os.mkdir(name, 0o700, dir_fd=folder)
        home.line.say(entry=entry_of(folder, name))


def move(home: Home, request: dict[str, Any]) -> None:
    """Another name or another place; what has it is replaced only on demand, and folders that hold something never."""
    with home.place(request.get("from")) as (source, name), home.place(request.get("to")) as (target, new_name):
        try:
            rename(source, name, target, new_name, replace=flag(request, "replace"))
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise Conflict("The two places are on different disks; copy it and delete the original.") from error
            if error.errno in (errno.EISDIR, errno.ENOTDIR) and exists(source, name):
                raise Conflict(TAKEN) from error
            raise
        home.line.say(entry=entry_of(target, new_name))


def copy(home: Home, request: dict[str, Any]) -> None:
    """All of it under a name that is free, or nothing: it is put together elsewhere and gets its place when whole."""
    names = names_of(request.get("from"))
    with home.place(request.get("to")) as (target, new_name):
        if exists(target, new_name):
            raise Conflict(TAKEN)
        if names:
            with home.place(request.get("from")) as (source, name):
                os.stat(name, dir_fd=source, follow_symlinks=False)
        with staged(home) as staging:
            copier = Copier(home, ident_of(staging.folder))
            copy_into(copier, home, request.get("from"), staging)
            rename(staging.folder, staging.name, target, new_name)
            staging.placed = True
        keep(target)
        home.line.say(entry=entry_of(target, new_name), **copier.told())


@dataclass
class Staging:
    """Where something is put together: a name in an opened folder, free at first. `placed`: it has its place by now."""

    folder: int
    name: str
    placed: bool = False


@contextmanager
def staged(home: Home) -> Iterator[Staging]:
    """What has not got its place at the end goes."""
    folder = home.made_folder(UPLOADS)
    staging = Staging(folder, f"{secrets.token_hex(16)}.copy")
    try:
        yield staging
    finally:
        if not staging.placed:
            with suppress(OSError):
                remove_tree(home, folder, staging.name, quietly=True)
        os.close(folder)


def copy_into(copier: Copier, source: Home, path: object, staging: Staging) -> None:
    """Copies a file or folder; all of a home or snapshot where the path is none."""
    if names_of(path):
        with source.place(path) as (folder, name):
            copier.copy(folder, name, staging.folder, staging.name)
    else:
        copier.copy_folder(source.root, staging.folder, staging.name)


def delete(home: Home, request: dict[str, Any]) -> None:
    """For ever. What cannot be deleted is told and left, the rest goes."""
    with home.place(request.get("path")) as (folder, name):
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        left = remove_tree(home, folder, name)
    _answer(home, left)


def empty(home: Home, request: dict[str, Any]) -> None:
    """What lies in each of some folders, but not the folders; one that is not there is empty."""
    left: list[str] = []
    for path in request.get("paths") or ():
        try:
            with home.folder(path) as folder:
                left += remove_inside(home, folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
    _answer(home, left)


def _answer(home: Home, left: list[str]) -> None:
    home.line.say(done=not left, left=left[:MOST_TOLD], left_count=len(left))


def remove_tree(home: Home, folder: int, name: str, *, quietly: bool = False) -> list[str]:
    """Removes something and all that is in it.

    Args:
        quietly: also when nobody waits for it any more.

    Returns:
        What could not be removed, each with the reason; the first of it may be all.
    """
    try:
        _unlink(folder, name)
    except FileNotFoundError:
        return []
    except OSError as error:
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return [_why(name, error)]
    else:
        return []
    try:
        inside = home.beneath.child(folder, name)
    except OSError as error:
        return [_why(name, error)]
    try:
        _open_up(inside)
        left = remove_inside(home, inside, quietly=quietly)
    finally:
        os.close(inside)
    if not left:
        try:
            _rmdir(folder, name)
        except OSError as error:
            left.append(_why(name, error))
    return left


def remove_inside(home: Home, top: int, *, quietly: bool = False) -> list[str]:
    left: list[str] = []
    _open_up(top)
    for step in Walk(home.beneath, top):
        if not quietly:
            home.line.look()
        try:
            if step.kind == "entry":
                _unlink(step.folder, step.name)
            elif step.kind == "down":
                _open_up(step.inside)
            elif step.kind == "up":
                _rmdir(step.folder, step.name)
            elif step.trouble is not None and step.name:
                raise step.trouble
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno == errno.ENOTEMPTY and left:
                continue  # what is left in it was told
            left.append(_why("/".join([*step.names, step.name]), error))
    return left


def _why(path: str, error: OSError) -> str:
    return f"{told_path(path)}: {refusal_of(error).detail}"


def _open_up(folder: int) -> None:
    """Its owner may take things out of a folder that was closed for writing."""
    mode = os.fstat(folder).st_mode
    if mode & 0o700 != 0o700:
        with suppress(OSError):
            os.fchmod(folder, stat.S_IMODE(mode) | 0o700)


def _unlink(folder: int, name: str) -> None:
    """Where even removing needs room (btrfs, at the end of its quota), the content goes first: that gives some back."""
    try:
        os.unlink(name, dir_fd=folder)
    except OSError as error:
        if not is_full(error):
            raise
        _cut_short(folder, name)
        os.unlink(name, dir_fd=folder)


def _rmdir(folder: int, name: str) -> None:
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError as error:
        if not is_full(error):
            raise
        os.sync()  # what was removed before counts as free from then on
        os.rmdir(name, dir_fd=folder)


def _cut_short(folder: int, name: str) -> None:
    """Only of a file without another name: that would lose its content as well."""
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with suppress(OSError):
        file = os.open(name, flags, dir_fd=folder)
        try:
            status = os.fstat(file)
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                os.ftruncate(file, 0)
                os.fsync(file)
        finally:
            os.close(file)
    os.sync()
