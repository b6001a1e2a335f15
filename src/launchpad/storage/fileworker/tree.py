"""Walks a folder and all that is in it with a bounded number of descriptors, however deep it is."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .beneath import FOLDER, Beneath

WINDOW = 64  # folders that are kept open on the way down; others are opened again on the way up
Ident = tuple[int, int]


def ident_of(descriptor: int) -> Ident:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


@dataclass
class Step:
    """What a walk comes to.

    Attributes:
        kind: "entry": no folder; "down": a folder that is entered, opened as `inside`; "up": one that is left, with all
            of its own behind; "closed": a folder that cannot be entered, for the reason in `trouble`.
        folder: the opened folder that it lies in.
        names: of the folders from the top to `folder`; changes as the walk goes on.
    """

    kind: str
    folder: int
    name: str
    names: Sequence[str]
    inside: int = -1
    trouble: OSError | None = None


@dataclass
class _Level:
    name: str
    descriptor: int
    ident: Ident
    left: list[tuple[str, bool]] = field(default_factory=list)  # what is still to come, the next one last


class Walk:
    """Goes depth first through what lies in `top`; iterate over it once.

    A folder that is moved away meanwhile ends the walk with an OSError (ESTALE): it is nowhere followed.

    Args:
        top: the opened folder; it stays open.
        ordered: in the order of names, rather than the disk's.
        after: the names of what an ordered walk came to last, to go on behind it.
        skipped: a folder that is not entered.
    """

    def __init__(
        self,
        beneath: Beneath,
        top: int,
        *,
        ordered: bool = False,
        after: Sequence[str] = (),
        skipped: Ident | None = None,
        window: int = WINDOW,
    ) -> None:
        self._beneath = beneath
        self._ordered = ordered
        self._after = list(after)
        self._skipped = skipped
        self._window = max(window, 2)
        self._way = [_Level("", os.dup(top), ident_of(top))]
        self._names: list[str] = []

    def __iter__(self) -> Iterator[Step]:
        try:
            yield from self._walked()
        finally:
            for level in self._way:
                if level.descriptor >= 0:
                    os.close(level.descriptor)
            self._way = []

    def _walked(self) -> Iterator[Step]:
        self._list(self._way[0], self._after)
        while True:
            here = self._way[-1]
            if not here.left:
                if len(self._way) == 1:
                    return
                self._way.pop()
                os.close(here.descriptor)
                self._names.pop()
                yield Step("up", self._opened(), here.name, self._names)
                continue
            name, is_folder = here.left.pop()
            if not is_folder:
                yield Step("entry", here.descriptor, name, self._names)
                continue
            try:
                inside = self._beneath.child(here.descriptor, name)
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP):  # it is none any more
                    yield Step("entry", here.descriptor, name, self._names)
                elif error.errno != errno.ENOENT:
                    yield Step("closed", here.descriptor, name, self._names, trouble=error)
                continue
            level = _Level(name, inside, ident_of(inside))
            if level.ident == self._skipped:
                os.close(inside)
                continue
            after = self._after[len(self._way) :] if self._is_on_the_way(name) else []
            self._way.append(level)  # before anybody is told, who may stop here
            yield Step("down", here.descriptor, name, self._names, inside)
            self._names.append(name)
            try:
                self._list(level, after)
            except OSError as error:
                # Entered, so it will be left as well; what lies in it cannot be told.
                yield Step("closed", inside, "", self._names, trouble=error)
            self._close_the_highest()

    def _is_on_the_way(self, name: str) -> bool:
        depth = len(self._way) - 1
        return depth < len(self._after) and [*self._names, name] == self._after[: depth + 1]

    def _list(self, level: _Level, after: Sequence[str]) -> None:
        with os.scandir(level.descriptor) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        if self._ordered:
            found.sort(reverse=True)
            if after:
                first, only = after[0], len(after) == 1
                # A folder that the walk was in is entered again; what was come to itself is not repeated.
                found = [one for one in found if one[0] > first or (one[0] == first and (not only or one[1]))]
        level.left = found

    def _close_the_highest(self) -> None:
        """The top stays open."""
        outside = len(self._way) - self._window
        if outside > 0 and self._way[outside].descriptor >= 0:
            os.close(self._way[outside].descriptor)
            self._way[outside].descriptor = -1

    def _opened(self) -> int:
        """The descriptor of the folder that the walk is in now; those above it are opened again with it."""
        here = self._way[-1]
        if here.descriptor < 0:
            at = os.dup(self._way[0].descriptor)
            keep_from = max(1, len(self._way) - self._window // 2)
            for number, level in enumerate(self._way[1:], 1):
                try:
                    inner = os.open(level.name, FOLDER | os.O_NOFOLLOW, dir_fd=at)
                finally:
                    if number <= keep_from:
                        os.close(at)  # of a level that is not kept open
                if ident_of(inner) != level.ident:
                    os.close(inner)
                    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
                at = inner
                if number >= keep_from:
                    level.descriptor = inner
        return here.descriptor
