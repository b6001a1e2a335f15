"""A file or folder of the home by itself, for those whom its owner lets read it: nothing beside it has a name.

No link on the way to it is followed, nor the thing itself if it is one: whatever is put in its place later, it is that
very path or nothing. Links inside a shared folder are followed as far as they stay inside (RESOLVE_BENEATH).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...errors import InvalidInput, NotFound
from .beneath import names_of
from .home import Home, entry_of
from .line import Line

OF_FOLDERS = ("list", "stat", "search", "read", "archive", "preview")
OF_FILES = ("stat", "read", "preview")
GONE = "This does not exist any more."


@contextmanager
def opened(home: Home, within: object, kind: object) -> Iterator[Home]:
    """What is shared, as a home of its own.

    Raises:
        NotFound: there is nothing of that kind.
        OSError: as open(2); ENOTDIR and ELOOP where there is a link on the way.
    """
    names = names_of(within)
    if not names or kind not in ("file", "folder"):
        raise NotFound(GONE)
    at = os.dup(home.root)
    try:
        for name in names[:-1]:
            inner = home.beneath.child(at, name)
            os.close(at)
            at = inner
        status = os.stat(names[-1], dir_fd=at, follow_symlinks=False)
        if kind == "folder" and stat.S_ISDIR(status.st_mode):
            inner = home.beneath.child(at, names[-1])
            try:
                yield Home(inner, home.line)
            finally:
                os.close(inner)
        elif kind == "file" and stat.S_ISREG(status.st_mode):
            yield OneFile(at, names[-1], home.line)
        else:
            raise NotFound(GONE)
    finally:
        os.close(at)


class OneFile(Home):
    """A file as if it were alone in the world: its path is the empty one.

    Args:
        folder: the opened folder that it lies in.
    """

    def __init__(self, folder: int, name: str, line: Line) -> None:
        super().__init__(folder, line)
        self.name = name

    @contextmanager
    def opened(self, path: object, flags: int) -> Iterator[int]:
        """The file itself, and no link in its place."""
        if names_of(path):
            raise NotFound(GONE)
        descriptor = os.open(self.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.root)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def tell(self) -> None:
        """Says what it is."""
        self.line.say(entry=entry_of(self.root, self.name))


def tell_kind(home: Home, request: dict[str, Any]) -> None:
    """What could be shared under that path: a file or a folder of the home that no link leads to."""
    names = names_of(request.get("path"))
    if not names:
        raise InvalidInput("The home folder itself cannot be shared. Share a folder in it.")
    at = os.dup(home.root)
    try:
        for name in names[:-1]:
            inner = home.beneath.child(at, name)
            os.close(at)
            at = inner
        home.line.say(entry=entry_of(at, names[-1]))
    finally:
        os.close(at)
