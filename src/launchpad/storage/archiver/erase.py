"""Removes all that lies in a folder which has lost its name already, so that nobody comes by it any more."""

from __future__ import annotations

import os

from ..fileworker.beneath import Beneath
from .reporting import Reporter

BATCH = 1000  # names that are held at a time
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def erase(top: int, reporter: Reporter) -> None:
    """All that can be removed. One folder is open at a time; `..` is checked to be where it was come from.

    Raises:
        OSError: something cannot be removed.
    """
    beneath, here = Beneath(top), os.open(".", FOLDER, dir_fd=top)
    way: list[tuple[str, tuple[int, int]]] = []  # the folders on the way: their names in those above, and who these are
    try:
        while True:
            inner = _emptied(here, beneath, reporter)
            if inner is not None:
                name, descriptor = inner
                way.append((name, _ident(here)))
                os.close(here)
                here = descriptor
                continue
            if not way:
                return
            name, ident = way.pop()
            above = os.open("..", FOLDER, dir_fd=here)
            os.close(here)
            here = above
            if _ident(here) != ident:
                raise OSError("a folder was moved while it was removed")
            os.rmdir(name, dir_fd=here)
            reporter.tick(files=1)
    finally:
        os.close(here)


def _emptied(folder: int, beneath: Beneath, reporter: Reporter) -> tuple[str, int] | None:
    """Removes what is no folder; the first folder that is there, opened; None: it is empty now."""
    while True:
        with os.scandir(folder) as entries:
            found = [
                (entry.name, entry.is_dir(follow_symlinks=False))
                for _, entry in zip(range(BATCH), entries, strict=False)
            ]
        if not found:
            return None
        for name, is_folder in found:
            if is_folder:
                return name, beneath.child(folder, name)  # of the same file system, or it is refused
            os.unlink(name, dir_fd=folder)
            reporter.tick(files=1)


def _ident(folder: int) -> tuple[int, int]:
    status = os.fstat(folder)
    return status.st_dev, status.st_ino
