"""Homes as plain directories: right owner and mode, no limit on their size."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import re
import secrets
import stat
from pathlib import Path

import structlog

from ..errors import HomeUnavailable
from .base import HomeUse

log = structlog.get_logger(__name__)

HOME_MODE = 0o700
USERNAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
RENAME_NOREPLACE = 1  # renameat2(2)
_libc = ctypes.CDLL(None, use_errno=True)


class PlainHomes:
    """Works on any file system. `storage_bytes` is recorded with the instance, but not enforced."""

    enforces_limits = False

    def __init__(self, root: Path) -> None:
        self.root = root

    def path_of(self, username: str) -> Path:
        if not USERNAME.fullmatch(username):
            raise HomeUnavailable(f"“{username[:40]}” cannot be the name of a home.")
        return self.root / username

    async def exists(self, username: str) -> bool:
        return await asyncio.to_thread(os.path.lexists, self.path_of(username))

    async def prepare(self, username: str, uid: int, limit_bytes: int | None) -> Path:
        path = self.path_of(username)
        await asyncio.to_thread(self._prepare, username, uid)
        return path

    async def use(self, username: str) -> HomeUse:
        return HomeUse(used_bytes=None, limit_bytes=None)

    async def check(self) -> None:
        await asyncio.to_thread(self._check)

    # -- in a thread -------------------------------------------------------------------------------------------------

    def _open_root(self) -> int:
        try:
            return os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unusable(error) from error

    def _prepare(self, username: str, uid: int) -> None:
        root = self._open_root()
        try:
            if not self._is_there(root, username, uid):
                self._make(root, username, uid)
        finally:
            os.close(root)

    def _is_there(self, root: int, username: str, uid: int) -> bool:
        """Whether the home exists and is the user's own.

        Raises:
            HomeUnavailable: something else has its name; it is left untouched.
        """
        try:
            found = os.stat(username, dir_fd=root, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unusable(error) from error
        if not stat.S_ISDIR(found.st_mode):
            log.error("home.not_a_directory", home=str(self.root / username))
            raise HomeUnavailable(
                "Your home is not a directory on the server, so it is not used. Please tell your administrator."
            )
        if found.st_uid != uid:
            log.error("home.foreign_owner", home=str(self.root / username), owner=found.st_uid, expected=uid)
            raise HomeUnavailable(
                "Your home belongs to somebody else on the server, so it is not used. Please tell your administrator."
            )
        return True

    def _make(self, root: int, username: str, uid: int) -> None:
        """Makes it beside its place and moves it there when it is whole, so that a crash leaves no half home."""
        beside = f".{username}.{secrets.token_hex(4)}"
        try:
            self._make_empty(root, beside)
            home = os.open(beside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
            try:
                os.fchown(home, uid, uid)
                os.fchmod(home, HOME_MODE)
            finally:
                os.close(home)
            if not _move_if_free(root, beside, username):
                self._remove_empty(root, beside)
                self._is_there(root, username, uid)  # another launch was quicker, or something is in the way
        except OSError as error:
            raise self._unusable(error) from error

    def _make_empty(self, root: int, name: str) -> None:
        os.mkdir(name, HOME_MODE, dir_fd=root)

    def _remove_empty(self, root: int, name: str) -> None:
        os.rmdir(name, dir_fd=root)

    def _check(self) -> None:
        root = self._open_root()
        probe = f".launchpad-probe.{secrets.token_hex(4)}"
        try:
            os.mkdir(probe, HOME_MODE, dir_fd=root)
            os.rmdir(probe, dir_fd=root)
        except OSError as error:
            raise self._unusable(error) from error
        finally:
            os.close(root)

    def _unusable(self, error: OSError) -> HomeUnavailable:
        log.error("home.root_unusable", root=str(self.root), error=str(error))
        why = {
            errno.ENOENT: "does not exist",
            errno.ENOTDIR: "is not a directory",
            errno.EACCES: "may not be written",
            errno.EPERM: "may not be written",
            errno.EROFS: "is on a read-only file system",
            errno.ENOSPC: "is on a full disk",
            errno.EDQUOT: "has used up its quota",
        }.get(error.errno or 0, "cannot be used")
        return HomeUnavailable(f"Homes cannot be made: {self.root} {why} (setting homes.root).")


def _move_if_free(root: int, source: str, target: str) -> bool:
    """Renames within `root`; False when the target exists, which is then left as it is."""
    result = _libc.renameat2(root, source.encode(), root, target.encode(), RENAME_NOREPLACE)
    if result == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EEXIST:
        return False
    raise OSError(number, os.strerror(number))
