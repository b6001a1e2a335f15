"""Writes into a home what it does not have yet, as the home's user."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .line import HOLE, LENGTH, Line

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
PART = ".launchpad-import.part"  # a file that is being written; a name no file is finished under
REPORT_SECONDS = 0.2
EXAMPLES = 5
NO_ROOM = "no-room"
FULL = (errno.ENOSPC, errno.EDQUOT)


class Taker:
    """Takes what the home does not have yet; with `only_count`, only says how much that is.

    Args:
        home: the opened home; None: there is none yet.
        report: is told how far it is.
    """

    def __init__(
        self, line: Line, home: int | None, *, only_count: bool, report: Callable[[dict[str, Any]], None]
    ) -> None:
        self._line = line
        self._only_count = only_count
        self._report = report
        self._told_at = 0.0
        self._way: list[int | None] = [home]  # None: a folder that would be made
        self._made: list[bool] = [False]
        self._names: list[str] = []
        self._taken: dict[int, tuple[str, ...]] = {}  # where files of several names went
        self.counts = {"files": 0, "bytes": 0, "kept": 0, "failed": 0}
        self._examples: list[str] = []

    def take(self) -> None:
        said: dict[str, Any] = {}
        try:
            while (offered := self._line.hear())["kind"] != "end":
                self._one(offered)
                if time.monotonic() - self._told_at > REPORT_SECONDS:
                    self._told_at = time.monotonic()
                    self._report(self.counts)
            said = {"done": True, "left": offered["left"], "examples": [*offered["examples"], *self._examples]}
        except EOFError:
            said = {"done": False, "examples": self._examples}
        except OSError as error:
            if error.errno not in FULL:
                raise
            said = {"done": False, "stopped": NO_ROOM, "examples": self._examples}
        self._report({**self.counts, **said})

    def _one(self, offered: dict[str, Any]) -> None:
        kind, name = offered["kind"], offered.get("name", "")
        if kind == "leave":
            self._leave(offered)
            return
        if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
            raise EOFError("that is no name")
        try:
            if kind == "folder":
                self._folder(name)
            elif kind == "link":
                self._link(name, offered)
            elif kind == "file":
                self._file(name, offered)
            else:
                raise EOFError("that is no kind")
        except OSError as error:
            if error.errno in FULL:
                raise
            self._fail(name)
            self._line.answer(False)

    def _folder(self, name: str) -> None:
        here = self._way[-1]
        inner: int | None = None
        made = False
        if here is not None:
            try:
                inner = os.open(name, FOLDER, dir_fd=here)
            except FileNotFoundError:
                made = True
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):  # a file of that name, or a link
                    raise
                self.counts["kept"] += 1
                self._line.answer(False)
                return
            if made and not self._only_count:
                os.mkdir(name, 0o700, dir_fd=here)
                inner = os.open(name, FOLDER, dir_fd=here)
        self._way.append(inner)
        self._made.append(made and not self._only_count)
        self._names.append(name)
        self._line.answer(True)

    def _leave(self, offered: dict[str, Any]) -> None:
        folder, made = self._way.pop(), self._made.pop()
        self._names.pop()
        if folder is None:
            return
        if made:
            with suppress(OSError):
                os.utime(folder, ns=(offered["mtime_ns"],) * 2)
                os.fchmod(folder, offered["mode"] & 0o777)
        os.close(folder)

    def _link(self, name: str, offered: dict[str, Any]) -> None:
        if not self._is_free(name):
            self.counts["kept"] += 1
        else:
            here = self._way[-1]
            if not self._only_count and here is not None:
                os.symlink(offered["target"], name, dir_fd=here)
                os.utime(name, ns=(offered["mtime_ns"],) * 2, dir_fd=here, follow_symlinks=False)
            self.counts["files"] += 1
        self._line.answer(False)

    def _file(self, name: str, offered: dict[str, Any]) -> None:
        here = self._way[-1]
        if not self._is_free(name):
            self.counts["kept"] += 1
            self._line.answer(False)
            return
        known = self._taken.get(offered["same_as"]) if offered["same_as"] is not None else None
        if self._only_count or here is None:
            self.counts["files"] += 1
            self.counts["bytes"] += 0 if known else offered["stored"]
            self._remember(offered, name)
            self._line.answer(False)
            return
        if known and self._link_to(known, here, name):
            self.counts["files"] += 1
            self._line.answer(False)
            return
        self._receive(here, name, offered)

    def _receive(self, here: int, name: str, offered: dict[str, Any]) -> None:
        """Writes it under another name, and gives it its own when it is whole: what breaks off leaves no half file."""
        with suppress(FileNotFoundError):
            os.unlink(PART, dir_fd=here)
        file = os.open(PART, WRITE, 0o600, dir_fd=here)
        try:
            self._line.answer(True)  # from here on no other answer is awaited, whatever goes wrong
            try:
                if self._write_all(file):
                    os.fchmod(file, offered["mode"] & 0o777)
                    os.utime(file, ns=(offered["mtime_ns"],) * 2)
                    os.link(PART, name, src_dir_fd=here, dst_dir_fd=here, follow_symlinks=False)
                    self.counts["files"] += 1
                    self.counts["bytes"] += offered["stored"]
                    self._remember(offered, name)
            finally:
                os.close(file)
                with suppress(FileNotFoundError):  # its user may have tidied up
                    os.unlink(PART, dir_fd=here)
        except FileExistsError:  # its user was quicker
            self.counts["kept"] += 1
        except OSError as error:
            if error.errno in FULL:
                raise
            self._fail(name)

    def _write_all(self, file: int) -> bool:
        """Whether all of it came. Hears it to its end, whatever becomes of it, unless there is no room."""
        trouble: OSError | None = None
        size = 0
        while part := self._line.receive():
            try:
                size += self._write(file, part) if trouble is None else 0
            except OSError as error:
                if error.errno in FULL:
                    raise
                trouble = error
        whole = bool(self._line.hear()["whole"])
        if trouble is not None:
            raise trouble
        os.ftruncate(file, size)  # a hole at the end
        return whole

    def _write(self, file: int, part: bytes) -> int:
        """How much longer the file becomes by a part of it."""
        kind, content = part[:1], memoryview(part)[1:]
        length = LENGTH.unpack(content)[0] if kind == HOLE else len(content)
        if kind == HOLE or part.count(0) == length:  # a hole stays one
            os.lseek(file, length, os.SEEK_CUR)
            return int(length)
        while content:
            content = content[os.write(file, content) :]
        return int(length)

    def _remember(self, offered: dict[str, Any], name: str) -> None:
        if offered["number"] is not None:
            self._taken[offered["number"]] = (*self._names, name)

    def _link_to(self, known: tuple[str, ...], here: int, name: str) -> bool:
        """Gives a file that was taken before one more name; False where it is not there any more."""
        *folders, last = known
        at = os.dup(self._way[0] or 0)
        try:
            for folder in folders:
                inner = os.open(folder, FOLDER, dir_fd=at)
                os.close(at)
                at = inner
            os.link(last, name, src_dir_fd=at, dst_dir_fd=here, follow_symlinks=False)
        except OSError:
            return False
        else:
            return True
        finally:
            os.close(at)

    def _is_free(self, name: str) -> bool:
        here = self._way[-1]
        if here is None:
            return True
        try:
            os.stat(name, dir_fd=here, follow_symlinks=False)
        except FileNotFoundError:
            return True
        return False

    def _fail(self, name: str) -> None:
        self.counts["failed"] += 1
        if len(self._examples) < EXAMPLES:
            self._examples.append("/".join((*self._names, name))[-200:])
