"""Opens what lies below a directory, and nothing else, whatever the links on the way say and whoever changes them.

The kernel does it (openat2 with RESOLVE_BENEATH). Where that call is missing or forbidden (older kernels, systemd's
RestrictSUIDSGID), the same is done here by descriptors, one name at a time and never following a link: links on the way
are read and walked like the rest of the path, and `..` in them goes back to a descriptor that is still open.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections import deque

from ...errors import InvalidInput, NotFound

SYS_OPENAT2 = 437  # on every architecture
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH = 0x01, 0x02, 0x08  # openat2(2)
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC  # a folder to name things in; not to be listed
MOST_LINKS = 40
MOST_NAMES = 4000
PATH_BYTES = 3900  # of one call; Linux takes 4096
NAME_BYTES = 255
TRIES = 8  # of a call that a rename came in the way of

_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def names_of(path: object) -> list[str]:
    """A path below the home as its names; a leading slash means the home itself.

    Raises:
        NotFound: it goes upwards.
        InvalidInput: it is no path.
    """
    if not isinstance(path, str) or "\0" in path:
        raise InvalidInput("This is not a path.")
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        raise NotFound("Nothing outside of your home folder can be reached here.")
    if len(names) > MOST_NAMES:
        raise InvalidInput("This path is too long.")
    try:
        longest = max((len(os.fsencode(name)) for name in names), default=0)
    except UnicodeEncodeError:  # half a character, which stands for no byte
        raise InvalidInput("This is not a path.") from None
    if longest > NAME_BYTES:
        raise InvalidInput("A name can have 255 bytes at most.")
    return names


class Beneath:
    """Args:
    root: the opened directory.
    with_openat2: as long as the kernel has it.
    """

    def __init__(self, root: int, *, with_openat2: bool = True) -> None:
        self.root = root
        self._with_openat2 = with_openat2

    def open(self, names: list[str], flags: int, mode: int = 0) -> int:
        """A descriptor, for the caller to close. Links on the way are followed below the root; the last name, too,
        unless `flags` say O_NOFOLLOW.

        Raises:
            OSError: as open(2); EXDEV where a link leads out.
        """
        if self._with_openat2:
            try:
                return self._by_kernel(names, flags | os.O_CLOEXEC, mode)
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.EPERM):
                    raise
                if error.errno == errno.ENOSYS:
                    self._with_openat2 = False
        return self._by_hand(names, flags | os.O_CLOEXEC, mode)

    def child(self, folder: int, name: str) -> int:
        """An opened folder of another one, to be walked; no link, and of the same mounted file system.

        Raises:
            OSError: as open(2); EXDEV for another file system.
        """
        flags = FOLDER | os.O_NOFOLLOW
        if self._with_openat2:
            try:
                return _openat2(folder, os.fsencode(name), flags, 0, RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS)
            except OSError as error:
                if error.errno != errno.ENOSYS:
                    raise
                self._with_openat2 = False
        inner = os.open(name, flags, dir_fd=folder)
        if os.fstat(inner).st_dev != os.fstat(folder).st_dev:
            os.close(inner)
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return inner

    def _by_kernel(self, names: list[str], flags: int, mode: int) -> int:
        """Long paths in several calls; each begins beneath what the one before it came to."""
        at, held = self.root, -1
        resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
        rest = [os.fsencode(name) for name in names]
        try:
            while sum(map(len, rest)) + len(rest) > PATH_BYTES:
                some: list[bytes] = []
                while rest and sum(map(len, some)) + len(some) < PATH_BYTES - NAME_BYTES:
                    some.append(rest.pop(0))
                inner = _openat2(at, b"/".join(some), PLACE, 0, resolve)
                if held >= 0:
                    os.close(held)
                at = held = inner
            return _openat2(at, b"/".join(rest) or b".", flags, mode, resolve)
        finally:
            if held >= 0:
                os.close(held)

    def _by_hand(self, names: list[str], flags: int, mode: int) -> int:
        way = [os.dup(self.root)]
        rest = deque(names)
        links = 0
        try:
            if not rest:
                return os.open(".", flags, dir_fd=way[0])
            while True:
                name = rest.popleft()
                if name == "..":  # of a link
                    if len(way) == 1:
                        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
                    os.close(way.pop())
                    if not rest:
                        return os.open(".", flags & ~(os.O_CREAT | os.O_EXCL), dir_fd=way[-1])
                    continue
                is_last = not rest
                target = None if is_last and flags & os.O_NOFOLLOW else _link_target(name, way[-1])
                if target is not None:
                    links += 1
                    if target.startswith("/"):
                        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
                    if links > MOST_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    parts = [part for part in target.split("/") if part not in ("", ".")]
                    rest.extendleft(reversed(parts))
                    if not rest:
                        return os.open(".", flags & ~(os.O_CREAT | os.O_EXCL), dir_fd=way[-1])
                    continue
                if is_last:
                    return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=way[-1])
                way.append(os.open(name, PLACE | os.O_NOFOLLOW, dir_fd=way[-1]))
        finally:
            for descriptor in way:
                os.close(descriptor)


def _openat2(folder: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    how = _How(flags, mode, resolve)
    for _ in range(TRIES):
        result: int = _libc.syscall(SYS_OPENAT2, folder, path, ctypes.byref(how), ctypes.sizeof(how))
        if result >= 0:
            return result
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):  # EAGAIN: something on the way was renamed just now
            break
    raise OSError(number, os.strerror(number))


def _link_target(name: str, folder: int) -> str | None:
    """Where a link leads; None: it is none, or is still to be made."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def is_regular(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode)
