"""Goes through a home in the order of names and tells of everything in it, for `pack` and `compare` alike."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from ..fileworker.beneath import FOLDER, Beneath
from ..fileworker.tree import Step, Walk
from .manifest import TOP, Record, record_of, xattrs_of
from .tar import MOST_SEGMENTS

# Not waiting: a FIFO that was put in a file's place meanwhile holds nobody up.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
BLOCK_BYTES = 512  # the unit of st_blocks
LONGEST_PATH = 2 * 1024 * 1024
EXAMPLES = 5
TOLD_CHARACTERS = 200


@dataclass(frozen=True)
class Found:
    """`file`: opened, of a regular one that comes with its content; else -1. Whoever iterates closes it."""

    record: Record
    file: int = -1


class Scan:
    """Iterate over it once. Raises OSError (ESTALE) where a folder is moved away meanwhile.

    What is not told of is counted in `left`, by kind:
        "socket", "device": without content; whatever made them makes them again.
        "elsewhere": another file system, mounted there.
        "foreign": a file of somebody else's with further names. It may be no part of the home but its name, and nobody
            may get somebody else's content by a name.
        "unreadable": it cannot be opened, or is damaged.
        "deep": its path is longer than anybody means.

    Args:
        top: the opened home.
        uid: its owner.
    """

    def __init__(self, top: int, uid: int) -> None:
        # Opened anew: btrfs lists what there was when a folder was opened, and this one may have been empty then.
        self._top = os.open(".", FOLDER, dir_fd=top)
        self._uid = uid
        self._names_of: dict[tuple[int, int], tuple[str, int]] = {}  # of several: the first, how many are to come
        self.left: Counter[str] = Counter()
        self.examples: list[str] = []
        self.vanished = 0

    def __iter__(self) -> Iterator[Found]:
        yield Found(record_of(TOP, "folder", os.fstat(self._top), xattrs=xattrs_of(self._top)))
        for step in Walk(Beneath(self._top), self._top, ordered=True):
            if step.kind == "up":
                continue
            path = "/".join((*step.names, step.name) if step.name else step.names)
            if step.kind == "closed":
                is_elsewhere = step.trouble is not None and step.trouble.errno == errno.EXDEV
                self.leave("elsewhere" if is_elsewhere else "unreadable", path)
            elif len(path) > LONGEST_PATH:
                self.leave("deep", path)
            elif step.kind == "down":
                yield Found(record_of(path, "folder", os.fstat(step.inside), xattrs=xattrs_of(step.inside)))
            else:
                with suppress(FileNotFoundError):
                    found = self._entry(step, path)
                    if found is not None:
                        yield found
                    continue
                self.vanished += 1

    def leave(self, why: str, path: str) -> None:
        self.left[why] += 1
        if len(self.examples) < EXAMPLES:
            told = os.fsencode(path).decode("utf-8", "replace")
            self.examples.append(told[-TOLD_CHARACTERS:])

    def _entry(self, step: Step, path: str) -> Found | None:
        try:
            status = os.stat(step.name, dir_fd=step.folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                return Found(record_of(path, "link", status, link=os.readlink(step.name, dir_fd=step.folder)))
            if stat.S_ISFIFO(status.st_mode):
                return Found(record_of(path, "fifo", status))
            if stat.S_ISREG(status.st_mode):
                return self._file(step, path)
        except FileNotFoundError:
            raise
        except OSError:
            self.leave("unreadable", path)
            return None
        self.leave("socket" if stat.S_ISSOCK(status.st_mode) else "device", path)
        return None

    def _file(self, step: Step, path: str) -> Found | None:
        file = os.open(step.name, READ, dir_fd=step.folder)
        handed_on = False
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "it has become something else")
            if status.st_nlink > 1 and status.st_uid != self._uid:
                self.leave("foreign", path)
                return None
            first = self._first_name(status, path)
            if first is not None:
                return Found(record_of(path, "hard-link", status, link=first))
            segments = segments_of(file, status)
            handed_on = True
            record = record_of(path, "file", status, size=status.st_size, xattrs=xattrs_of(file), segments=segments)
            return Found(record, file)
        finally:
            if not handed_on:
                os.close(file)

    def _first_name(self, status: os.stat_result, path: str) -> str | None:
        """What a file was told of under, where it has been; forgotten with its last name."""
        if status.st_nlink == 1:
            return None
        ident = (status.st_dev, status.st_ino)
        known = self._names_of.get(ident)
        if known is None:
            self._names_of[ident] = (path, status.st_nlink - 1)
            return None
        first, to_come = known
        if to_come > 1:
            self._names_of[ident] = (first, to_come - 1)
        else:
            del self._names_of[ident]
        return first


def segments_of(file: int, status: os.stat_result) -> list[tuple[int, int]] | None:
    """Where a file has content, as offsets and lengths; None: everywhere.

    Of a file with very many holes the smallest ones count as content, so that no list grows beyond bounds.
    """
    size = status.st_size
    if status.st_blocks * BLOCK_BYTES >= size:
        return None
    found: list[tuple[int, int]] = []
    at, smallest = 0, 1
    while at < size:
        try:
            begins = os.lseek(file, at, os.SEEK_DATA)
            ends = min(os.lseek(file, begins, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                break
            return None  # a file system that knows nothing of holes
        if begins >= size:
            break
        found.append((begins, ends - begins))
        if len(found) > MOST_SEGMENTS:
            smallest *= 16
            found = _joined(found, smallest * 4096)
        at = ends
    os.lseek(file, 0, os.SEEK_SET)
    return None if found == [(0, size)] else found


def _joined(segments: list[tuple[int, int]], hole: int) -> list[tuple[int, int]]:
    """Without holes that are smaller than `hole`."""
    found = segments[:1]
    for at, length in segments[1:]:
        begins, before = found[-1]
        if at - (begins + before) < hole:
            found[-1] = (begins, at + length - begins)
        else:
            found.append((at, length))
    return found
