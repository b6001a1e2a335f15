"""Offers what lies in a folder, entry by entry."""

from __future__ import annotations

import errno
import os
import stat

from .line import DATA, HOLE, LENGTH, PIECE, Line

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not waiting: a FIFO that was put in a file's place meanwhile holds nobody up.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
DEEPEST = 400  # folders within folders: each keeps a descriptor open on both sides
EXAMPLES = 5


class Giver:
    """Offers what lies in a folder."""

    def __init__(self, line: Line, root: int) -> None:
        self._line = line
        self._root = root
        self._device = os.fstat(root).st_dev
        self._seen: dict[tuple[int, int], int] = {}  # files of several names, with the number they were offered under
        self._left: dict[str, int] = {}
        self._examples: list[str] = []

    def give(self) -> None:
        # Folders that are open, each with its path and the names that are still to be offered.
        way: list[tuple[int, str, list[str]]] = [(self._root, "", self._names(self._root, ""))]
        while way:
            folder, path, names = way[-1]
            if not names:
                way.pop()
                if way:
                    state = os.fstat(folder)
                    os.close(folder)
                    self._line.say(kind="leave", mode=stat.S_IMODE(state.st_mode), mtime_ns=state.st_mtime_ns)
                continue
            name = names.pop()
            inner = self._offer(folder, name, f"{path}{name}", deepest=len(way) > DEEPEST)
            if inner is not None:
                way.append((inner, f"{path}{name}/", self._names(inner, f"{path}{name}/")))
        self._line.say(kind="end", left=self._left, examples=self._examples)

    def _offer(self, folder: int, name: str, path: str, *, deepest: bool) -> int | None:
        """The opened folder to go down into, where it is one that is wanted."""
        try:
            state = os.stat(name, dir_fd=folder, follow_symlinks=False)
            kind = stat.S_IFMT(state.st_mode)
            if kind == stat.S_IFLNK:
                target = os.readlink(name, dir_fd=folder)
                self._line.asked(kind="link", name=name, target=target, mtime_ns=state.st_mtime_ns)
            elif kind not in (stat.S_IFDIR, stat.S_IFREG):
                self._leave("special", path)
            elif state.st_dev != self._device:
                self._leave("elsewhere", path)  # another file system, mounted here
            elif kind == stat.S_IFREG:
                self._offer_file(folder, name, path, state)
            elif deepest:
                self._leave("deep", path)
            else:
                inner = os.open(name, FOLDER, dir_fd=folder)
                if self._line.asked(kind="folder", name=name):
                    return inner
                os.close(inner)
        except OSError:
            self._leave("unreadable", path)
        return None

    def _offer_file(self, folder: int, name: str, path: str, state: os.stat_result) -> None:
        file = os.open(name, READ, dir_fd=folder)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError("it has become something else")
            number = self._seen.get((state.st_dev, state.st_ino)) if state.st_nlink > 1 else None
            own = len(self._seen) if number is None and state.st_nlink > 1 else None
            if own is not None:
                self._seen[state.st_dev, state.st_ino] = own
            wanted = self._line.asked(
                kind="file",
                name=name,
                mode=stat.S_IMODE(state.st_mode),
                mtime_ns=state.st_mtime_ns,
                size=state.st_size,
                stored=min(state.st_size, state.st_blocks * 512),
                number=own,
                same_as=number,
            )
            if wanted and not self._send(file):
                self._leave("unreadable", path)
        finally:
            os.close(file)

    def _send(self, file: int) -> bool:
        """The content in parts, an empty one at its end, and whether that was all of it.

        Holes are told and not read: a file that takes nothing on the disk may be many terabytes long.
        """
        whole = True
        at = until = 0  # up to where it was sent, and up to where no hole comes
        while True:
            try:
                if at >= until:
                    begins, until = _next_data(file, at)
                    if begins > at:
                        self._line.send(HOLE + LENGTH.pack(begins - at))
                    at = os.lseek(file, begins, os.SEEK_SET)
                piece = os.read(file, min(PIECE, until - at))
            except OSError:
                piece, whole = b"", False
            if not piece:
                break
            self._line.send(DATA + piece)
            at += len(piece)
        self._line.send(b"")
        self._line.say(whole=whole)
        return whole

    def _names(self, folder: int, path: str) -> list[str]:
        try:
            return sorted(os.listdir(folder), reverse=True)
        except OSError:
            self._leave("unreadable", path)
            return []

    def _leave(self, why: str, path: str) -> None:
        self._left[why] = self._left.get(why, 0) + 1
        if len(self._examples) < EXAMPLES:
            self._examples.append(path[-200:])


def _next_data(file: int, at: int) -> tuple[int, int]:
    """From where to where there is data at or behind `at`; twice the file's end where there is none any more."""
    try:
        begins = os.lseek(file, at, os.SEEK_DATA)
        return begins, os.lseek(file, begins, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            end = max(at, os.fstat(file).st_size)
            return end, end
        if error.errno != errno.EINVAL:
            raise
        return at, at + PIECE  # a file system that knows nothing of holes
