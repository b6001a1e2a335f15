"""What every way of keeping homes has in common: we run as root beside directories that users control.

So the root is opened once and everything is named relative to it, no link is followed, owners are changed through the
descriptor of what was just made, nothing that exists is replaced, and nothing walks into a home. All of it blocks, and
is called in a thread.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

import structlog

from ..errors import HomeUnavailable
from .base import DiskSpace

log = structlog.get_logger(__name__)

HOME_MODE = 0o700
USERNAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
RENAME_NOREPLACE = 1  # renameat2(2)
ASK_YOUR_ADMINISTRATOR = "so it is not used. Please tell your administrator."
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
WHY = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "is not a directory",
    errno.EACCES: "is not writable",
    errno.EPERM: "is not writable",
    errno.EROFS: "is on a read-only file system",
    errno.ENOSPC: "is on a full disk",
    errno.EDQUOT: "has used up its quota",
}
_libc = ctypes.CDLL(None, use_errno=True)


def unusable(root: Path, why: str) -> HomeUnavailable:
    return HomeUnavailable(f"Home folders cannot be created: {root} {why} (setting homes.root).")


def unusable_for(root: Path, error: OSError) -> HomeUnavailable:
    """The error to raise for what the system said of the root."""
    log.error("home.root_unusable", root=str(root), error=str(error))
    return unusable(root, WHY.get(error.errno or 0, "cannot be used"))


def home_path(root: Path, username: str) -> Path:
    """Where the home is or would be.

    Raises:
        HomeUnavailable: the name cannot be one of ours, whoever made it.
    """
    if not USERNAME.fullmatch(username):
        raise HomeUnavailable(f"“{username[:40]}” cannot be the name of a home folder.")
    return root / username


def name_beside(username: str) -> str:
    """A name, which no home can have, for a home that is being made."""
    return f".{username}.{secrets.token_hex(4)}"


def open_root(root: Path) -> int:
    """A descriptor of the root; the caller closes it. The root itself may be a link: it is the administrator's.

    Raises:
        HomeUnavailable: it is missing or no directory.
    """
    try:
        return os.open(root, DIRECTORY)
    except OSError as error:
        raise unusable_for(root, error) from error


def open_home(root: int, path: Path, uid: int | None) -> int | None:
    """A descriptor of an existing home, for the caller to close; None where its name is free.

    Args:
        root: the opened root.
        path: where the home is; only its last part is looked up.
        uid: who has to own it; None: anybody.

    Raises:
        HomeUnavailable: something else has its name, or it is somebody else's; it is left untouched.
    """
    try:
        home = os.open(path.name, DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):  # a file, a link
            log.error("home.not_a_directory", home=str(path))
            text = f"Your home folder is not a directory on the server, {ASK_YOUR_ADMINISTRATOR}"
            raise HomeUnavailable(text) from None
        raise unusable_for(path.parent, error) from error
    owner = os.fstat(home).st_uid
    if uid is not None and owner != uid:
        os.close(home)
        log.error("home.foreign_owner", home=str(path), owner=owner, expected=uid)
        raise HomeUnavailable(f"Your home folder belongs to another user on the server, {ASK_YOUR_ADMINISTRATOR}")
    return home


def free_bytes(home: int) -> int:
    """What the file system has left for whoever is not root, whom the reserve does not help; 0 without inodes, too."""
    disk = os.fstatvfs(home)
    return 0 if disk.f_files and not disk.f_favail else disk.f_bavail * disk.f_frsize


def disk(root: Path) -> DiskSpace:
    """The file system of the root.

    Raises:
        HomeUnavailable: it cannot be told.
    """
    opened = open_root(root)
    try:
        found = os.fstatvfs(opened)
    except OSError as error:
        raise unusable_for(root, error) from error
    finally:
        os.close(opened)
    used = found.f_blocks - found.f_bfree
    return DiskSpace(*(blocks * found.f_frsize for blocks in (used + found.f_bavail, used, found.f_bavail)))


def owners(root: Path) -> set[int]:
    """The uids of whoever owns something directly below the root; none where there is no root yet.

    Raises:
        HomeUnavailable: the root cannot be read.
    """
    found = set()
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # gone since it was listed
                    found.add(entry.stat(follow_symlinks=False).st_uid)
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise unusable_for(root, error) from error
    return found


def open_new(root: int, name: str) -> int:
    """A descriptor of the directory that was just made under `name`."""
    return os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=root)


def give_to(home: int, uid: int) -> None:
    """Makes a new, empty home its user's alone."""
    os.fchown(home, uid, uid)
    os.fchmod(home, HOME_MODE)


def remove_empty(root: int, name: str) -> None:
    """Takes away what was begun and not finished; with something in it, it stays."""
    try:
        os.rmdir(name, dir_fd=root)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("home.leftover", name=name, error=str(error))


def try_root(root: Path) -> None:
    """Makes and removes a directory.

    Raises:
        HomeUnavailable: it does not work.
    """
    descriptor = open_root(root)
    name = name_beside("probe")
    try:
        os.mkdir(name, HOME_MODE, dir_fd=descriptor)
        os.rmdir(name, dir_fd=descriptor)
    except OSError as error:
        raise unusable_for(root, error) from error
    finally:
        os.close(descriptor)


def move_if_free(root: int, source: str, target: str) -> bool:
    """Renames within `root`; False when the target exists, which is then left as it is.

    Raises:
        OSError: it cannot be renamed.
    """
    number = _rename_without_replacing(root, source, target)
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return _move_under_lock(root, source, target)  # such as NFS
    if number == errno.EEXIST:
        return False
    if number:
        raise OSError(number, os.strerror(number))
    return True


def _rename_without_replacing(root: int, source: str, target: str) -> int:
    """0, or the number of the error."""
    result: int = _libc.renameat2(root, source.encode(), root, target.encode(), RENAME_NOREPLACE)
    return 0 if result == 0 else ctypes.get_errno()


def _move_under_lock(root: int, source: str, target: str) -> bool:
    """For file systems that know plain renames only, which would replace an empty directory.

    Only we write in the root, so a lock among ourselves is enough. It is given back at once: who holds it may need a
    thread for the next step, and all threads may be waiting for it.
    """
    fcntl.flock(root, fcntl.LOCK_EX)
    try:
        os.stat(target, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(source, target, src_dir_fd=root, dst_dir_fd=root)
        return True
    else:
        return False
    finally:
        fcntl.flock(root, fcntl.LOCK_UN)
